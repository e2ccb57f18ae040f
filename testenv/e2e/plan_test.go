package e2e

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"fairlead/testenv/stage"
	"fairlead/userspace/datapath"
	"fairlead/userspace/kernel"
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

// TestPlanForetellsFlows takes a backend away. The plan's shares must be those of
// the flow table, and what clients then see.
func TestPlanForetellsFlows(t *testing.T) {
	s := webAndEcho(t)
	s.Loader("attach").OK(t)
	if out := s.Fairlead("plan").OK(t); out != "no changes\n" {
		t.Errorf("plan of what is attached:\n%s", out)
	}
	var talks []*stage.Talk
	for range 7 {
		talk, err := s.Dial(0, vip+":80")
		if err == nil {
			_, err = talk.Ask()
		}
		if err != nil {
			t.Fatal(err)
		}
		talks = append(talks, talk)
	}
	const ports = 8
	answered := func() (by []string) {
		for i := range ports {
			message, _, err := s.Echo(0, uint16(30000+i), vip+":7", "hello")
			if err != nil {
				t.Fatal(err)
			}
			by = append(by, message)
		}
		return by
	}
	before := answered()
	gone := s.BackendAddrs[0].String() + ":8080"
	live := liveFlows(t, s)
	s.BackendAddrs = s.BackendAddrs[1:]
	configureBoth(s)
	p := plan(t, s)
	shares := map[string]datapath.FlowShare{}
	for _, v := range p.Services {
		shares[v.Name] = v.Flows
	}
	want := map[string]datapath.FlowShare{
		"web":  {Live: live["web"], Ended: live["web "+gone]},
		"echo": {Live: live["echo"], Moved: live["echo "+gone]},
	}
	if diff := cmp.Diff(want, shares); diff != "" || live["web "+gone] == 0 || live["echo "+gone] == 0 {
		t.Errorf("shares of %v (-flow table +plan):\n%s", live, diff)
	}
	all := datapath.FlowShare{Live: live["web"] + live["echo"], Ended: live["web "+gone], Moved: live["echo "+gone]}
	if p.Flows != all || p.Slots != (datapath.SlotShare{Slots: 6, Moved: 2}) {
		t.Errorf("in all %+v and %+v, want %+v and 2 of 6 slots", p.Flows, p.Slots, all)
	}

	s.Loader("attach").OK(t)
	if out := s.Fairlead("plan", "--exit-code").OK(t); out != "no changes\n" {
		t.Errorf("plan of what was applied:\n%s", out)
	}
	ended, moved := 0, 0
	for _, talk := range talks {
		if _, err := talk.Ask(); err != nil {
			ended++
		}
	}
	for i, by := range answered() {
		if by != before[i] {
			moved++
		}
	}
	if ended != p.Flows.Ended || moved != p.Flows.Moved {
		t.Errorf("%d connections ended and %d flows moved, want %d and %d", ended, moved, p.Flows.Ended, p.Flows.Moved)
	}
}
