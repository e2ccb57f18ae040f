package datapath

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"time"

	"fairlead/loader"
	"fairlead/userspace/model"
)

// maxWatched bounds how many flows a FlowWatch remembers: of those beyond it nobody
// learns how long they lasted, or that user space has ended them.
const maxWatched = 1 << 18

// maxNames bounds how many services that are gone are remembered.
const maxNames = 1 << 16

// A FlowEvent says that a flow has begun, or ended. Its JSON form is stable.
type FlowEvent struct {
	Time     time.Time      `json:"time"`  // when that was, or was found out
	Event    string         `json:"event"` // begin or end
	Service  string         `json:"service"`
	Protocol model.Protocol `json:"protocol"`
	Client   netip.AddrPort `json:"client"`
	Virtual  netip.AddrPort `json:"virtual"` // what the client connected to
	Backend  netip.AddrPort `json:"backend"`
	// State is the last one known: of a flow that has ended, closed, reset or
	// aborted, or another one, and then there is a Reason.
	State string `json:"state"`
	// Reason is evicted, replaced or forgotten; of a beginning, found, if the kernel
	// had no room to tell it.
	Reason string `json:"reason,omitempty"`
	// Seconds is, at the end, how long the flow has been known.
	Seconds float64 `json:"seconds,omitempty"`
}

// reasonFound is that of a flow that was in the table, and that nobody has told of.
const reasonFound = "found"

// Why flows end that are not over.
const (
	reasonEvicted   = "evicted"   // its place was another's need
	reasonReplaced  = "replaced"  // its tuple was used again, or its backend is gone
	reasonForgotten = "forgotten" // after silence, or by a command
)

// A FlowWatch makes of what the kernel tells, and of looks at the flow table, which
// flows have begun and ended: looks find what user space has ended, and what the
// kernel had no room to tell. It is not safe for concurrent use.
type FlowWatch struct {
	sample uint32
	flows  map[loader.LB6FlowKey]*watchedFlow
	most   int  // of flows
	beyond bool // there were more: some that nobody remembers may have been told of
	looks  uint64
	names  map[[2]uint32]string // of services, by row and generation
	// ended are the flows whose end was told while a look goes on; nil: none does.
	ended map[loader.LB6FlowKey]bool
}

// An EventSource has events that the kernel has told, as [FlowEvents] do.
type EventSource interface {
	// Waiting returns how many there are that nobody has taken.
	Waiting() int
	// Next returns the next one. Errors wrap [os.ErrDeadlineExceeded] when there is
	// none until then, [os.ErrClosed] when there is none and nobody is to wait.
	Next(deadline time.Time) (loader.Event, error)
}

// A watchedFlow is one that goes on, or whose entry is still in the table.
type watchedFlow struct {
	FlowEvent
	began time.Time
	over  bool // its end was told
	// listed is the last look that found it to go on, held one that found its entry.
	listed, held uint64
}

// NewFlowWatch returns one that tells of one flow in sample, those that the kernel
// tells of.
func NewFlowWatch(sample int) *FlowWatch {
	return &FlowWatch{
		sample: uint32(max(1, sample)), most: maxWatched,
		flows: map[loader.LB6FlowKey]*watchedFlow{}, names: map[[2]uint32]string{},
	}
}

// Take returns what an event says: nothing, if that has been told.
func (w *FlowWatch) Take(maps *loader.Maps, e *loader.Event) (events []FlowEvent, err error) {
	when, key := e.When(), keyOf(e)
	f := w.flows[key]
	if loader.EventKind(e.Kind) == loader.LBEventKindEVENT_BEGIN {
		if f != nil && !f.over {
			events = append(events, f.end(when, reasonReplaced))
		}
		began, err := w.told(maps, e, when)
		if err != nil {
			return events, err
		}
		began.Event = "begin"
		w.keep(key, &watchedFlow{FlowEvent: began, began: when, listed: w.looks, held: w.looks}) // the next look is to find it
		delete(w.ended, key)
		return append(events, began), nil
	}
	delete(w.flows, key)
	if w.ended != nil {
		w.ended[key] = true
	}
	switch {
	case f == nil:
		end, err := w.told(maps, e, when)
		if err != nil {
			return nil, err
		}
		end.Event, end.Reason = "end", reasonOf(e)
		return []FlowEvent{end}, nil
	case f.over:
		return nil, nil
	}
	f.State = stateName(loader.LBFlowState(e.State))
	return []FlowEvent{f.end(when, reasonOf(e))}, nil
}

