package datapath

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"fairlead/loader"
	"fairlead/userspace/model"
)

// waiting are events that nobody has taken.
type waiting []loader.Event

func (w *waiting) Waiting() int { return len(*w) }

func (w *waiting) Next(time.Time) (e loader.Event, err error) {
	if len(*w) == 0 {
		return e, os.ErrDeadlineExceeded
	}
	e, *w = (*w)[0], (*w)[1:]
	return e, nil
}

// happened returns events in a few words.
func happened(events []FlowEvent) (all []string) {
	for _, e := range events {
		text := fmt.Sprintf("%s %s %d to %s, %s", e.Event, e.Service, e.Client.Port(), e.Backend, e.State)
		if e.Reason != "" {
			text += ", " + e.Reason
		}
		if e.Seconds > 0 {
			text += fmt.Sprintf(", %.0f s", e.Seconds)
		}
		all = append(all, text)
	}
	return all
}

// toldOf is an event of the flow of a port of putEntries' clients, so many seconds ago.
func toldOf(t *testing.T, port uint16, kind loader.EventKind, state loader.LBFlowState, ago int64) loader.Event {
	t.Helper()
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		t.Fatal(err)
	}
	return loader.Event{
		Time: uint64(ts.Nano() - ago*1e9), Kind: uint8(kind), State: uint8(state), Proto: model.TCP.Number(), ServiceGen: 1, BackendGen: 1,
		Client: loader.AddressOf(netip.MustParseAddr("10.1.1.2")), ClientPort: be16(port),
		Virtual: loader.AddressOf(netip.MustParseAddr("203.0.113.1")), VirtualPort: be16(80),
		Backend: loader.AddressOf(netip.MustParseAddr("10.2.0.2")), BackendPort: be16(8080),
	}
}

// lookLater looks as if some time had passed, and tells whole seconds, but not of flows
// that a look misses: they end with it, however slow this machine is.
func lookLater(t *testing.T, watch *FlowWatch, maps *loader.Maps, from EventSource) []FlowEvent {
	t.Helper()
	for _, f := range watch.flows {
		f.began = f.began.Add(-2 * lookSlack)
	}
	events, err := watch.Look(maps, from)
	if err != nil {
		t.Fatal(err)
	}
	for i := range events {
		e := &events[i]
		if e.Reason == reasonForgotten && e.Seconds < lookSlack.Seconds() {
			t.Errorf("%+v: it was there longer", *e)
		}
		if e.Seconds < 0.5 || e.Reason == reasonForgotten {
			e.Seconds = 0
		}
	}
	return events
}

