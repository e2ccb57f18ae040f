package e2e

import (
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"

	"fairlead/testenv"
	"fairlead/testenv/stage"
	"fairlead/userspace/view"
)

// TestChurnFailsNobody changes weights and services over and over while two
// clients open one connection after the other: each gets its answer, and the
// counters know them all.
func TestChurnFailsNobody(t *testing.T) {
	s := newStage(t, testenv.RigOptions{Clients: 2})
	rng := rand.New(rand.NewPCG(1, 2))
	write := func(weights [3]int, more int) {
		extra := ""
		for i := range more {
			extra += fmt.Sprintf("  - {name: more%d, listen: %s:%d, backends: %s, health: {type: none}}\n", i, vip, 1000+i, s.BackendList(8080))
		}
		s.Configure("interfaces: %s\nservices:\n  - {name: web, listen: %s:80, backends: %s, health: {type: none}}\n%s",
			s.Links(), vip, s.BackendList(8080, weights[:]...), extra)
	}
	write([3]int{1, 1, 1}, 0)
	agent := s.StartAgent()
	stop := keepAsking(t, s)
	for range slow(10, 500) {
		weights := [3]int{1 + rng.IntN(3), rng.IntN(3), rng.IntN(3)}
		more := rng.IntN(40) // beyond what the maps were made for
		write(weights, more)
		agent.Signal(syscall.SIGHUP)
		s.AwaitView("new configuration", func(v *view.View) bool {
			if len(v.Services) != 1+more {
				return false
			}
			for i, b := range v.Services[0].Backends {
				if b.Weight != weights[i] {
					return false
				}
			}
			return true
		})
	}
	asked := stop()
	for _, row := range s.ServiceRows() {
		if row.Name == "web" && row.Flows != uint64(asked) {
			t.Errorf("the kernel made %d flows for %d connections", row.Flows, asked)
		}
	}
	t.Logf("%d connections", asked)
	if code := agent.Stop(syscall.SIGTERM); code != 0 {
		t.Errorf("agent ended with status %d", code)
	}
}

// keepAsking has every client open one connection after the other until the
// function that it returns is called, which returns how many there were. Each
// must get an answer.
func keepAsking(t *testing.T, s *stage.Stage) (stop func() int64) {
	t.Helper()
	var ends []func() (int, error)
	for client := range s.Clients {
		ends = append(ends, overAndOver(func() error {
			_, err := s.Get(client, web)
			return err
		}))
	}
	return func() (asked int64) {
		t.Helper()
		for client, end := range ends {
			n, err := end()
			if err != nil {
				t.Errorf("client %d, request after %d others: %v", client, n, err)
			}
			asked += int64(n)
		}
		return asked
	}
}
