package balance

import (
	"slices"

	"fairlead/userspace/model"
)

// A Duty says which backends of a service get new flows, by their index, and
// whose flows may go on.
type Duty struct {
	Serving model.Serving
	// Weights are what the backends weigh by now; 0 is no new flow.
	Weights []int
	// Down says who counts as down; in a panic that is none of those who serve.
	Down []bool
}

// Duties are those of a service's backends towards its clients: first those of
// no zone, then those of each of its ClientZones, in order.
type Duties []Duty

// DutiesOf returns the duties of the backends of a service of which these are
// down, nil for none, with shares as of [Weights].
func DutiesOf(s *model.Service, down []bool, shares []int) Duties {
	names := s.ClientZones.Names()
	all := make(Duties, 1, 1+len(names))
	all[0] = DutyOf(s, s.Zone, down, shares)
	for _, zone := range names {
		all = append(all, DutyOf(s, zone, down, shares))
	}
	return all
}

// Weight returns what the i-th backend weighs by now for anybody whom it serves.
func (all Duties) Weight(i int) (weight int) {
	for _, d := range all {
		weight = max(weight, d.Weights[i])
	}
	return weight
}

// Down reports whether the i-th backend counts as down, for everybody.
func (all Duties) Down(i int) bool {
	return !slices.ContainsFunc(all, func(d Duty) bool { return !d.Down[i] })
}

// Unsure reports whether the i-th backend is down, but not for all: those whose
// zone is in a panic may get it. Nobody should stay with it.
func (all Duties) Unsure(i int) bool {
	return !all.Down(i) && slices.ContainsFunc(all, func(d Duty) bool { return d.Down[i] })
}

// DutyOf returns the duty towards clients of a zone, which is where a balancer
// with no others is.
func DutyOf(s *model.Service, zone string, down []bool, shares []int) Duty {
	d := Duty{Weights: Weights(s.Backends, shares), Down: make([]bool, len(s.Backends))}
	copy(d.Down, down)
	serves := d.choose(s, zone)
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
func (d *Duty) choose(s *model.Service, zone string) func(*model.Backend) bool {
	first := func(b *model.Backend) bool { return !b.Backup }
	near := func(b *model.Backend) bool { return !b.Backup && b.Zone == zone }
	backup := func(b *model.Backend) bool { return b.Backup }
	if up, all := d.count(s, near); zone != "" && up > 0 && 100*up >= s.ZoneThreshold*all {
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
		if b := &s.Backends[i]; d.Weights[i] > 0 && kind(b) {
			all++
			if !d.Down[i] {
				up++
			}
		}
	}
	return up, all
}
