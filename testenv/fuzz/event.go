package fuzz

import (
	"fmt"
	"math/rand/v2"
	"os"

	"fairlead/loader"
	"fairlead/testenv/lbtest"
	m "fairlead/testenv/refmodel"
)

// newSample is of how many flows one is told of.
func newSample(r *rand.Rand) uint32 { return pick(r, []uint32{0, 0, 1, 1, 1, 2, 5}) }

// eventRing is the size of the ring of events, in bytes: the smallest there is, which is often full.
func eventRing() int { return os.Getpagesize() }

// listening are changes of who reads the events. Its random numbers are its own, so that
// packets are the same whatever is told of them.
func (g *generator) listening() (cs []change) {
	if oneIn(g.telling, 300) {
		cs = append(cs, change{part: partRead, text: "events are read", apply: func(w *world) { w.Unread = 0 }})
	}
	if oneIn(g.telling, 300) {
		sample := newSample(g.telling)
		cs = append(cs, change{part: partSample, text: fmt.Sprintf("events of one flow in %d", sample), apply: func(w *world) { w.EventSample = sample }})
	}
	return cs
}

// readEvents takes what is in the ring.
func (k *kernel) readEvents() error {
	events, err := k.Events(true)
	k.events = append(k.events, events...)
	return err
}

// allEvents are those since reset; what nobody has read stays in the ring.
func (k *kernel) allEvents() (all []m.Event, err error) {
	unread, err := k.Events(false)
	for _, e := range append(k.events[:len(k.events):len(k.events)], unread...) {
		all = append(all, m.Event{
			Time: e.Time, Kind: m.EventKind(e.Kind),
			Key: m.Tuple{
				Src: k.w.unmapped(e.Client), SPort: portFrom(e.ClientPort), Dst: k.w.unmapped(e.Virtual), DPort: portFrom(e.VirtualPort), Proto: e.Proto,
			},
			Dst: k.w.unmapped(e.Backend), DPort: portFrom(e.BackendPort),
			Service: e.Service, ServiceGen: e.ServiceGen, Backend: e.BackendRow, BackendGen: e.BackendGen, State: e.State,
		})
	}
	return all, err
}

// events reads what was told since reset, and how often.
func (s *state) events(k *kernel) (err error) {
	if s.Events, err = k.allEvents(); err != nil {
		return err
	}
	counts, err := k.Sums(loader.LBMapEventCounts)
	if err != nil {
		return err
	}
	s.EventCounts = counts[:m.EventsMax]
	return nil
}

// forgetEvents empties the ring.
func (k *kernel) forgetEvents() error {
	err := k.readEvents()
	k.events = nil
	return err
}

// eventRoom is how many events fit into the ring.
func eventRoom() int { return lbtest.EventRoom(eventRing()) }
