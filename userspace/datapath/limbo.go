package datapath

import (
	"maps"
	"slices"
)

// A limbo has what plans have freed until no packet on its way through the
// program can be reading it any more. Until then nobody gets any of it.
type limbo struct {
	leaving []freed // what the packets are waited for
	next    []freed // what was freed since that wait began
	// ended gets one element when the wait is over; nil: there is none.
	ended chan error
	stuck error // of the last wait: nothing was let go of
}

// freed is what one plan has freed. What others still name may be in it too.
type freed struct {
	services, backends map[uint32]bool // rows
	slots, snat        []span
}

func (f *freed) empty() bool {
	return len(f.services)+len(f.backends)+len(f.slots)+len(f.snat) == 0
}

// freedBy returns what p is about to free.
func (r *rows) freedBy(p *plan) freed {
	f := freed{services: map[uint32]bool{}, backends: map[uint32]bool{}}
	for _, s := range slices.Concat(p.services, p.endServices) {
		have := &r.services[s.row]
		for _, table := range [...]uint64{have.Slots, have.SlotsAll} {
			if t := tableSpan(table); t.n > 0 {
				f.slots = append(f.slots, t)
			}
		}
	}
	for _, b := range slices.Concat(p.backends, p.late, p.endBackends) {
		if s := sourceSpan(r.backends[b.row].Sources); s.n > 0 {
			f.snat = append(f.snat, s)
		}
	}
	for _, s := range p.endServices {
		f.services[s.row] = true
	}
	for _, b := range p.endBackends {
		f.backends[b.row] = true
	}
	return f
}

// settle lets go of what nobody reads any more and begins to wait, beside the
// caller, for what is left.
func (l *limbo) settle(wait func() error) {
	if l.ended != nil {
		select {
		case err := <-l.ended:
			if l.ended, l.stuck = nil, err; err == nil {
				l.leaving = nil
			}
		default:
			return
		}
	}
	l.leaving, l.next = append(l.leaving, l.next...), nil
	if len(l.leaving) > 0 {
		ended := make(chan error, 1)
		go func() { ended <- wait() }()
		l.ended = ended
	}
}

func (l *limbo) empty() bool { return len(l.leaving)+len(l.next) == 0 }

// all returns what is in l, which nobody may get.
func (l *limbo) all() freed {
	all := freed{services: map[uint32]bool{}, backends: map[uint32]bool{}}
	for _, f := range slices.Concat(l.leaving, l.next) {
		maps.Copy(all.services, f.services)
		maps.Copy(all.backends, f.backends)
		all.slots, all.snat = append(all.slots, f.slots...), append(all.snat, f.snat...)
	}
	return all
}
