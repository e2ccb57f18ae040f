package daemon

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"fairlead/userspace/config"
	"fairlead/userspace/datapath"
	"fairlead/userspace/kernel"
	"fairlead/userspace/model"
	"fairlead/userspace/view"
)

func drained(s *model.Service) { s.Drain = time.Minute }

// addresses returns the backends of the only service, with a - at those that
// leave.
func addresses(state *model.State) (all string) {
	for _, b := range state.Services[0].Backends {
		if b.Leaving {
			all += "-"
		}
		all += b.Address.String() + " "
	}
	return strings.TrimSpace(all)
}

func TestDrainsEndWithTheirFlowsOrTheirTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := drains{}
		before := oneService(drained, "10.2.1.2:80", "10.2.1.3:80", "10.2.1.4:80")
		state := oneService(drained, "10.2.1.2:80")
		d.keep(state, hadBy(before))
		if got := addresses(state); got != "10.2.1.2:80 -10.2.1.3:80 -10.2.1.4:80" {
			t.Fatalf("backends %s", got)
		}
		if left := d.without(state, [][]int{{1, 1, 1}}); left != nil {
			t.Errorf("backends %s while all have flows", addresses(left))
		}
		time.Sleep(50 * time.Second)
		again := oneService(drained, "10.2.1.2:80")
		d.keep(again, hadBy(state)) // read again: no time is won
		if left := d.without(again, nil); left != nil {
			t.Errorf("backends %s while flows are not known", addresses(left))
		}
		state = d.without(again, [][]int{{0, 0, 1}})
		if state == nil || addresses(state) != "10.2.1.2:80 -10.2.1.4:80" {
			t.Fatalf("state %+v, want one without a backend without flows", state)
		}
		if got := addresses(again); got != "10.2.1.2:80 -10.2.1.3:80 -10.2.1.4:80" {
			t.Errorf("the state before has become %s", got)
		}
		time.Sleep(10 * time.Second)
		if state = d.without(state, [][]int{{0, 1}}); state == nil || addresses(state) != "10.2.1.2:80" {
			t.Fatalf("state %+v, want one without the backend whose time is over", state)
		}
		if d.without(state, [][]int{{0}}); len(d) != 0 {
			t.Errorf("%v are still draining", d)
		}
	})
}

func TestWhoDoesNotDrain(t *testing.T) {
	d := drains{}
	for name, state := range map[string]*model.State{
		"a service without":     oneService(func(*model.Service) {}, "10.2.1.2:80"),
		"nobody removed":        oneService(drained, "10.2.1.2:80", "10.2.1.3:80"),
		"another service's":     oneService(func(s *model.Service) { drained(s); s.Listen = netip.MustParseAddrPort("203.0.113.10:81") }, "10.2.1.2:80"),
		"a service that is new": oneService(func(s *model.Service) { drained(s); s.Protocol = model.UDP }, "10.2.1.2:80"),
	} {
		before := addresses(state)
		d.keep(state, hadBy(oneService(drained, "10.2.1.2:80", "10.2.1.3:80")))
		if diff := cmp.Diff(before, addresses(state)); diff != "" || len(d) != 0 {
			t.Errorf("%s: backends (-want +got):\n%s, %v drain", name, diff, d)
		}
	}
}

// draining is the configuration of a service that drains, with some backends.
func (b *bench) draining(more string, backends ...int) string {
	var list []string
	for _, i := range backends {
		list = append(list, fmt.Sprintf("{address: '%s:8080'}", b.BackendAddrs[i]))
	}
	return b.interfaces() + fmt.Sprintf("services:\n  - {name: web, listen: '%s:80', drain: 1h, backends: [%s]%s}\n", vip, strings.Join(list, ", "), more)
}

// wantPlannedDrain wants the configuration to be foreseen to let a backend drain,
// with some flows, and to end none.
func (b *bench) wantPlannedDrain(flows int) {
	b.t.Helper()
	state, err := config.Load(b.opts.Config)
	if err != nil {
		b.t.Fatal(err)
	}
	var plan *kernel.Plan
	b.Balancer.Do(b.t, func() (err error) {
		plan, err = kernel.Foresee(b.t.Context(), b.opts.PinDir, &state, kernel.Told{})
		return err
	})
	if len(plan.Services) != 1 || len(plan.Services[0].Backends) != 1 || plan.Flows.Ended != 0 {
		b.t.Fatalf("plan %+v, want one backend of one service to change, and no flow to end", plan)
	}
	if c := plan.Services[0].Backends[0]; c.Change != datapath.Changed || c.Weight != 0 || c.Live != flows {
		b.t.Errorf("change %+v, want one to a weight of 0 with %d flows", c, flows)
	}
}

// TestRemovedBackendDrains has the connections of two backends go on when these
// are removed: of one by a reload, of the other by a new agent.
func TestRemovedBackendDrains(t *testing.T) {
	for _, more := range []string{"", ", forward: proxy"} {
		t.Run("forward"+strings.TrimPrefix(more, ", forward"), func(t *testing.T) {
			b := newBench(t, 3)
			b.greetAll()
			b.configure(b.draining(more, 0, 1, 2))
			b.start()
			b.seen("all up", up(true, true, true))
			conns := map[int]net.Conn{}
			for range 3 {
				c, backend := b.opened(80)
				conns[backend] = c
			}
			wantWorks := func(backend int) {
				t.Helper()
				if err := works(conns[backend]); err != nil {
					t.Errorf("connection to backend %d: %v", backend, err)
				}
			}
			b.configure(b.draining(more, 0, 1))
			if more == "" {
				b.wantPlannedDrain(1)
			}
			b.signal(syscall.SIGHUP)
			leaves := func(which, flows int) func(view.View) bool {
				return func(v view.View) bool {
					all := v.Services[0].Backends
					return len(all) > which && all[which].Drains != nil && all[which].Flows == flows && all[which].Weight == 0
				}
			}
			b.seen("a backend that leaves", leaves(2, 1))
			wantWorks(0)
			wantWorks(2)
			for range 4 {
				if c, backend := b.opened(80); backend == 2 {
					t.Error("a backend that leaves got a connection")
				} else {
					c.Close()
				}
			}
			conns[2].Close()
			b.seen("its end", func(v view.View) bool { return len(v.Services[0].Backends) == 2 })
			if more != "" {
				return // connections of the proxy end with the agent
			}
			b.kill()
			b.configure(b.draining(more, 0))
			b.start()
			b.seen("another backend that leaves", leaves(1, 1))
			wantWorks(1)
			conns[1].Close()
			b.seen("its end, too", func(v view.View) bool { return len(v.Services[0].Backends) == 1 })
			b.stop()
		})
	}
}
