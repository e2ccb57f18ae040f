package datapath

import (
	"time"

	"fairlead/loader"
)

// lookSlack is by how much two readings of clocks may differ.
const lookSlack = 10 * time.Millisecond

// A flowLook is one look at the flow table.
type flowLook struct {
	*FlowWatch
	began   time.Time
	unknown []loader.Entry // that go on
	over    []loader.Entry // that are known to go on
	late    bool           // there was no room for some that began meanwhile
	events  []FlowEvent
}

// Look compares the flow table with what is known, takes the events that wait
// meanwhile, and returns what has happened. The first one does not tell of the
// beginnings of what it finds in the table.
func (w *FlowWatch) Look(maps *loader.Maps, waiting EventSource) ([]FlowEvent, error) {
	l := &flowLook{FlowWatch: w, began: time.Now()}
	w.looks++
	w.ended = map[loader.LB6FlowKey]bool{}
	defer func() { w.ended = nil }()
	r, err := read(maps)
	if err != nil {
		return nil, err
	}
	err = eachEntry(maps, func(_ *loader.FlowTable, e *loader.Entry, at moment) bool {
		if forward(e) && maps.ControlView().Sampled(e, w.sample) {
			l.see(e, !at.expired(e) && !r.gone(e))
		}
		return true
	})
	if err != nil {
		return nil, err
	}
	before := w.beyond
	w.beyond = false
	l.events, err = w.TakeAll(maps, waiting)
	l.late, w.beyond = w.beyond, w.beyond || before
	if err == nil {
		l.compare(r)
	}
	return l.events, err
}

// see takes note of a flow's forward entry, which counts or not.
func (l *flowLook) see(e *loader.Entry, counts bool) {
	f := l.flows[e.Key]
	switch {
	case f == nil && counts && !e.Over():
		l.unknown = append(l.unknown, *e)
	case f == nil:
	case counts && e.Over() && !f.over:
		l.over = append(l.over, *e)
		f.listed, f.held = l.looks, l.looks
	case counts:
		f.State = flowView(e).State
		f.listed, f.held = l.looks, l.looks
	default:
		f.held = l.looks
	}
}

// compare finds out what the events, all of which were taken, have not told.
func (l *flowLook) compare(r *rows) {
	left := false
	for i := range l.unknown {
		left = !l.find(&l.unknown[i], r) || left
	}
	l.beyond = left || l.late
	for i := range l.over {
		e := &l.over[i]
		if f := l.flows[e.Key]; f != nil && !f.over && f.before(l.began) {
			f.State, f.over = flowView(e).State, true
			l.events = append(l.events, f.end(l.began, ""))
		}
	}
	for key, f := range l.flows {
		if f.listed == l.looks || !f.before(l.began) {
			continue
		}
		if !f.over {
			f.over = true
			l.events = append(l.events, f.end(l.began, reasonForgotten))
		}
		if f.held != l.looks {
			delete(l.flows, key)
		}
	}
}

// find tells of a flow in the table, unless that was told meanwhile, or perhaps before
// there was room for it. It reports whether there is.
func (l *flowLook) find(e *loader.Entry, r *rows) bool {
	if l.ended[e.Key] || l.flows[e.Key] != nil {
		return true
	}
	if len(l.flows) >= l.most {
		return false
	}
	v := flowView(e)
	f := &watchedFlow{began: l.began, listed: l.looks, held: l.looks, FlowEvent: FlowEvent{
		Time: l.began, Event: "begin", Service: r.names[e.Service], Protocol: v.Protocol,
		Client: v.Client, Virtual: v.Virtual, Backend: v.Backend, State: v.State,
	}}
	l.flows[e.Key] = f
	if l.looks > 1 && !l.beyond {
		found := f.FlowEvent
		found.Reason = reasonFound
		l.events = append(l.events, found)
	}
	return true
}

// before says that a flow has begun before a look.
func (f *watchedFlow) before(look time.Time) bool { return f.began.Before(look.Add(-lookSlack)) }
