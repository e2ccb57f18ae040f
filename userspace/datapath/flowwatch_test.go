package datapath

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"fairlead/loader"
)

// happened returns events in a few words.
func happened(events []FlowEvent) (all []string) {
	for _, e := range events {
		all = append(all, fmt.Sprintf("%s %s %d to %s, %s, %.0f s", e.Event, e.Service, e.Client.Port(), e.Backend, e.State, e.Seconds))
	}
	return all
}

func TestFlowsThatBeginAndEndAreTold(t *testing.T) {
	maps := newMaps(t)
	w, err := New(maps)
	if err != nil {
		t.Fatal(err)
	}
	reconcile(t, w, &Want{Services: []Service{service("a", 80, 1)}})
	at, err := present(maps)
	if err != nil {
		t.Fatal(err)
	}
	const answered, established, closed, reset = loader.LBFlowStateFLOW_ANSWERED, loader.LBFlowStateFLOW_ESTABLISHED, loader.LBFlowStateFLOW_CLOSED, loader.LBFlowStateFLOW_RESET
	flow := func(state loader.LBFlowState) entry {
		return entry{1, 100000, at.era, loader.LBFlowDirDIR_FORWARD, state, 1}
	}
	absent := entry{1, 100000, at.era + 1, loader.LBFlowDirDIR_FORWARD, answered, 1}
	reply := entry{1, 100000, at.era, loader.LBFlowDirDIR_REPLY, answered, 1}
	watch, now := NewFlowWatch(1), time.Now()
	for i, step := range []struct {
		entries []entry
		want    []string
	}{
		{[]entry{flow(established), absent}, nil}, // the first look
		{[]entry{flow(established), flow(answered), reply}, []string{"begin a 2 to 10.2.0.2:8080, answered, 0 s"}},
		{[]entry{flow(established), flow(established), reply}, nil},
		{[]entry{flow(closed), flow(established), reply}, []string{"end a 1 to 10.2.0.2:8080, closed, 30 s"}},
		{[]entry{flow(closed), flow(reset), reply, flow(closed)}, []string{
			"end a 2 to 10.2.0.2:8080, reset, 30 s", "begin a 4 to 10.2.0.2:8080, closed, 0 s", "end a 4 to 10.2.0.2:8080, closed, 0 s",
		}},
		{[]entry{flow(answered), absent, reply, absent}, []string{"begin a 1 to 10.2.0.2:8080, answered, 0 s"}}, // the tuple again
		{[]entry{absent, absent, absent}, []string{"end a 1 to 10.2.0.2:8080, answered, 10 s"}},                 // forgotten
		{[]entry{absent}, nil},
	} {
		putEntries(t, maps, at, step.entries...)
		events, err := watch.Look(maps, now.Add(time.Duration(i)*10*time.Second))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(step.want, happened(events)); diff != "" {
			t.Errorf("look %d (-want +got):\n%s", i, diff)
		}
	}
	if len(watch.flows) != 0 {
		t.Errorf("%d flows are remembered", len(watch.flows))
	}
}

func TestASampleIsAsLargeAsItShouldBe(t *testing.T) {
	watch, taken := NewFlowWatch(4), 0
	for port := range uint16(4000) {
		e := &loader.Entry{}
		e.Key.Sport = port
		is := watch.takes(e)
		if is {
			taken++
		}
		if watch.takes(e) != is {
			t.Errorf("flow %d is taken at one end only", port)
		}
	}
	if taken < 800 || taken > 1200 {
		t.Errorf("%d of 4000 are taken, want about 1000", taken)
	}
}
