package e2e

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"fairlead/loader"
	"fairlead/testenv"
	"fairlead/testenv/stage"
	"fairlead/userspace/config"
	"fairlead/userspace/datapath"
	"fairlead/userspace/model"
)

// A reconciler changes the services of an instance in the place of an agent, as
// often as it likes.
type reconciler struct {
	t    *testing.T
	maps *loader.Maps
	w    *datapath.Writer
	want *datapath.Want
}

// reconciled attaches the configuration of a stage.
func reconciled(t *testing.T, s *stage.Stage) *reconciler {
	t.Helper()
	s.Loader("attach").OK(t)
	inst, err := loader.Open(s.PinDir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { inst.Close() })
	state, err := config.Load(s.ConfigPath)
	if err != nil {
		t.Fatal(err)
	}
	w, err := datapath.New(inst.Maps())
	if err != nil {
		t.Fatal(err)
	}
	return &reconciler{t: t, maps: inst.Maps(), w: w, want: w.Keep(&state)}
}

// apply makes the kernel hold what is wanted.
func (r *reconciler) apply() {
	r.t.Helper()
	if _, err := r.w.Reconcile(r.want); err != nil {
		r.t.Fatal(err)
	}
}

// methods are the ways to choose a backend that need no agent.
var methods = []model.Method{
	model.RoundRobin, model.Maglev, model.SourceHash, model.Random, model.P2C, model.LeastConnections,
}

// everyMethod configures a service for each method, on the ports from 80 on.
func everyMethod(s *stage.Stage, top string, weights ...int) {
	text := fmt.Sprintf("%s\nservices:\n", top)
	for i, m := range methods {
		text += fmt.Sprintf("  - {name: %s, listen: %s:%d, balance: %s, backends: %s, health: {type: none}}\n",
			m, vip, 80+i, m, s.BackendList(8080, weights...))
	}
	s.Configure("%s", text)
}

// An openTalk is a connection, and who answers on it.
type openTalk struct {
	*stage.Talk
	service, message string
}

// openToAll opens n connections to the service of each method.
func openToAll(t *testing.T, s *stage.Stage, n int) (talks []openTalk) {
	t.Helper()
	for i, m := range methods {
		for range n {
			talk, err := s.Dial(0, fmt.Sprintf("%s:%d", vip, 80+i))
			if err != nil {
				t.Fatalf("%s: %v", m, err)
			}
			a, err := talk.Ask()
			if err != nil {
				t.Fatalf("%s: %v", m, err)
			}
			talks = append(talks, openTalk{talk, string(m), a.Message})
		}
	}
	return talks
}

// TestEstablishedFlowsStayWhatever changes everything but the backend itself
// about the services of every method, and has all open connections go on.
func TestEstablishedFlowsStayWhatever(t *testing.T) {
	s := newStage(t, testenv.RigOptions{})
	everyMethod(s, "interfaces: "+s.Links(), 1, 1, 1)
	r := reconciled(t, s)
	var talks []openTalk
	for _, step := range []struct {
		name   string
		gone   string // whose flows may end
		change func(*datapath.Service)
	}{
		{"nothing", "", func(*datapath.Service) {}},
		{"weights", "", func(x *datapath.Service) { x.Backends[0].Weight, x.Backends[1].Weight = 9, 2 }},
		{"drained", "", func(x *datapath.Service) { x.Backends[0].Weight = 0 }},
		{"another seed", "", func(x *datapath.Service) { x.Balance.Seed++ }},
		{"a backup", "", func(x *datapath.Service) { x.Backends[1].Backup = true }},
		{"another one is down", "backend3", func(x *datapath.Service) { x.Down[2] = true }},
		{"up again", "", func(x *datapath.Service) { x.Down[2], x.Backends[0].Weight, x.Backends[1].Backup = false, 1, false }},
		{"another one is removed", "backend3", func(x *datapath.Service) { x.Backends, x.Down = x.Backends[:2], x.Down[:2] }},
		{"one is added", "", func(x *datapath.Service) {
			at := netip.AddrPortFrom(s.BackendAddrs[2], 8080)
			x.Backends, x.Down = append(slices.Clone(x.Backends), model.Backend{Address: at, Weight: 3}), make([]bool, 3)
		}},
		{"slow start", "", func(x *datapath.Service) { x.Shares = []int{20, 20, 2} }},
	} {
		talks = slices.DeleteFunc(talks, func(talk openTalk) bool { return talk.message == step.gone })
		for i := range r.want.Services {
			step.change(&r.want.Services[i])
		}
		r.apply()
		for _, talk := range talks {
			if a, err := talk.Ask(); err != nil || a.Message != talk.message {
				t.Errorf("%s: a connection to %s has moved from %s to %q, %v", step.name, talk.service, talk.message, a.Message, err)
			}
		}
		talks = append(talks, openToAll(t, s, 6)...)
	}
}

// TestTurnsPassOverWhoIsDown takes backends out and has them back.
func TestTurnsPassOverWhoIsDown(t *testing.T) {
	s := newStage(t, testenv.RigOptions{})
	configure(s, "")
	r := reconciled(t, s)
	service := &r.want.Services[0]
	ask := func(n int) map[string]int {
		t.Helper()
		got := map[string]int{}
		for range n {
			a, err := s.Get(0, web)
			if err != nil {
				t.Fatal(err)
			}
			got[a.Message]++
		}
		return got
	}
	for round := range slow(6, 60) {
		out := round % 3
		name := fmt.Sprintf("backend%d", out+1)
		service.Down[out] = true
		r.apply()
		for again := range 4 { // whatever else changes
			if got := ask(4); got[name] > 0 {
				t.Errorf("round %d, %d: %s is down and has %v", round, again, name, got)
			}
			service.Backends[(out+1)%3].Weight = 1 + again%2
			service.OnDown = []model.DownPolicy{model.DownReset, model.DownKeep}[again%2]
			r.apply()
		}
		service.Down[out], service.Backends[(out+1)%3].Weight = false, 1
		r.apply()
		if got := ask(3); len(got) != 3 {
			t.Errorf("round %d: with all up, connections go to %v", round, got)
		}
	}
}

// TestSharesOfTheProxy has connections of every method go on in user space.
func TestSharesOfTheProxy(t *testing.T) {
	s := newStage(t, testenv.RigOptions{})
	everyMethod(s, "xdp: off", 3, 2, 1)
	s.StartAgent()
	const n = 240
	ideal := map[string]int{"backend1": n / 2, "backend2": n / 3, "backend3": n / 6}
	got := map[string]map[string]int{}
	for _, talk := range openToAll(t, s, n) {
		if got[talk.service] == nil {
			got[talk.service] = map[string]int{}
		}
		got[talk.service][talk.message]++
	}
	for _, m := range methods {
		limit := 1
		switch m {
		case model.SourceHash:
			if len(got[string(m)]) != 1 {
				t.Errorf("%s: one client has %v", m, got[string(m)])
			}
			continue
		case model.Maglev, model.Random:
			limit = n / 6 // five standard deviations of dice
		case model.P2C:
			limit = n / 20
		}
		for name, want := range ideal {
			if off := got[string(m)][name] - want; off > limit || off < -limit {
				t.Errorf("%s: connections %v, want %v give or take %d", m, got[string(m)], ideal, limit)
				break
			}
		}
	}
	t.Log(strings.ReplaceAll(fmt.Sprint(got), "backend", ""))
}
