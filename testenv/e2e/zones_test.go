package e2e

import (
	"fmt"
	"maps"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"fairlead/testenv"
	"fairlead/testenv/stage"
	"fairlead/userspace/model"
	"fairlead/userspace/view"
)

// configureZones writes service web with its first backend in the east, where the
// balancer is, and the others in the west, and in which zone its clients are.
func (w way) configureZones(s *stage.Stage, clients string) {
	var backends []string
	for i, addr := range s.BackendAddrs {
		backends = append(backends, fmt.Sprintf("{address: '%s:8080', zone: %s}", addr, []string{"east", "west"}[min(i, 1)]))
	}
	s.Configure(`
interfaces: %s
%s
zone: east
client-zones: %s
services:
  - name: web
    listen: %s:80
    forward: %s
    panic-threshold: 0
    backends: [%s]
    health: {type: http, path: /health, interval: 1s, timeout: 1s, rise: 1, fall: 1}
`, s.Links(), w.top, clients, vip, w.forward, strings.Join(backends, ", "))
}

// wantShares asserts how 12 requests of a client are shared.
func wantShares(t *testing.T, s *stage.Stage, what string, client int, want map[string]int) {
	t.Helper()
	got, err := s.Spread(client, web, 12)
	if err != nil {
		t.Errorf("%s: %v", what, err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s: requests of client %d (-want +got):\n%s", what, client, diff)
	}
}

// TestClientsOfZonesGetBackendsOfTheirs has a client of no zone, one of the west
// and one of a zone without backends.
func TestClientsOfZonesGetBackendsOfTheirs(t *testing.T) {
	for name, w := range map[string]way{"xdp": {"", "dnat", true}, "xdp off": {"xdp: off", "dnat", false}} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t, testenv.RigOptions{Clients: 3})
			w.configureZones(s, fmt.Sprintf("{west: [10.1.2.0/24], north: ['%s']}", s.ClientAddrs[2]))
			agent := s.StartAgent()
			for i := range s.Backends {
				s.AwaitHealth(i, true)
			}
			east := map[string]int{"backend1": 12}
			wantShares(t, s, "all up", 0, east)
			wantShares(t, s, "all up", 1, map[string]int{"backend2": 6, "backend3": 6})
			wantShares(t, s, "all up", 2, map[string]int{"backend1": 4, "backend2": 4, "backend3": 4})
			talk, err := s.Dial(1, vip+":80")
			if err != nil {
				t.Fatal(err)
			}
			a, err := talk.Ask()
			if err != nil {
				t.Fatal(err)
			}
			if w.xdp {
				wantZonesTold(t, s)
			}

			// The client of the west moves east, but for what is open.
			w.configureZones(s, fmt.Sprintf("{east: ['%s'], west: [10.1.0.0/16]}", s.ClientAddrs[1]))
			agent.Signal(syscall.SIGHUP)
			agent.AwaitOutput("configuration taken")
			wantShares(t, s, "others in the west", 0, map[string]int{"backend2": 6, "backend3": 6})
			wantShares(t, s, "others in the west", 1, east)
			wantAnswer(t, talk, a.Message)

			s.Servers[1].Kill()
			s.AwaitHealth(1, false)
			wantShares(t, s, "half of the west down", 2, map[string]int{"backend3": 12})
			s.Servers[2].Kill()
			s.AwaitHealth(2, false)
			wantShares(t, s, "the west down", 2, east)
			s.AwaitView("others to serve the west", func(v *view.View) bool {
				zones := v.Services[0].ClientZones
				return zones["east"] == model.ServingZone && zones["west"] == model.ServingUp
			})
		})
	}
}

// wantZonesTold asks the programs for what TestClientsOfZonesGetBackendsOfTheirs
// has configured.
func wantZonesTold(t *testing.T, s *stage.Stage) {
	t.Helper()
	wantNoChanges(t, s)
	if text := s.Loader("maps", "services").OK(t); !strings.Contains(text, "north 3, west 2") {
		t.Errorf("slots by zone are not in:\n%s", text)
	}
	for client, want := range []string{
		" is in none of the service's client-zones: served as from this host's zone, east\n", " is in zone west\n", " is in zone north\n",
	} {
		from := s.ClientAddrs[client].String()
		text := s.Loader("explain", "--from", from+":30000", "--to", vip+":80").OK(t)
		if !strings.Contains(text, "client "+from+want) {
			t.Errorf("%q is not in:\n%s", want, text)
		}
		if client == 1 && !strings.Contains(text, s.BackendAddrs[0].String()+":8080: not for the client's zone") {
			t.Errorf("the backend of the east is not left out for its zone:\n%s", text)
		}
	}
	way{forward: "dnat"}.configureZones(s, fmt.Sprintf("{west: [10.1.0.0/16], north: ['%s']}", s.ClientAddrs[2]))
	p := plan(t, s)
	got := map[string]string{}
	for _, f := range p.Settings {
		got[f.Field] = f.To
	}
	if want := map[string]string{"client-zones": "1 new or changed, 1 gone"}; !maps.Equal(got, want) {
		t.Errorf("settings change to %v, want %v", got, want)
	}
}
