package main

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"fairlead/loader"
	"fairlead/testenv/golden"
	"fairlead/userspace/datapath"
	"fairlead/userspace/kernel"
	"fairlead/userspace/model"
	"fairlead/userspace/view"
)

func pointer(n int) *int { return &n }

// explained is a new flow whose first try fails.
func explained(q loader.Question) *datapath.Explanation {
	at := func(name, from, to string, ttl uint8) datapath.PacketView {
		return datapath.PacketView{
			Interface: name, Source: netip.MustParseAddrPort(from), Destination: netip.MustParseAddrPort(to), TTL: ttl,
			SourceMAC: "02:00:00:00:00:01", DestinationMAC: "02:00:00:00:00:02",
		}
	}
	out := at("eth1", q.From.String(), "10.2.1.3:8080", q.TTL-1)
	return &datapath.Explanation{
		Packet:  at("eth0", q.From.String(), q.To.String(), q.TTL),
		Service: &datapath.ExplainedService{Name: "web", Listen: "203.0.113.10:80", Protocol: "tcp", Rung: "xdp"},
		Choice: &datapath.Choice{
			Balance: "maglev", Promise: true, Slots: 65537,
			Tries: []datapath.Try{
				{Slot: pointer(7), Hash: "0x000000000000abcd", Backend: "10.2.1.2:8080", Verdict: "drop_no_neighbour"},
				{Slot: pointer(65000), Hash: "0x0000000000001234", Backend: "10.2.1.3:8080", Verdict: "forward_redirect"},
			},
			Rest: []datapath.Other{{Backend: "10.2.1.4:8080", Why: datapath.WhyDown}, {Backend: "10.2.1.5:8080", Why: datapath.WhyNotChosen}},
		},
		Verdict: loader.LBVerdictFORWARD_REDIRECT, VerdictName: "forward_redirect", Out: &out,
	}
}

func TestExplainSaysWhatItWasTold(t *testing.T) {
	var asked loader.Question
	var by string
	w := world{explain: func(_ context.Context, _ string, q loader.Question, iface string) (*datapath.Explanation, error) {
		asked, by = q, iface
		return explained(q), nil
	}}
	args := []string{"explain", "--from", "198.51.100.1:40000", "--to", "203.0.113.10:80", "--flags", "syn,psh", "--ttl", "9", "--length", "100", "-i", "eth0"}
	code, out, errOut := run(t, w, args...)
	if code != 0 || errOut != "" {
		t.Fatalf("status %d, stderr %q", code, errOut)
	}
	golden.Check(t, "explain.txt", out)
	want := loader.Question{
		From: netip.MustParseAddrPort("198.51.100.1:40000"), To: netip.MustParseAddrPort("203.0.113.10:80"),
		Flags: loader.TCPSyn | loader.TCPPsh, TTL: 9, Length: 100,
	}
	if diff := cmp.Diff(want, asked, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" || by != "eth0" {
		t.Errorf("asked for %s (-want +got):\n%s", by, diff)
	}
	_, out, _ = run(t, w, append(args, "-o", "json")...)
	golden.Check(t, "explain.json", out)
}

func TestExplainTellsOfFlows(t *testing.T) {
	known := func(state, direction, check string, anew bool) *datapath.ExplainedFlow {
		return &datapath.ExplainedFlow{State: state, Direction: direction, Backend: "10.2.1.2:8080", Idle: 1.25, Limit: 300, Check: check, Anew: anew}
	}
	gone := known("established", "forward", "gone", false)
	gone.Backend = ""
	for _, row := range []struct {
		flow *datapath.ExplainedFlow
		want string
	}{
		{nil, "none is known"},
		{known("established", "forward", "", false), "known, established, to backend 10.2.1.2:8080; last packet 1.2s ago, forgotten after 300s"},
		{known("fin", "reply", "down", false), "known, fin, from backend 10.2.1.2:8080; last packet 1.2s ago, forgotten after 300s; its backend is down"},
		{known("closed", "forward", "", true), "known, closed, to backend 10.2.1.2:8080; last packet 1.2s ago, forgotten after 300s; this packet begins another one"},
		{gone, "known, established, to a backend that is gone; last packet 1.2s ago, forgotten after 300s; its service or backend is there no more"},
	} {
		if got := flowText(&datapath.Explanation{Flow: row.flow}); got != row.want {
			t.Errorf("%q, want %q", got, row.want)
		}
	}
}

func TestExplainSaysTheClientsZone(t *testing.T) {
	for zone, want := range map[string]string{
		"eu": "client 10.1.2.3 is in zone eu", "": "client 10.1.2.3 is in none of the service's client-zones: served as from this host's zone",
	} {
		w := world{explain: func(_ context.Context, _ string, q loader.Question, _ string) (*datapath.Explanation, error) {
			e := explained(q)
			e.ClientZone = &zone
			return e, nil
		}}
		_, out, _ := run(t, w, "explain", "--from", "10.1.2.3:40000", "--to", "203.0.113.10:80")
		if !strings.Contains(out, want+"\n") {
			t.Errorf("%q is not in:\n%s", want, out)
		}
	}
}

