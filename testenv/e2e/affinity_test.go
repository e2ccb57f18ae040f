package e2e

import (
	"fmt"
	"strings"
	"testing"

	"fairlead/testenv"
	"fairlead/testenv/stage"
	"fairlead/userspace/view"
)

// TestATieHoldsNobodyAtADeadBackend has a client of the east stay with one of two
// backends there. It dies, and so does the only one of the west: the panic of the
// west's clients, for whom it counts as up, is none of the east's.
func TestATieHoldsNobodyAtADeadBackend(t *testing.T) {
	s := newStage(t, testenv.RigOptions{Clients: 2})
	var backends []string
	for i, addr := range s.BackendAddrs {
		backends = append(backends, fmt.Sprintf("{address: '%s:8080', zone: %s}", addr, []string{"east", "west"}[i/2]))
	}
	s.Configure(`
interfaces: %s
zone: east
client-zones: {west: [10.1.2.0/24]}
services:
  - {name: web, listen: %s:80, affinity: {source: 1h}, zone-threshold: 50, panic-threshold: 50, backends: [%s],
     health: {type: http, path: /health, interval: 1s, timeout: 1s, rise: 1, fall: 1}}
`, s.Links(), vip, strings.Join(backends, ", "))
	s.StartAgent()
	for i := range s.Backends {
		s.AwaitHealth(i, true)
	}
	answer, err := s.Get(0, web)
	if err != nil {
		t.Fatal(err)
	}
	tied := 0
	if answer.Message == s.Backends[1].Name {
		tied = 1
	}
	s.Servers[tied].Kill()
	s.Servers[2].Kill()
	s.AwaitView("two to be down", func(v *view.View) bool {
		b := v.Services[0].Backends
		return !b[tied].Up && !b[2].Up
	})
	stage.Await(t, "the living backend to serve its client", func() error {
		_, err := s.Get(0, web)
		return err
	})
}
