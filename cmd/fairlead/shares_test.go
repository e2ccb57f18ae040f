package main

import (
	"context"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"fairlead/userspace/kernel"
	"fairlead/userspace/model"
	"fairlead/userspace/view"
)

// threeBackends is a service of three, of which [toldOfTwo] tells two.
func threeBackends() model.Service {
	return model.Service{
		Listen: netip.MustParseAddrPort("203.0.113.10:80"), LastPort: 80, Protocol: model.TCP, SlowStart: time.Minute, Health: model.Check{Type: model.CheckTCP},
		Backends: []model.Backend{
			{Address: netip.MustParseAddrPort("10.2.1.2:8080")}, {Address: netip.MustParseAddrPort("10.2.1.3:8080")}, {Address: netip.MustParseAddrPort("10.2.1.4:8080")},
		},
	}
}

func toldOfTwo() *view.View {
	told := view.Service{Listen: "203.0.113.10:80", Protocol: model.TCP, Backends: []view.Backend{
		{Address: "10.2.1.2:8080", Share: 100, Up: true}, {Address: "10.2.1.3:8080", Share: 35},
	}}
	other := told
	other.Protocol = model.UDP
	return &view.View{Services: []view.Service{other, told}}
}

func TestSharesAreWhatTheAgentTells(t *testing.T) {
	s, state := threeBackends(), model.State{}
	if told := toldBy(nil, &state); told.Shares != nil || told.Down != nil {
		t.Error("where no agent tells anything, something is told")
	}
	of := toldBy(toldOfTwo(), &state).Shares
	if got, want := of(&s), []int{20, 7, 2}; !slices.Equal(got, want) {
		t.Errorf("shares %v, want %v: whole, as told, and at its beginning", got, want)
	}
	s.SlowStart = 0
	if got := of(&s); got != nil {
		t.Errorf("of a service that nobody starts slowly in, shares are %v", got)
	}
}

// TestWhoIsDownIsWhatTheAgentTells has a backend that is down join another
// service.
func TestWhoIsDownIsWhatTheAgentTells(t *testing.T) {
	s := threeBackends()
	joined := s
	joined.Listen, joined.LastPort = netip.MustParseAddrPort("203.0.113.11:80"), 80
	other, unchecked := joined, joined
	other.Health.Type, unchecked.Health.Type = model.CheckUDP, model.CheckNone
	of := toldBy(toldOfTwo(), &model.State{Services: []model.Service{s, joined}}).Down
	for _, row := range []struct {
		name    string
		service model.Service
		want    []bool
	}{
		{"as told", s, []bool{false, true, false}},
		{"by the same check of another service", joined, []bool{false, true, false}},
		{"another check", other, make([]bool, 3)},
		{"no check", unchecked, make([]bool, 3)},
	} {
		if got := of(&row.service); !slices.Equal(got, row.want) {
			t.Errorf("%s: down %v, want %v", row.name, got, row.want)
		}
	}
}

func TestPlanSaysThatItDoesNotKnowTheAgentsView(t *testing.T) {
	w := world{plan: func(context.Context, string, *model.State, kernel.Told) (*kernel.Plan, error) {
		return &kernel.Plan{Attached: true, AgentPID: os.Getpid()}, nil
	}}
	config, dir, pins := configFile(t, goodConfig), t.TempDir(), t.TempDir()
	_, _, errOut := run(t, t.Context(), w, "plan", "--config", config, "--run-dir", dir, "--pin-dir", pins)
	if !strings.Contains(errOut, "--run-dir") || strings.Count(errOut, "\n") != 1 {
		t.Errorf("stderr %q, want a line about the run directory", errOut)
	}
	if err := view.Write(dir, view.View{PinDir: pins}); err != nil {
		t.Fatal(err)
	}
	if _, _, errOut = run(t, t.Context(), w, "plan", "--config", config, "--run-dir", dir, "--pin-dir", pins); errOut != "" {
		t.Errorf("stderr %q beside the view of the agent", errOut)
	}
}
