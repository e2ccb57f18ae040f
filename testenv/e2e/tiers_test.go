package e2e

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"fairlead/testenv"
	"fairlead/testenv/stage"
)

// TestTwoTiers has XDP forward a virtual address to two balancers in HTTP mode,
// which send the requests to the servers of all hosts.
func TestTwoTiers(t *testing.T) {
	s := newStage(t, testenv.RigOptions{})
	second := s.BackendAddrs[:2]
	var tier []*stage.Process
	for i := range second {
		args := []string{"FAIRLEAD_RUN_DIR=" + filepath.Join(s.Dir, fmt.Sprint("tier", i)), programs.Fairlead, "run", "-p", "8000", "-prometheus-port", "9100"}
		for _, server := range s.BackendAddrs {
			args = append(args, "-b", fmt.Sprintf("http://%s:8080", server))
		}
		cmd := s.Command("env", args...)
		cmd.Env = []string{"LC_ALL=C", "FAIRLEAD_STATE_DIR=off"} // no configuration file
		tier = append(tier, s.StartCommand(s.Backends[i], cmd))
	}
	for _, p := range tier {
		p.AwaitOutput("msg=ready")
	}
	s.Configure(`
interfaces: %s
services:
  - name: web
    listen: %s:80
    backends: [{address: "%s:8000"}, {address: "%s:8000"}]
    health: {type: http, path: /health, interval: 100ms, timeout: 100ms, rise: 1, fall: 2}
`, s.Links(), vip, second[0], second[1])
	s.StartAgent()

	answer, err := s.Get(0, web+"a/b%2Fc?q")
	if err != nil || !strings.Contains(answer.Body, "GET /a/b%2Fc?q") {
		t.Errorf("answer %+v, error %v", answer, err)
	}
	count, err := s.Spread(0, web, 60)
	if err != nil || len(count) != 3 {
		t.Errorf("answers %v, error %v", count, err)
	}
	if by := through(t, s, 20); len(by) != 2 {
		t.Errorf("requests went through %v", by)
	}

	tier[0].Kill()
	s.AwaitHealth(0, false)
	if count, err = s.Spread(0, web, 60); err != nil || len(count) != 3 {
		t.Errorf("answers %v, error %v after a balancer was killed", count, err)
	}
	if by := through(t, s, 20); len(by) != 1 || by[second[1]] == 0 {
		t.Errorf("requests went through %v", by)
	}
}

// through returns how many of n requests came to servers from each address.
func through(t *testing.T, s *stage.Stage, n int) map[netip.Addr]int {
	t.Helper()
	by := map[netip.Addr]int{}
	for range n {
		answer, err := s.Get(0, web)
		if err != nil {
			t.Fatal(err)
		}
		from, err := netip.ParseAddrPort(answer.Client)
		if err != nil {
			t.Fatal(err)
		}
		by[from.Addr().Unmap()]++
	}
	return by
}
