package main

import (
	"context"
	"net/netip"
	"strings"
	"testing"

	"fairlead/loader"
	"fairlead/userspace/datapath"
	"fairlead/userspace/kernel"
	"fairlead/userspace/model"
	"fairlead/userspace/view"
)

// explainedWith returns what explain prints of an explanation that edit has
// changed, beside an agent that tells v.
func explainedWith(t *testing.T, edit func(*datapath.Explanation), v *view.View) string {
	t.Helper()
	w := world{
		explain: func(_ context.Context, _ string, q loader.Question, _ string) (*datapath.Explanation, error) {
			e := explained(q)
			edit(e)
			return e, nil
		},
		agent: func(string, string) *view.View { return v },
	}
	code, out, errOut := run(t, w, "explain", "--from", "10.1.2.3:40000", "--to", "203.0.113.10:80")
	if code != 0 || errOut != "" {
		t.Fatalf("status %d, stderr %q", code, errOut)
	}
	return out
}

func TestExplainSpeaksOfTheClientsOwnZone(t *testing.T) {
	v := &view.View{Services: []view.Service{{
		Name: "web", Zone: "east", Serving: model.ServingZone,
		ClientZones: map[string]model.Serving{"west": model.ServingPanic, "south": model.ServingZone},
	}}}
	for zone, want := range map[string][]string{
		"":      {"the backends of this host's zone alone", "served as from this host's zone, east", "not for this host's zone, east, which has others"},
		"west":  {"all backends, down or not: too few are up (panic-threshold)", "not for the client's zone, which has others"},
		"south": {"the backends of the client's zone alone"},
	} {
		out := explainedWith(t, func(e *datapath.Explanation) {
			e.ClientZone = &zone
			e.Choice.Rest = []datapath.Other{{Backend: "10.2.1.4:8080", Why: datapath.WhyClientZone}}
		}, v)
		for _, text := range want {
			if !strings.Contains(out, text+"\n") {
				t.Errorf("zone %q: %q is not in:\n%s", zone, text, out)
			}
		}
	}
}

func TestExplainSaysWhetherTheProxyServes(t *testing.T) {
	proxied := func(e *datapath.Explanation) {
		e.Service.Rung, e.Choice, e.Out = "proxy", nil, nil
		e.Verdict, e.VerdictName = loader.LBVerdictPASS_PROXY, loader.LBVerdictPASS_PROXY.String()
	}
	denied := netip.MustParsePrefix("10.1.2.0/24")
	v := &view.View{Services: []view.Service{{Name: "web", Reason: "forward: proxy"}}}
	for _, row := range []struct {
		name string
		edit func(*datapath.Explanation)
		want []string
	}{
		{"an agent", func(*datapath.Explanation) {}, []string{"which the proxy serves (forward: proxy)", "where the proxy of the agent (fairlead run) serves it"}},
		{"none", kernel.LeaveAlone, []string{"which nobody serves (it is the proxy's, and no agent runs)", "where nobody serves it: it is the proxy's, and no agent runs"}},
		{
			"a client that is denied", func(e *datapath.Explanation) { e.Client = &datapath.ExplainedClient{Rule: &denied} },
			[]string{"denied, as 10.1.2.0/24", "where the proxy of the agent (fairlead run) refuses the client"},
		},
	} {
		out := explainedWith(t, func(e *datapath.Explanation) { proxied(e); row.edit(e) }, v)
		for _, text := range row.want {
			if !strings.Contains(out, text+"\n") {
				t.Errorf("%s: %q is not in:\n%s", row.name, text, out)
			}
		}
	}
}

func TestExplainKnowsFlowsOfPacketsThatAreTooBig(t *testing.T) {
	for _, v := range []loader.Verdict{loader.LBVerdictANSWER_TOO_BIG, loader.LBVerdictDROP_TOO_BIG} {
		out := explainedWith(t, func(e *datapath.Explanation) { e.Verdict, e.VerdictName = v, v.String() }, nil)
		if !strings.Contains(out, "new: this packet would make it\n") {
			t.Errorf("%s: not new in:\n%s", v, out)
		}
	}
}

func TestExplainKnowsResponseTimeFromTheAgent(t *testing.T) {
	v := &view.View{Services: []view.Service{{Name: "web", Balance: model.ResponseTime}}}
	out := explainedWith(t, func(e *datapath.Explanation) {
		e.Choice.Balance = "round-robin"
		e.Choice.Tries[1].Hash = ""
	}, v)
	for _, text := range []string{"by slot 65000 of 65537 (response-time)", "not its turn"} {
		if !strings.Contains(out, text+"\n") {
			t.Errorf("%q is not in:\n%s", text, out)
		}
	}
}