func TestEveryChoiceHasAReason(t *testing.T) {
	busy := datapath.Load{Connections: 1, Weight: 2}
	for _, row := range []struct {
		balance string
		maxLoad uint32
		try     datapath.Try
		want    string
	}{
		{"round-robin", 0, datapath.Try{Slot: pointer(2)}, "by slot 2 of 6 (round-robin)"},
		{"p2c", 0, datapath.Try{Slot: pointer(2), Beside: pointer(4), Load: busy}, "the less busy of slots 4 and 2 of 6: 1 flow, weight 2 (p2c)"},
		{"least-connections", 0, datapath.Try{Load: busy}, "which has the fewest flows for its weight: 1 flow, weight 2 (least-connections)"},
		{"random", 0, datapath.Try{Tied: true}, "which the client's network has had before (affinity)"},
		{"maglev", 0, datapath.Try{Slot: pointer(2), Hash: "0x8"}, "by slot 2 of 6: hash 0x8 mod 6 (maglev)"},
		{"maglev", 125, datapath.Try{Slot: pointer(2), Hash: "0x8"}, "by slot 2 of 6: hash 0x8 mod 6, and its flows are within max-load 125% (maglev)"},
		{"maglev", 125, datapath.Try{}, "the least busy of those that the hash leads to, all of which have more than max-load 125% (maglev)"},
	} {
		if got := why(&datapath.Choice{Balance: row.balance, Slots: 6, MaxLoad: row.maxLoad}, &row.try); got != row.want {
			t.Errorf("%q, want %q", got, row.want)
		}
	}
}

func TestEveryVerdictHasWords(t *testing.T) {
	for v := range loader.Verdicts {
		if verdictWords[v] == "" {
			t.Errorf("%s has no words", v)
		}
	}
}

func TestExplainRefusesWrongPackets(t *testing.T) {
	const from, to = "--from 198.51.100.1:1 ", "--to 203.0.113.10:80 "
	for args, want := range map[string]string{
		from:                                  "--to is missing: say the packet's, as ADDRESS:PORT",
		to:                                    "--from is missing: say the packet's, as ADDRESS:PORT",
		from + "--to 203.0.113.10":            `--to is "203.0.113.10": use ADDRESS:PORT, such as 203.0.113.10:80 or [2001:db8::10]:80`,
		from + "--to 203.0.113.10:0":          `--to is "203.0.113.10:0": no packet has port 0, use 1 to 65535`,
		from + "--to 300.0.0.1:80":            `--to is "300.0.0.1:80": use ADDRESS:PORT, such as 203.0.113.10:80 or [2001:db8::10]:80`,
		from + "--to [fe80::1%eth0]:80":       `--to is "[fe80::1%eth0]:80": say the interface with --interface, not behind the address`,
		from + "--to [2001:db8::1]:80":        "--from 198.51.100.1:1 and --to [2001:db8::1]:80 are of two families: use IPv4 or IPv6 for both",
		from + to + "--proto sctp":            `--proto is "sctp": use tcp or udp`,
		from + to + "--flags urg":             `--flags has "urg": use fin, syn, rst, psh and ack`,
		from + to + "--proto udp --flags ack": "--flags are TCP's: leave them out with --proto udp",
		from + to + "--ttl 256":               "--ttl is 256: use 0 to 255",
		from + to + "--length 39":             "--length is 39: use 40 to 3000, or 0",
		from + to + "--length 3001":           "--length is 3001: use 40 to 3000, or 0",
		from + to + "-i a -i b":               "--interface names 2 interfaces: a packet comes in by one",
		from + to + "--bad":                   "unknown flag --bad: try loader explain --help",
	} {
		code, out, errOut := run(t, world{}, append([]string{"explain"}, strings.Fields(args)...)...)
		if code != 2 || out != "" || errOut != "loader: "+want+"\n" {
			t.Errorf("%s: status %d, stdout %q, stderr %q", args, code, out, errOut)
		}
	}
}

func TestExplainRefusesAnotherProgram(t *testing.T) {
	w := world{explain: func(context.Context, string, loader.Question, string) (*datapath.Explanation, error) {
		return nil, loader.ErrProgram
	}}
	code, _, errOut := run(t, w, "explain", "--from", "198.51.100.1:1", "--to", "203.0.113.10:80")
	if want := "loader: the attached program is of another version: run `loader attach`\n"; code != 3 || errOut != want {
		t.Errorf("status %d, stderr %q", code, errOut)
	}
}

func TestAgentsKnowWhyBackendsWait(t *testing.T) {
	known := func(w datapath.Why) *datapath.Explanation {
		return &datapath.Explanation{
			Service: &datapath.ExplainedService{Name: "web", Rung: "proxy"},
			Choice:  &datapath.Choice{Balance: "random", Rest: []datapath.Other{{Backend: "10.2.1.2:8080", Why: w}}},
		}
	}
	now := time.Now()
	for want, b := range map[string]view.Backend{
		"draining: its weight is 0":                  {},
		"draining: the configuration has it no more": {Weight: 1, Drains: &now},
		"waits as backup":                            {Weight: 1, Backup: true, Zone: "west"},
		"waits in zone west":                         {Weight: 1, Zone: "west"},
		"waits: it is in no zone":                    {Weight: 1},
	} {
		b.Address = "10.2.1.2:8080"
		v := &view.View{Services: []view.Service{{Name: "dns"}, {Name: "web", Serving: model.ServingPanic, Reason: "no XDP", Backends: []view.Backend{b}}}}
		e := known(datapath.WhyNoWeight)
		kernel.AddAgent(e, v)
		if got := whyNot(e, &e.Choice.Rest[0]); got != want {
			t.Errorf("%q, want %q", got, want)
		}
		if e.Service.Reason != "no XDP" || e.Service.Serving != model.ServingPanic {
			t.Errorf("service is told as %+v", e.Service)
		}
		down := known(datapath.WhyDown)
		if kernel.AddAgent(down, v); down.Choice.Rest[0].Why != datapath.WhyDown {
			t.Errorf("who is down is told as %+v", down.Choice.Rest)
		}
	}
	e := known(datapath.WhyNoWeight)
	if kernel.AddAgent(e, nil); e.Choice.Rest[0].Why != datapath.WhyNoWeight {
		t.Errorf("without an agent: %+v", e.Choice.Rest)
	}
}