// TestFlowsThatBeginAndEndAreTold: by events, and by looks what events do not tell.
func TestFlowsThatBeginAndEndAreTold(t *testing.T) {
	maps, at := oneService(t)
	const (
		fresh, answered, established = loader.LBFlowStateFLOW_NEW, loader.LBFlowStateFLOW_ANSWERED, loader.LBFlowStateFLOW_ESTABLISHED
		closed, reset                = loader.LBFlowStateFLOW_CLOSED, loader.LBFlowStateFLOW_RESET
		begin, over                  = loader.LBEventKindEVENT_BEGIN, loader.LBEventKindEVENT_OVER
		evicted, deleted             = loader.LBEventKindEVENT_EVICTED, loader.LBEventKindEVENT_DELETED
	)
	flow := func(state loader.LBFlowState) entry {
		return entry{1, 100000, at.era, loader.LBFlowDirDIR_FORWARD, state, 1}
	}
	absent := entry{1, 100000, at.era + 1, loader.LBFlowDirDIR_FORWARD, answered, 1}
	reply := entry{1, 100000, at.era, loader.LBFlowDirDIR_REPLY, answered, 1}
	silent := entry{1000, 100, at.era, loader.LBFlowDirDIR_FORWARD, established, 1}
	told := func(port uint16, kind loader.EventKind, state loader.LBFlowState, ago int64) loader.Event {
		return toldOf(t, port, kind, state, ago)
	}
	watch := NewFlowWatch(1)
	for i, step := range []struct {
		entries []entry
		events  waiting
		want    []string
	}{
		{[]entry{flow(established), flow(closed)}, nil, nil}, // the first look
		{[]entry{flow(established), flow(closed)}, waiting{told(9, begin, fresh, 5), told(9, over, closed, 3)},
			[]string{"begin a 9 to 10.2.0.2:8080, new", "end a 9 to 10.2.0.2:8080, closed, 2 s"}},
		{[]entry{flow(established), flow(answered), reply}, waiting{told(2, begin, fresh, 5)}, []string{"begin a 2 to 10.2.0.2:8080, new"}},
		{[]entry{flow(established), flow(answered), reply}, nil, nil},
		{[]entry{flow(reset), flow(answered), reply}, nil, []string{"end a 1 to 10.2.0.2:8080, reset"}}, // by user space
		{[]entry{absent, flow(established), reply}, waiting{told(2, evicted, answered, 4), told(2, begin, answered, 3)},
			[]string{"end a 2 to 10.2.0.2:8080, answered, evicted, 1 s", "begin a 2 to 10.2.0.2:8080, answered"}},
		{[]entry{absent, silent, reply, flow(answered)}, nil,
			[]string{"begin a 4 to 10.2.0.2:8080, answered, found", "end a 2 to 10.2.0.2:8080, answered, forgotten"}},
		{[]entry{absent, flow(answered), reply, flow(answered)}, waiting{told(2, deleted, established, 2), told(2, begin, fresh, 2)},
			[]string{"begin a 2 to 10.2.0.2:8080, new"}},
		{[]entry{absent, flow(answered), reply, flow(answered)}, waiting{told(4, over, closed, 0), told(7, deleted, established, 0)},
			[]string{"end a 4 to 10.2.0.2:8080, closed", "end a 7 to 10.2.0.2:8080, established, replaced"}}, // the table was read before
		{[]entry{absent, absent, absent, flow(closed)}, nil, []string{"end a 2 to 10.2.0.2:8080, answered, forgotten"}},
		{[]entry{absent}, nil, nil},
		{nil, nil, nil},
	} {
		putEntries(t, maps, at, step.entries...)
		if diff := cmp.Diff(step.want, happened(lookLater(t, watch, maps, &step.events))); diff != "" {
			t.Errorf("look %d (-want +got):\n%s", i, diff)
		}
	}
	if len(watch.flows) != 0 {
		t.Errorf("%d flows are remembered", len(watch.flows))
	}
}

// TestFlowsBeyondThoseRememberedAreToldOnce: also when there is room for them later.
func TestFlowsBeyondThoseRememberedAreToldOnce(t *testing.T) {
	maps, at := oneService(t)
	const fresh, closed = loader.LBFlowStateFLOW_NEW, loader.LBFlowStateFLOW_CLOSED
	goes := entry{1, 100000, at.era, loader.LBFlowDirDIR_FORWARD, fresh, 1}
	over := entry{1, 100000, at.era, loader.LBFlowDirDIR_FORWARD, closed, 1}
	absent := entry{1, 100000, at.era + 1, loader.LBFlowDirDIR_FORWARD, fresh, 1}
	told := func(port uint16, kind loader.EventKind, state loader.LBFlowState) loader.Event {
		return toldOf(t, port, kind, state, 0)
	}
	watch := NewFlowWatch(1)
	watch.most = 1
	for i, step := range []struct {
		entries []entry
		events  waiting
		want    []string
	}{
		{[]entry{goes}, nil, nil},
		{[]entry{goes, goes, goes}, waiting{told(2, loader.LBEventKindEVENT_BEGIN, fresh), told(3, loader.LBEventKindEVENT_BEGIN, fresh)},
			[]string{"begin a 2 to 10.2.0.2:8080, new", "begin a 3 to 10.2.0.2:8080, new"}},
		{[]entry{over, goes, goes}, waiting{told(1, loader.LBEventKindEVENT_OVER, closed)}, []string{"end a 1 to 10.2.0.2:8080, closed"}},
		{[]entry{absent, goes, over}, waiting{told(3, loader.LBEventKindEVENT_OVER, closed)}, []string{"end a 3 to 10.2.0.2:8080, closed"}},
		{[]entry{absent, over, absent}, waiting{told(2, loader.LBEventKindEVENT_OVER, closed)}, []string{"end a 2 to 10.2.0.2:8080, closed"}},
		{[]entry{goes}, nil, []string{"begin a 1 to 10.2.0.2:8080, new, found"}}, // it is the only one
	} {
		putEntries(t, maps, at, step.entries...)
		if diff := cmp.Diff(step.want, happened(lookLater(t, watch, maps, &step.events))); diff != "" {
			t.Errorf("look %d (-want +got):\n%s", i, diff)
		}
	}
}

