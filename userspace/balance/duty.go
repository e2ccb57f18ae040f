package balance

import "fairlead/userspace/model"

// A Duty says which backends of a service get new flows, by their index, and
// whose flows may go on.
type Duty struct {
	Serving model.Serving
	// Weights are what the backends weigh by now; 0 is no new flow.
	Weights []int
	// Down says who counts as down.
	Down []bool
}

// DutyOf returns the duty of the backends of a service of which these are down,
// nil for none, with shares as of [Weights].
func DutyOf(s *model.Service, down []bool, shares []int) Duty {
	d := Duty{Weights: Weights(s.Backends, shares), Down: make([]bool, len(s.Backends))}
	copy(d.Down, down)
	serve := d.choose(s)
	for i := range s.Backends {
		if d.Down[i] || !serve(&s.Backends[i]) {
			d.Weights[i] = 0
		}
	}
	return d
}

// choose finds out who serves, and returns which backends are among them if they
// are not down.
func (d *Duty) choose(s *model.Service) func(*model.Backend) bool {
	first := func(b *model.Backend) bool { return !b.Backup }
	backup := func(b *model.Backend) bool { return b.Backup }
	if d.up(s, first) > 0 {
		d.Serving = model.ServingUp
		return first
	}
	d.Serving = model.ServingBackups
	if d.up(s, backup) == 0 {
		d.Serving = model.ServingNone
	}
	return backup
}

// up counts the backends of a kind that could get new flows.
func (d *Duty) up(s *model.Service, kind func(*model.Backend) bool) (n int) {
	for i := range s.Backends {
		if b := &s.Backends[i]; b.Weight > 0 && kind(b) && !d.Down[i] {
			n++
		}
	}
	return n
}
