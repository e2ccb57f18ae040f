package balance

import "fairlead/userspace/model"

// A Duty says which backends of a service get new flows, by their index, and
// whose flows may go on.
type Duty struct {
	Serving model.Serving
	// Weights are what the backends weigh by now; 0 is no new flow.
	Weights []int
	// Down says who counts as down; in a panic that is none of those who serve.
	Down []bool
}

// DutyOf returns the duty of the backends of a service of which these are down,
// nil for none, with shares as of [Weights].
func DutyOf(s *model.Service, down []bool, shares []int) Duty {
	d := Duty{Weights: Weights(s.Backends, shares), Down: make([]bool, len(s.Backends))}
	copy(d.Down, down)
	serves := d.choose(s)
	for i := range s.Backends {
		b := &s.Backends[i]
		if d.Serving == model.ServingPanic && serves(b) && b.Weight > 0 {
			d.Down[i] = false
		}
		if d.Down[i] || !serves(b) {
			d.Weights[i] = 0
		}
	}
	return d
}

// choose finds out who serves, and returns which backends are among them if they
// are not down.
func (d *Duty) choose(s *model.Service) func(*model.Backend) bool {
	first := func(b *model.Backend) bool { return !b.Backup }
	near := func(b *model.Backend) bool { return !b.Backup && b.Zone == s.Zone }
	backup := func(b *model.Backend) bool { return b.Backup }
	if up, all := d.count(s, near); s.Zone != "" && up > 0 && 100*up >= s.ZoneThreshold*all {
		d.Serving = model.ServingZone
		return near
	}
	if up, all := d.count(s, first); up > 0 {
		d.Serving = model.ServingUp
		if 100*up < s.PanicThreshold*all {
			d.Serving = model.ServingPanic
		}
		return first
	}
	d.Serving = model.ServingBackups
	if up, _ := d.count(s, backup); up == 0 {
		d.Serving = model.ServingNone
	}
	return backup
}

// count counts the backends of a kind that have a weight, and those of them that
// are up.
func (d *Duty) count(s *model.Service, kind func(*model.Backend) bool) (up, all int) {
	for i := range s.Backends {
		if b := &s.Backends[i]; b.Weight > 0 && kind(b) {
			all++
			if !d.Down[i] {
				up++
			}
		}
	}
	return up, all
}
