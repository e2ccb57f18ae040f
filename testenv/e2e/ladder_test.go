package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"fairlead/testenv/stage"
	"fairlead/userspace/view"
)

func TestPlannedDetachFailsNoConnection(t *testing.T) {
	s, agent := checked(t)
	stop := keepConnecting(t, s)
	wrk := s.Start(s.Clients[0], tool(t, "wrk"), "-c", "16", "-t", "1", "-d", "4s", web)
	stage.Await(t, "wrk's flows", func() error { return wantForwarded(s, 200) })

	started := time.Now()
	s.Loader("detach", "--grace", "1m").OK(t)
	if took := time.Since(started); took > 50*time.Second {
		t.Errorf("detach took %s: it waited for flows that had ended", took)
	}
	wrk.Wait()
	wantCleanWrk(t, wrk.Output())
	wantProxy(t, s)
	stop()

	agent.Signal(syscall.SIGHUP)
	wantXDPAgain(t, s)
	agent.Stop(syscall.SIGTERM)
}

func TestLostLinkLeavesNewConnectionsToTheProxy(t *testing.T) {
	s, _ := checked(t)
	if _, err := s.Get(0, web); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(s.PinDir, "link-client1")); err != nil {
		t.Fatal(err)
	}
	// The kernel lets go of it a little later; connections until then are
	// XDP's, and end with it.
	stage.Await(t, "client1 to lose XDP", func() error { return s.Balancer.In(wantNoXDP) })
	stop := keepConnecting(t, s)
	wantProxy(t, s)
	wantXDPAgain(t, s)
	stop()
}

func TestInterfaceDownAndUp(t *testing.T) {
	s, _ := checked(t)
	setLink(t, s, s.BackendLinks[0], false)
	s.AwaitHealth(0, false)
	wantSpread(t, s, web, 20, map[string]int{"backend2": 10, "backend3": 10})
	setLink(t, s, s.BackendLinks[0], true)
	s.AwaitHealth(0, true)
	wantSpread(t, s, web, 30, map[string]int{"backend1": 10, "backend2": 10, "backend3": 10})

	setLink(t, s, s.ClientLinks[0], false)
	setLink(t, s, s.ClientLinks[0], true)
	stage.Await(t, "the client to be back", func() error {
		_, err := s.Get(0, web)
		return err
	})
	wantXDPAgain(t, s)
}

func wantNoXDP() error {
	l, err := netlink.LinkByName("client1")
	if err == nil && l.Attrs().Xdp != nil && l.Attrs().Xdp.Attached {
		err = errors.New("it carries an XDP program")
	}
	return err
}

func setLink(t *testing.T, s *stage.Stage, name string, up bool) {
	t.Helper()
	s.Balancer.Do(t, func() error {
		l, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		if up {
			return netlink.LinkSetUp(l)
		}
		return netlink.LinkSetDown(l)
	})
}

// keepConnecting asks over and over, each time over a new connection, until
// the function that it returns is called, and asserts that none fails.
func keepConnecting(t *testing.T, s *stage.Stage) (stop func()) {
	t.Helper()
	end := overAndOver(func() error {
		_, err := s.Get(0, web)
		return err
	})
	return sync.OnceFunc(func() {
		t.Helper()
		if asked, err := end(); err != nil {
			t.Errorf("a new connection failed after %d good ones: %v", asked, err)
		}
	})
}

// wantForwarded says whether XDP has forwarded so many packets.
func wantForwarded(s *stage.Stage, n uint64) error {
	if got := s.Stats().Kinds["forward"]; got < n {
		return fmt.Errorf("XDP forwarded %d packets, want %d", got, n)
	}
	return nil
}

// wantProxy waits until the view says that the proxy serves, and why, and
// asserts that it does.
func wantProxy(t *testing.T, s *stage.Stage) {
	t.Helper()
	s.AwaitView("the proxy's rung", func(v *view.View) bool {
		return v.Services[0].Rung == view.RungProxy && v.Services[0].Reason != ""
	})
	before := accepted(t, s)
	if _, err := s.Get(0, web); err != nil {
		t.Errorf("through the proxy: %v", err)
	}
	s.AwaitView("the proxy's count", func(v *view.View) bool { return v.Proxy.TCP.Accepted > before })
}

func accepted(t *testing.T, s *stage.Stage) uint64 {
	t.Helper()
	v, err := s.View()
	if err != nil {
		t.Fatal(err)
	}
	return v.Proxy.TCP.Accepted
}

// wantXDPAgain waits until the view says that XDP serves, and asserts that it
// does.
func wantXDPAgain(t *testing.T, s *stage.Stage) {
	t.Helper()
	s.AwaitView("XDP's rung", func(v *view.View) bool { return v.Services[0].Rung == view.RungNative })
	before := s.Stats().Forwarded.Flows
	if _, err := s.Get(0, web); err != nil {
		t.Errorf("through XDP: %v", err)
	}
	if s.Stats().Forwarded.Flows == before {
		t.Error("XDP made no flow")
	}
}
