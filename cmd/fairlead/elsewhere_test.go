package main

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"fairlead/cmd/internal/command/top"
	"fairlead/userspace/admin/adminpb"
)

// GetStatus and GetStats count how often they were asked. There are 20 new flows each
// 10 s.
func (b *balancer) GetStatus(context.Context, *adminpb.GetStatusRequest) (*adminpb.Status, error) {
	_, _ = b.made("GetStatus", &adminpb.GetStatusRequest{})
	return &adminpb.Status{Pid: 7, Revision: 8, Xdp: &adminpb.XDP{Mode: "auto"}}, nil
}

func (b *balancer) GetStats(context.Context, *adminpb.GetStatsRequest) (*adminpb.Stats, error) {
	_, _ = b.made("GetStats", &adminpb.GetStatsRequest{})
	b.counted++
	return &adminpb.Stats{
		Time: at(10 * b.counted), Switch: "on", HeldFlows: 5, FlowTable: 196608, Verdicts: map[string]uint64{"pass_other": 3},
		Services: []*adminpb.ServiceStats{{
			Name: "web", Listen: "203.0.113.10:80", Protocol: "tcp", Connections: 13, Counters: &adminpb.Counters{Flows: uint64(20 * b.counted)},
			Backends: []*adminpb.BackendStats{{Address: "10.0.0.1:80", State: "up", Connections: 12, Counters: &adminpb.Counters{Flows: 8}}},
		}},
	}, nil
}

func TestTopAsksAnotherAgent(t *testing.T) {
	b, socket := lb(t)
	code, out, errOut := run(t, t.Context(), world{}, "top", "--lb", socket, "--batch", "--count", "1", "--interval", "100ms", "-o", "json")
	if code != 0 || errOut != "" {
		t.Fatalf("status %d, stderr %q", code, errOut)
	}
	var s top.Sample
	if err := json.Unmarshal([]byte(out), &s); err != nil {
		t.Fatal(err)
	}
	if s.Switch != "on" || s.Held != 5 || s.Room != 196608 || s.Health != "agent pid 7, alive" || len(s.Services) != 2 {
		t.Errorf("%+v", s)
	}
	if w := s.Services[1]; w.Name != "web" || w.Rung != "xdp-native" || w.Live != 13 || w.Rates == nil || w.Rates.Flows != 2 || w.Backends[0].State != "waits" || w.Backends[0].Live != 12 {
		t.Errorf("%+v", w)
	}
	if said := b.said(); strings.Count(said, "GetStats") != 2 {
		t.Errorf("asked\n%s", said)
	}
	code, _, errOut = run(t, t.Context(), world{}, "top", "--lb", "10.0.0.1:9443", "--batch")
	if code != 2 || !strings.Contains(errOut, "TCP is spoken with TLS only") {
		t.Errorf("status %d, stderr %q", code, errOut)
	}
}
