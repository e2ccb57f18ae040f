package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"fairlead/testenv"
	"fairlead/testenv/stage"
	"fairlead/userspace/datapath"
	"fairlead/userspace/kernel"
	"fairlead/userspace/model"
	"fairlead/userspace/view"
)

// plan asks what the stage's configuration would change.
func plan(t *testing.T, s *stage.Stage) (p kernel.Plan) {
	t.Helper()
	out := s.Fairlead("plan", "-o", "json").OK(t)
	if err := json.Unmarshal([]byte(out), &p); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	return p
}

// liveFlows returns what the flow table has: the flows that go on, by service and
// backend.
func liveFlows(t *testing.T, s *stage.Stage) map[string]int {
	t.Helper()
	count := map[string]int{}
	for line := range strings.Lines(s.Loader("maps", "flows", "-o", "json").OK(t)) {
		var f datapath.FlowView
		if err := json.Unmarshal([]byte(line), &f); err != nil {
			t.Fatal(err)
		}
		switch f.State {
		case "closed", "reset", "aborted":
		default:
			count[f.Service]++
			count[f.Service+" "+f.Backend.String()]++
		}
	}
	return count
}

// echoes returns who answers the datagrams of flows of service echo.
func echoes(t *testing.T, s *stage.Stage, flows int) (by []string) {
	t.Helper()
	for i := range flows {
		message, _, err := s.Echo(0, uint16(30000+i), vip+":7", "hello")
		if err != nil {
			t.Fatal(err)
		}
		by = append(by, message)
	}
	return by
}

// wantNoChanges wants what the stage's configuration says to be in the kernel.
func wantNoChanges(t *testing.T, s *stage.Stage) {
	t.Helper()
	if out := s.Fairlead("plan", "--exit-code").OK(t); out != "no changes in the kernel\n" {
		t.Errorf("plan of what is attached:\n%s", out)
	}
}

// TestPlanForetellsFlows takes a backend away. The plan's shares must be those of
// the flow table, and what clients then see.
func TestPlanForetellsFlows(t *testing.T) {
	s := webAndEcho(t)
	s.Loader("attach").OK(t)
	wantNoChanges(t, s)
	talks, more, before := openTalks(t, s), openTalks(t, s), echoes(t, s, 8)
	gone := s.BackendAddrs[0].String() + ":8080"
	live := liveFlows(t, s)
	s.BackendAddrs = s.BackendAddrs[1:]
	configureBoth(s)
	p := plan(t, s)
	shares := map[string]datapath.FlowShare{"all": p.Flows}
	for _, v := range p.Services {
		shares[v.Name] = v.Flows
	}
	want := map[string]datapath.FlowShare{
		"web":  {Live: live["web"], Ended: live["web "+gone]},
		"echo": {Live: live["echo"], Moved: live["echo "+gone]},
		"all":  {Live: live["web"] + live["echo"], Ended: live["web "+gone], Moved: live["echo "+gone]},
	}
	if diff := cmp.Diff(want, shares); diff != "" || p.Flows.Ended == 0 || p.Flows.Moved == 0 {
		t.Errorf("shares of %v (-flow table +plan):\n%s", live, diff)
	}
	if want := (datapath.SlotShare{Slots: 6, Moved: 2}); p.Slots != want {
		t.Errorf("slots %+v, want %+v", p.Slots, want)
	}

	s.Loader("attach").OK(t)
	wantNoChanges(t, s)
	ended, moved := 0, 0
	for _, talk := range slices.AppendSeq(slices.Collect(maps.Values(talks)), maps.Values(more)) {
		if _, err := talk.Ask(); err != nil {
			ended++
		}
	}
	for i, by := range echoes(t, s, len(before)) {
		if by != before[i] {
			moved++
		}
	}
	if ended != p.Flows.Ended || moved != p.Flows.Moved {
		t.Errorf("%d connections ended and %d flows moved, want %d and %d", ended, moved, p.Flows.Ended, p.Flows.Moved)
	}
}

// TestPlanKnowsWhoStartsSlowly has a backend come back that gets its share within
// ten minutes: the same configuration changes nothing about that.
func TestPlanKnowsWhoStartsSlowly(t *testing.T) {
	s := newStage(t, testenv.RigOptions{})
	s.Configure(strings.Replace(checks, "panic-threshold", "slow-start: 10m, panic-threshold", 1), s.Links(), vip, s.BackendList(8080))
	s.StartAgent()
	for i := range s.Backends {
		s.AwaitHealth(i, true)
	}
	s.Servers[0].Kill()
	s.AwaitHealth(0, false)
	s.Servers[0] = s.Start(s.Backends[0], programs.Dummyserver, "--port", "8080", "--message", "backend1")
	if b := s.AwaitHealth(0, true).Services[0].Backends[0]; b.Share >= 50 {
		t.Errorf("the backend begins with %d %%", b.Share)
	}
	stage.Await(t, "a plan without changes", func() error { // its share grows now and then
		if p := plan(t, s); !p.Empty() {
			return fmt.Errorf("plan %+v", p.Services)
		}
		return nil
	})
}

// TestPlanKnowsWhoIsDown has two of three backends down in a panic, in which none is
// to the kernel: without it, slots go.
func TestPlanKnowsWhoIsDown(t *testing.T) {
	s := newStage(t, testenv.RigOptions{})
	configure := func(text string) { s.Configure(text, s.Links(), vip, s.BackendList(8080)) }
	configure(checks)
	agent := s.StartAgent()
	for i := range 2 {
		s.Servers[i].Kill()
		s.AwaitHealth(i, false)
	}
	configure(strings.Replace(checks, "panic-threshold: 0", "panic-threshold: 50", 1))
	agent.Signal(syscall.SIGHUP)
	s.AwaitView("a panic", func(v *view.View) bool { return v.Services[0].Serving == model.ServingPanic })
	wantNoChanges(t, s)
	configure(checks)
	p := plan(t, s)
	want := datapath.FieldChange{Field: "slots", From: "3", To: "1"}
	if len(p.Services) != 1 || !slices.Contains(p.Services[0].Fields, want) {
		t.Fatalf("plan %+v, want %+v", p.Services, want)
	}
	agent.Signal(syscall.SIGHUP)
	s.AwaitView("no panic", func(v *view.View) bool { return v.Services[0].Serving == model.ServingUp })
	wantNoChanges(t, s)
	if slots := s.ServiceRows()[0].Slots; slots != 1 {
		t.Errorf("%d slots, want 1", slots)
	}
}
