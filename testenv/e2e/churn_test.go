package e2e

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"fairlead/testenv"
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
	var asked, failed atomic.Int64
	var wg sync.WaitGroup
	end := make(chan struct{})
	for client := range s.Clients {
		wg.Go(func() {
			for {
				select {
				case <-end:
					return
				default:
				}
				asked.Add(1)
				if _, err := s.Get(client, web); err != nil {
					failed.Add(1)
					t.Errorf("request %d: %v", asked.Load(), err)
				}
			}
		})
	}
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
	close(end)
	wg.Wait()
	for _, row := range s.ServiceRows() {
		if row.Name == "web" && row.Flows != uint64(asked.Load()) {
			t.Errorf("the kernel made %d flows for %d connections", row.Flows, asked.Load())
		}
	}
	t.Logf("%d connections, %d failed", asked.Load(), failed.Load())
	if code := agent.Stop(syscall.SIGTERM); code != 0 {
		t.Errorf("agent ended with status %d", code)
	}
}