// TakeAll is Take for all events that wait.
func (w *FlowWatch) TakeAll(maps *loader.Maps, from EventSource) ([]FlowEvent, error) {
	all, err := w.Next(maps, from, time.Unix(1, 0), from.Waiting())
	if isNoMore(err) {
		err = nil
	}
	return all, err
}

// Follow has write called with what happens, in batches of so many events at most,
// until a time. If ctx is done before that, what waits by then is the last batch: as
// long as somebody is slow to write there may always be more. Errors are those of the
// source, and of write.
func (w *FlowWatch) Follow(ctx context.Context, maps *loader.Maps, from EventSource, until time.Time, most int, write func([]FlowEvent) error) error {
	for time.Now().Before(until) {
		if ctx.Err() != nil {
			last, err := w.TakeAll(maps, from)
			return errors.Join(err, write(last))
		}
		batch, err := w.Next(maps, from, until, most)
		if err := write(batch); err != nil {
			return err
		}
		if isNoMore(err) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// isNoMore reports whether an error of a source says only that it has no more now.
func isNoMore(err error) bool {
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, os.ErrClosed)
}

// Next waits for an event until a deadline, and returns what it and those that wait
// behind it say; so many are taken at most. Errors are those of the source, and what
// was taken before comes with them.
func (w *FlowWatch) Next(maps *loader.Maps, from EventSource, deadline time.Time, most int) (all []FlowEvent, err error) {
	for taken := 0; taken < most && (taken == 0 || from.Waiting() > 0); taken++ {
		e, err := from.Next(deadline)
		if err != nil {
			return all, err
		}
		events, err := w.Take(maps, &e)
		if all = append(all, events...); err != nil {
			return all, err
		}
	}
	return all, nil
}

// keep remembers a flow, if there is room.
func (w *FlowWatch) keep(key loader.LB6FlowKey, f *watchedFlow) {
	if _, known := w.flows[key]; !known && len(w.flows) >= w.most {
		w.beyond = true
		return
	}
	w.flows[key] = f
}

// told returns what an event says of its flow.
func (w *FlowWatch) told(maps *loader.Maps, e *loader.Event, when time.Time) (FlowEvent, error) {
	name, err := w.nameOf(maps, e.Service, e.ServiceGen)
	return FlowEvent{
		Time: when, Service: name, Protocol: protocolOf(e.Proto), State: stateName(loader.LBFlowState(e.State)),
		Client: at6(e.Client, e.ClientPort), Virtual: at6(e.Virtual, e.VirtualPort), Backend: at6(e.Backend, e.BackendPort),
	}, err
}

// nameOf returns a service's name; "" if it is gone, and no flow of it was told of.
func (w *FlowWatch) nameOf(maps *loader.Maps, row, gen uint32) (string, error) {
	service := [2]uint32{row, gen}
	if name, known := w.names[service]; known {
		return name, nil
	}
	services, err := loader.ReadArray[loader.Service](maps.Services)
	if err != nil {
		return "", err
	}
	names, err := maps.ReadServiceNames()
	if err != nil {
		return "", err
	}
	if len(w.names) > maxNames {
		clear(w.names)
	}
	for row := range services {
		if row < len(names) && services[row].State != serviceNone {
			w.names[[2]uint32{uint32(row), services[row].Gen}] = names[row]
		}
	}
	name := w.names[service]
	w.names[service] = name // nobody looks for it again
	return name, nil
}

func keyOf(e *loader.Event) loader.LB6FlowKey {
	return loader.LB6FlowKey{Saddr: e.Client, Sport: e.ClientPort, Daddr: e.Virtual, Dport: e.VirtualPort, Proto: e.Proto}
}

// reasonOf returns why a flow has ended, unless its state says it.
func reasonOf(e *loader.Event) string {
	switch loader.EventKind(e.Kind) {
	case loader.LBEventKindEVENT_EVICTED:
		return reasonEvicted
	case loader.LBEventKindEVENT_DELETED:
		return reasonReplaced
	}
	return ""
}

// end returns the end of a flow.
func (f *watchedFlow) end(now time.Time, reason string) FlowEvent {
	e := f.FlowEvent
	e.Time, e.Event, e.Reason, e.Seconds = now, "end", reason, max(0, now.Sub(f.began).Seconds())
	return e
}
