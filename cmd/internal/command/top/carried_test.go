package top

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"fairlead/cmd/internal/command/status"
	"fairlead/userspace/model"
	"fairlead/userspace/view"
)

// proxiedAt is an agent without XDP some seconds after it began: an HTTP service with
// 10 requests a second on 2 connections, one of TCP, and one of UDP.
func proxiedAt(second uint64, at time.Time) *status.Status {
	return status.Told(&view.View{PID: 7, Written: at, XDP: view.XDP{Mode: model.XDPOff}, Services: []view.Service{
		{
			Name: "site", Listen: "203.0.113.10:80", Protocol: "tcp", Rung: view.RungHTTP, Proxied: &view.Proxied{Connections: 2 * second, Active: 5, Requests: 10 * second},
			Backends: []view.Backend{
				{Address: "10.2.1.2:80", Pool: "main", Weight: 1, Serves: true, Up: true, Flows: 4, Proxied: &view.Proxied{Requests: 7 * second}},
				{Address: "10.2.1.2:80", Pool: "images", Weight: 1, Serves: true, Up: true, Flows: 1, Proxied: &view.Proxied{Requests: 3 * second}},
			},
		},
		{
			Name: "tcp", Listen: "203.0.113.10:81", Protocol: "tcp", Rung: view.RungProxy, Proxied: &view.Proxied{Connections: second, Active: 3, ToBackends: 100 * second, ToClients: 200 * second},
			Backends: []view.Backend{{Address: "10.2.1.3:81", Weight: 1, Serves: true, Up: true, Flows: 3, Proxied: &view.Proxied{Connections: second}}},
		},
		{
			Name: "dns", Listen: "203.0.113.10:53", Protocol: "udp", Rung: view.RungProxy, Proxied: &view.Proxied{Connections: 4 * second, Active: 6, ToBackends: 8 * second, ToClients: 9 * second},
			Backends: []view.Backend{{Address: "10.2.1.4:53", Weight: 1, Serves: true, Up: true, Flows: 6}},
		},
	}}, nil, at)
}

// cells are those of batch lines after the state, up to the latency.
func cells(s *Sample) (all []string) {
	for line := range strings.Lines(batchLines(s)) {
		if f := strings.Fields(strings.Replace(line, "proxy (http)", "http", 1)); len(f) == 14 {
			all = append(all, strings.Join(f[1:11], " "))
		}
	}
	return all
}

func TestWhatProxiesCarryIsShownWithoutXDP(t *testing.T) {
	at := time.Date(2030, 1, 2, 12, 0, 0, 0, time.UTC)
	read := func(second uint64) *reading {
		now := at.Add(time.Duration(second) * time.Second)
		return newReading(proxiedAt(second, now), nil, now)
	}
	first, same, second := read(10), read(10), read(12)
	if s := first.since(nil); s.Services[0].Live != 5 || s.Services[0].Rates != nil || s.Total.Live != 14 {
		t.Errorf("a first sample is %+v", s)
	}
	same.since(first)
	s := second.since(same)
	sortSample(s, orders[0])
	want := []string{
		"dns - proxy 6 4.0 - - 8.0 - 9.0", "dns 10.2.1.4:53 up 6 - - - - - -",
		"site - http 5 2.0 10.0 - - - -", "site main/10.2.1.2:80 up 4 - 7.0 - - - -", "site images/10.2.1.2:80 up 1 - 3.0 - - - -",
		"tcp - proxy 3 1.0 - - 100.0 - 200.0", "tcp 10.2.1.3:81 up 3 1.0 - - - - -",
	}
	if diff := cmp.Diff(want, cells(s)); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if s.Seconds != 2 || s.Total.Rates.Requests != 10 || s.Total.Rates.Flows != 7 || s.Reason != "xdp is off" {
		t.Errorf("%g s, total %+v, %q", s.Seconds, *s.Total.Rates, s.Reason)
	}
	if got := s.lines()[4]; got.name != "  main/10.2.1.2:80" || s.Services[1].Backends[0].Pool != "main" {
		t.Errorf("the fourth line is %+v, of pool %q", got, s.Services[1].Backends[0].Pool)
	}
	head := (&screen{sample: s, order: orders[0], interval: time.Second}).head()
	if fmt.Sprint(head[1:]) != "[rates of the agent's proxies alone: xdp is off agent pid 7, alive]" {
		t.Errorf("head %q", head)
	}
}

// TestAnAgentThatBeganAgain has counted as many connections as the one before it, but
// fewer bytes.
func TestAnAgentThatBeganAgain(t *testing.T) {
	at := time.Date(2030, 1, 2, 12, 0, 0, 0, time.UTC)
	read := func(second, connections, bytes uint64) *reading {
		now := at.Add(time.Duration(second) * time.Second)
		s := proxiedAt(second, now)
		s.Agent.Services[1].Proxied = &view.Proxied{Connections: connections, ToBackends: bytes, ToClients: bytes}
		return newReading(status.Told(s.Agent, nil, now), nil, now)
	}
	s := read(12, 1, 20).since(read(10, 1, 1e6))
	sortSample(s, orders[0])
	if r := s.Services[2].Rates; r.ForwardBytes != 10 || r.ReplyBytes != 10 || r.Flows != 0.5 {
		t.Errorf("rates %+v", *r)
	}
}

func TestTheProxiesAreAddedToTheKernel(t *testing.T) {
	at := time.Now()
	read := func(second uint64) *reading {
		now := at.Add(time.Duration(second) * time.Second)
		s := proxiedAt(second, now)
		x := s.Agent.Services
		x[0].Listen, x[1].Listen, x[1].Name = "203.0.113.10:90", "203.0.113.10:80-81", "web"
		return newReading(status.Told(s.Agent, countedAt(second, now), now), nil, now)
	}
	before := read(10)
	s := read(12).since(before)
	for _, v := range s.Services {
		if v.Name == "web" && (v.Rates.Flows != 12 || v.Rates.ForwardBytes != 11100 || v.Rates.ForwardPackets != 110 || v.Live != 1006) {
			t.Errorf("web: %+v, %d live; want the sums of kernel and proxy", *v.Rates, v.Live)
		}
	}
	if s.Total.Rates.Requests != 10 || s.Switch != "on" {
		t.Errorf("total %+v, switch %q", *s.Total.Rates, s.Switch)
	}
}