// TestAFlowThatComesDuringALookIsToldOnce also if there is room for it at the next one only.
func TestAFlowThatComesDuringALookIsToldOnce(t *testing.T) {
	maps, at := oneService(t)
	goes := entry{1, 100000, at.era, loader.LBFlowDirDIR_FORWARD, loader.LBFlowStateFLOW_NEW, 1}
	over := entry{1, 100000, at.era, loader.LBFlowDirDIR_FORWARD, loader.LBFlowStateFLOW_CLOSED, 1}
	begins := waiting{toldOf(t, 2, loader.LBEventKindEVENT_BEGIN, loader.LBFlowStateFLOW_NEW, 0)}
	ends := waiting{toldOf(t, 1, loader.LBEventKindEVENT_OVER, loader.LBFlowStateFLOW_CLOSED, 0)}
	watch := NewFlowWatch(1)
	watch.most = 1
	for i, step := range []struct {
		entries []entry
		events  waiting
		want    []string
	}{
		{[]entry{goes}, nil, nil},
		{[]entry{goes}, begins, []string{"begin a 2 to 10.2.0.2:8080, new"}}, // the table was read before it came
		{[]entry{over, goes}, ends, []string{"end a 1 to 10.2.0.2:8080, closed"}},
	} {
		putEntries(t, maps, at, step.entries...)
		if diff := cmp.Diff(step.want, happened(lookLater(t, watch, maps, &step.events))); diff != "" {
			t.Errorf("look %d (-want +got):\n%s", i, diff)
		}
	}
}

// TestEventsAreTakenInBatches: so many at most, and whatever waits behind the first.
func TestEventsAreTakenInBatches(t *testing.T) {
	maps := newMaps(t)
	watch, events := NewFlowWatch(1), waiting{}
	for port := range uint16(5) {
		events = append(events, toldOf(t, port, loader.LBEventKindEVENT_BEGIN, loader.LBFlowStateFLOW_NEW, 0))
	}
	for i, want := range []int{3, 2} {
		got, err := watch.Next(maps, &events, time.Now(), 3)
		if err != nil || len(got) != want {
			t.Errorf("batch %d has %d events, %v, want %d", i, len(got), err, want)
		}
	}
	if got, err := watch.Next(maps, &events, time.Now(), 3); len(got) != 0 || err == nil {
		t.Errorf("%d events, %v, want none and why", len(got), err)
	}
}

// A flood has always one event more, each of a flow of its own, and some that wait.
type flood struct {
	events int
	of     loader.Event
}

func (f *flood) Waiting() int { return 7 }

func (f *flood) Next(time.Time) (loader.Event, error) {
	f.events++
	f.of.ClientPort++
	return f.of, nil
}

// TestWhatNeverEndsIsReadInBatches: beside a slow writer, and events that come faster
// than it writes, reading ends when it is to.
func TestWhatNeverEndsIsReadInBatches(t *testing.T) {
	maps := newMaps(t)
	const most, each = 5, 300 * time.Millisecond
	for _, row := range []struct {
		name    string
		stop    time.Duration // 0: it is not told to end
		until   time.Duration
		batches []int
	}{
		{"until a time", 0, 1000 * time.Millisecond, []int{5, 5, 5, 5}},
		{"until it is to stop, with what waits", 700 * time.Millisecond, time.Hour, []int{5, 5, 5, 7}},
		{"if it is to stop at once", time.Nanosecond, time.Hour, []int{5, 7}},
	} {
		t.Run(row.name, func(t *testing.T) {
			from := &flood{of: toldOf(t, 1, loader.LBEventKindEVENT_BEGIN, loader.LBFlowStateFLOW_NEW, 0)}
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				if row.stop > 0 {
					defer time.AfterFunc(row.stop, cancel).Stop()
				}
				defer cancel()
				var batches []int
				err := NewFlowWatch(1).Follow(ctx, maps, from, time.Now().Add(row.until), most, func(batch []FlowEvent) error {
					ready := make(chan struct{})
					time.AfterFunc(each, func() { close(ready) })
					<-ready
					if batches = append(batches, len(batch)); len(batches) > 2*len(row.batches) {
						return errors.New("it goes on and on")
					}
					return nil
				})
				taken := 0
				for _, n := range batches {
					taken += n
				}
				if diff := cmp.Diff(row.batches, batches); diff != "" || err != nil || taken != from.events {
					t.Errorf("%d of %d events were written, %v; batches (-want +got):\n%s", taken, from.events, err, diff)
				}
			})
		})
	}
}
