package e2e

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"fairlead/testenv"
	"fairlead/testenv/stage"
	"fairlead/userspace/model"
	"fairlead/userspace/view"
)

// seldomChecked raises a stage whose agent knows every backend to be up, and
// probes so seldom that no test lasts until it does so again by itself.
func seldomChecked(t *testing.T, more string) *stage.Stage {
	t.Helper()
	s := newStage(t, testenv.RigOptions{})
	s.Configure(`
interfaces: %s
services:
  - {name: web, listen: %s:80, backends: %s, panic-threshold: 0, health: {type: tcp, interval: 5m, rise: 1}%s}
`, s.Links(), vip, s.BackendList(8080), more)
	s.StartAgent()
	for i := range s.Backends {
		s.AwaitHealth(i, true)
	}
	return s
}

// silence lets a host answer nobody, or nobody of a network.
func silence(t *testing.T, h *testenv.Host, to netip.Prefix) {
	t.Helper()
	rule := netlink.NewRule()
	rule.Family, rule.Type = unix.AF_INET, unix.RTN_BLACKHOLE
	if to.IsValid() {
		rule.Dst = &net.IPNet{IP: to.Addr().AsSlice(), Mask: net.CIDRMask(to.Bits(), 32)}
	}
	h.Do(t, func() error { return netlink.RuleAdd(rule) })
}

// TestClientsTellOfADeadBackend has backends that die just after they were probed.
func TestClientsTellOfADeadBackend(t *testing.T) {
	refuse := func(t *testing.T, s *stage.Stage) { s.Servers[0].Stop(syscall.SIGKILL) }
	for _, row := range []struct {
		name, more string
		die        func(*testing.T, *stage.Stage)
	}{
		{"refused", "", refuse},
		{"unanswered", "", func(t *testing.T, s *stage.Stage) { silence(t, s.Backends[0], netip.Prefix{}) }},
		{"refused to the proxy", ", forward: proxy", refuse},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := seldomChecked(t, row.more)
			row.die(t, s)
			began := time.Now()
			stage.Await(t, "the backend to be out", func() error {
				// As long as a client takes to send its SYN again.
				ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
				defer cancel()
				if c, err := s.Clients[0].DialContext(ctx, "tcp", vip+":80"); err == nil {
					c.Close()
				}
				v, err := s.View()
				if err == nil && v.Services[0].Backends[0].Up {
					err = errors.New("it is still up")
				}
				return err
			})
			t.Logf("out after %s", time.Since(began))
			s.AwaitHealth(0, false)
			wantSpread(t, s, web, 30, map[string]int{"backend2": 15, "backend3": 15})
		})
	}
}

// forger returns what sends two SYNs to each backend, in the name of a client.
func forger(t *testing.T, s *stage.Stage, from netip.Addr) (forge func()) {
	port := uint16(1024)
	return func() {
		for range s.Backends {
			port++
			frame := testenv.TCPFrame(testenv.FrameSpec{
				SrcMAC: testenv.MAC(s.ClientAddrs[0]), DstMAC: testenv.MAC(s.ClientAddrs[0].Prev()), Flags: testenv.SYN,
				Src: netip.AddrPortFrom(from, port), Dst: netip.MustParseAddrPort(vip + ":80"),
			})
			s.Clients[0].Inject(t, testenv.Uplink, frame, frame)
		}
	}
}

// suspects returns whether so many backends are suspect.
func suspects(want int) func(*view.View) bool {
	return func(v *view.View) bool {
		n := 0
		for _, b := range v.Services[0].Backends {
			if b.Suspect != nil && b.Suspect.Unanswered > 0 {
				n++
			}
		}
		return n == want
	}
}

// TestForgedSYNsTakeNobodyOut sends SYNs, each twice, in the names of clients that
// the backends do not answer. The agent looks for suspects each second, far more often
// than it may probe them for that.
func TestForgedSYNsTakeNobodyOut(t *testing.T) {
	const interval = 5 * time.Second
	s := newStage(t, testenv.RigOptions{})
	s.Configure(`
interfaces: %s
services:
  - {name: web, listen: %s:80, backends: %s, health: {type: tcp, interval: %s, rise: 1, fall: 1}}
`, s.Links(), vip, s.BackendList(8080), interval)
	forged := netip.MustParsePrefix("198.18.0.0/15")
	s.Balancer.Route(t, s.ClientLinks[0], forged, s.ClientAddrs[0])
	for _, h := range s.Backends {
		silence(t, h, forged)
	}
	s.StartAgent()
	for i := range s.Backends {
		s.AwaitHealth(i, true)
	}
	forge := forger(t, s, forged.Addr())
	before := s.AwaitView("suspects", func(v *view.View) bool { forge(); return suspects(len(s.Backends))(v) })
	began, probes := time.Now(), s.StackCounter(s.Balancer, "Tcp", "ActiveOpens")
	stage.Await(t, "some intervals", func() error {
		forge()
		if time.Since(began) < 3*interval {
			return errors.New("not yet")
		}
		return nil
	})
	probes = s.StackCounter(s.Balancer, "Tcp", "ActiveOpens") - probes
	if most := uint64(time.Since(began)/interval+2) * 2 * uint64(len(s.Backends)); probes > most {
		t.Errorf("%d probes, want two for each backend and interval, %d at most", probes, most)
	}
	after := s.AwaitView("nobody suspect", suspects(0))
	for i, b := range after.Services[0].Backends {
		if !b.Up || !b.Since.Equal(before.Services[0].Backends[i].Since) {
			t.Errorf("health of %s has changed: up %t since %s: %s", b.Address, b.Up, b.Since, b.LastError)
		}
	}
	if rows := s.BackendRows(); rows[0].Unanswered == 0 {
		t.Errorf("the kernel counted nothing: %+v", rows)
	}
}

// TestResetsHaveABackendProbed has a backend that resets connections that it has
// accepted. Its check is not due while the test lasts, and finds nothing wrong.
func TestResetsHaveABackendProbed(t *testing.T) {
	s := newStage(t, testenv.RigOptions{Backends: 1})
	l := s.Backends[0].Listen(t, "tcp4", ":9000")
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return // the test closes it
			}
			if _, err := c.Read(make([]byte, 1)); err == nil {
				_ = c.(*net.TCPConn).SetLinger(0)
			}
			c.Close()
		}
	}()
	s.Configure("interfaces: %s\nservices: [{name: web, listen: '%s:80', backends: %s, health: {type: tcp, interval: 5m, rise: 1}}]",
		s.Links(), vip, s.BackendList(9000))
	s.StartAgent()
	was := s.AwaitView("the first probe", func(v *view.View) bool { return v.Services[0].Backends[0].Known })
	sent := uint64(0)
	is := s.AwaitView("a probe", func(v *view.View) bool {
		for range 2 * model.DefaultPassiveResets {
			wantReset(t, s)
			sent++
		}
		return v.Services[0].Backends[0].LastProbe.After(was.Services[0].Backends[0].LastProbe)
	})
	if b := is.Services[0].Backends[0]; !b.Up {
		t.Errorf("the backend is out: %s", b.LastError)
	}
	if rows := s.BackendRows(); rows[0].Resets != sent || rows[0].Refused != 0 {
		t.Errorf("counted %+v, want %d resets", rows[0].Counters, sent)
	}
}

// wantReset makes a connection that the backend resets at its first byte.
func wantReset(t *testing.T, s *stage.Stage) {
	t.Helper()
	c, err := s.Clients[0].DialContext(t.Context(), "tcp", vip+":80")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("read: %v, want a reset", err)
	}
}
