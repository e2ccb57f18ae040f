package datapath

import (
	"hash/maphash"
	"net/netip"
	"time"

	"fairlead/loader"
	"fairlead/userspace/model"
)

// maxWatched bounds how many flows a FlowWatch remembers: those beyond it are not
// told of.
const maxWatched = 1 << 18

// A FlowEvent says that a flow has begun, or ended. Its JSON form is stable.
type FlowEvent struct {
	Time     time.Time      `json:"time"`  // when it was found out
	Event    string         `json:"event"` // begin or end
	Service  string         `json:"service"`
	Protocol model.Protocol `json:"protocol"`
	Client   netip.AddrPort `json:"client"`
	Virtual  netip.AddrPort `json:"virtual"` // what the client connected to
	Backend  netip.AddrPort `json:"backend"`
	// State is the last one known: of a flow that has ended, closed, reset or
	// aborted, or another one if it was forgotten for its silence or for others.
	State string `json:"state"`
	// Seconds is, at the end, how long the flow has been known.
	Seconds float64 `json:"seconds,omitempty"`
}

// A FlowWatch finds out, from one look at the flow table to the next, which flows have
// begun and ended. What begins and is forgotten in between it does not see; but flows
// that have ended stay in the table for tcp-fin.
type FlowWatch struct {
	sample uint64
	seed   maphash.Seed
	flows  map[loader.LB6FlowKey]*watchedFlow
	looks  uint64
}

// A watchedFlow is one that was in the table at the last look.
type watchedFlow struct {
	FlowEvent
	began time.Time
	over  bool // its end was told
	look  uint64
}

// NewFlowWatch returns one that tells of one flow of sample, chosen at random but the
// same at its beginning and its end.
func NewFlowWatch(sample int) *FlowWatch {
	return &FlowWatch{sample: uint64(max(1, sample)), seed: maphash.MakeSeed(), flows: map[loader.LB6FlowKey]*watchedFlow{}}
}

// Look returns what has happened since the last look; the first one finds nothing,
// as what is there has begun before.
func (w *FlowWatch) Look(maps *loader.Maps, now time.Time) (events []FlowEvent, err error) {
	r, err := read(maps)
	if err != nil {
		return nil, err
	}
	w.looks++
	err = eachEntry(maps, func(_ *loader.FlowTable, e *loader.Entry, at moment) bool {
		if forward(e) && !at.expired(e) && !r.gone(e) && w.takes(e) {
			events = w.see(events, e, r.names[e.Service], now)
		}
		return true
	})
	if err != nil {
		return nil, err
	}
	for key, f := range w.flows {
		if f.look == w.looks {
			continue
		}
		if delete(w.flows, key); !f.over {
			events = append(events, f.end(now))
		}
	}
	return events, nil
}

// takes reports whether a flow is one that is told of.
func (w *FlowWatch) takes(e *loader.Entry) bool {
	return maphash.Comparable(w.seed, e.Key)%w.sample == 0
}

// see adds what is new about a flow.
func (w *FlowWatch) see(events []FlowEvent, e *loader.Entry, service string, now time.Time) []FlowEvent {
	f, known := w.flows[e.Key]
	v := flowView(e)
	if !known && len(w.flows) >= maxWatched {
		return events
	}
	if !known || f.over && !e.Over() || f.Backend != v.Backend { // a tuple that is used again
		if known && !f.over {
			events = append(events, f.end(now))
		}
		f = &watchedFlow{began: now, FlowEvent: FlowEvent{
			Time: now, Event: "begin", Service: service, Protocol: v.Protocol, Client: v.Client, Virtual: v.Virtual, Backend: v.Backend,
		}}
		w.flows[e.Key] = f
		if f.State = v.State; w.looks > 1 {
			events = append(events, f.FlowEvent)
		} else {
			f.over = e.Over()
		}
	}
	f.look, f.State = w.looks, v.State
	if e.Over() && !f.over {
		f.over = true
		events = append(events, f.end(now))
	}
	return events
}

func (f *watchedFlow) end(now time.Time) FlowEvent {
	e := f.FlowEvent
	e.Time, e.Event, e.Seconds = now, "end", now.Sub(f.began).Seconds()
	return e
}
