package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"fairlead/loader"
	"fairlead/testenv"
	"fairlead/testenv/stage"
	"fairlead/userspace/host"
	"fairlead/userspace/kernel"
	"fairlead/userspace/view"
)

func TestPlannedDetachLeavesTheProxy(t *testing.T) {
	b := newBench(t, 2)
	b.greetAll()
	b.configure(b.interfaces(), "services:\n", b.service("web", "tcp", 80))
	b.start()
	b.seen("standby", func(v view.View) bool { return v.Services[0].Standby })

	done := b.Balancer.Go(func() error { return kernel.Detach(t.Context(), b.opts.PinDir, nil, time.Second, nil) })
	detached := make(chan error, 1)
	go func() { detached <- done() }()
	for over := false; !over; {
		select {
		case err := <-detached:
			if err != nil {
				t.Fatal(err)
			}
			over = true
		default:
		}
		c, _, err := b.connect(80)
		if err != nil {
			t.Fatalf("during the detach: %v", err)
		}
		c.Close()
	}
	b.seen("the proxy", onRung(view.RungProxy))
	b.wantLocal(true)
	proxied, _ := b.opened(80)

	b.signal(syscall.SIGHUP)
	b.seen("XDP again", onRung(view.RungNative))
	b.opened(80)
	if err := works(proxied); err != nil {
		t.Errorf("connection of the proxy after attaching again: %v", err)
	}
	proxied.Close()

	b.Balancer.Do(t, func() error { return kernel.Detach(t.Context(), b.opts.PinDir, nil, 0, nil) })
	b.stop() // at once: it may not have seen the detach
	b.wantNothing()
}

func TestDetachOnExitLeavesNothing(t *testing.T) {
	b := newBench(t, 2)
	b.greetAll()
	b.opts.DetachOnExit, b.opts.Grace = true, time.Second
	b.configure(b.interfaces(), "services:\n", b.service("web", "tcp", 80))
	b.start()
	c, _ := b.opened(80)
	if err := works(c); err != nil {
		t.Fatal(err)
	}
	b.stop()
	b.wantNothing()
}

func TestLostLinkComesBack(t *testing.T) {
	b := newBench(t, 2)
	b.greetAll()
	b.configure(b.interfaces(), "services:\n", b.service("web", "tcp", 80))
	b.start()
	b.seen("native XDP", onRung(view.RungNative))
	attachAgain := b.keepXDPOff()
	b.logged(`reason="interface client1 lost its XDP program"`)
	v := b.seen("why it cannot come back", func(v view.View) bool { return strings.Contains(v.Services[0].Reason, "client1.forwarding=1") })
	if v.Services[0].Rung != view.RungProxy {
		t.Errorf("rung %s while nothing can be attached", v.Services[0].Rung)
	}
	if m, err := b.mode(); err != nil || m != loader.ModeOff {
		t.Errorf("mode %v, %v, want off: one interface lost, off everywhere", m, err)
	}
	c, _ := b.opened(80)
	attachAgain()
	b.seen("XDP again", onRung(view.RungNative))
	if err := works(c); err != nil {
		t.Errorf("connection of the proxy: %v", err)
	}
	b.opened(80)
	b.stop()
}

func TestInterfaceMadeAgain(t *testing.T) {
	b := newBench(t, 2)
	b.greetAll()
	b.configure(b.interfaces(), "services:\n", b.service("web", "tcp", 80))
	b.start()
	b.seen("native XDP", onRung(view.RungNative))
	b.Balancer.Do(t, func() error {
		l, err := netlink.LinkByName("backend2")
		if err != nil {
			return err
		}
		return netlink.LinkDel(l)
	})
	b.seen("the proxy", func(v view.View) bool {
		return onRung(view.RungProxy)(v) && strings.Contains(v.XDP.Reason, "no such interface")
	})
	b.opened(80)
	testenv.Cable(t, b.Balancer, "10.2.2.1/24", b.Backends[1], "10.2.2.2/24")
	b.Backends[1].Do(t, func() error {
		l, err := netlink.LinkByName(testenv.Uplink)
		if err != nil {
			return err
		}
		return netlink.RouteAdd(&netlink.Route{LinkIndex: l.Attrs().Index, Gw: []byte{10, 2, 2, 1}})
	})
	b.seen("XDP again", func(v view.View) bool { return onRung(view.RungNative)(v) && up(true, true)(v) })
	for range 2 {
		b.opened(80)
	}
	if n := strings.Count(b.log.String(), "cannot run again"); n > 2 {
		t.Errorf("%d lines about one reason", n)
	}
	b.stop()
}

func TestSwitchLeftByAKilledDetach(t *testing.T) {
	b := newBench(t, 1)
	b.greetAll()
	b.configure(b.interfaces(), "services:\n", b.service("web", "tcp", 80))
	b.start()
	for _, left := range []loader.Mode{loader.ModeDraining, loader.ModeOff} {
		inst, err := loader.Open(b.opts.PinDir)
		if err != nil {
			t.Fatal(err)
		}
		inst.SetMode(left)
		if err := inst.Close(); err != nil {
			t.Fatal(err)
		}
		stage.Await(t, "on after "+left.String(), func() error {
			if m, err := b.mode(); err != nil || m != loader.ModeOn {
				return errors.Join(err, errors.New("mode "+m.String()))
			}
			return nil
		})
	}
	b.opened(80)
	b.stop()
}

func TestStandbyListensAsSoonAsItCan(t *testing.T) {
	b := newBench(t, 1)
	b.greetAll()
	b.opts.Force = true
	other := b.Balancer.Listen(t, "tcp", ":80")
	b.configure(b.interfaces(), "services:\n", b.service("web", "tcp", 80))
	b.start()
	v := b.seen("no standby", func(v view.View) bool { return !v.Services[0].Standby })
	if !strings.Contains(v.Services[0].StandbyReason, "another program") || v.Services[0].Rung != view.RungNative {
		t.Errorf("service %+v", v.Services[0])
	}
	other.Close()
	b.seen("standby", func(v view.View) bool { return v.Services[0].Standby })
	b.stop()
}

func TestProxyAlone(t *testing.T) {
	b := newBench(t, 2)
	b.greetAll()
	var two strings.Builder
	for _, port := range []int{80, 81} {
		two.WriteString(b.service(fmt.Sprint("web", port), "tcp", port))
	}
	b.configure("xdp: off\nservices:\n", two.String())
	b.start()
	b.seen("the proxy", onRung(view.RungProxy))
	b.opened(80)
	b.wantLocal(true)
	b.kill()
	b.wantLocal(true) // nobody could remove it
	b.start()
	b.opened(81)
	first, log := b.cmd, b.log
	b.launch()
	if err := b.cmd.Wait(); err == nil || !strings.Contains(b.log.String(), "another agent runs") {
		t.Errorf("a second agent: %v", err)
	}
	b.cmd, b.log = first, log
	b.opened(80) // it took nothing away
	b.kill()
	b.wantLocal(true)
	b.start() // knows still whose the address is
	b.stop()
	b.wantNothing()

	b.Balancer.Do(t, func() error {
		look, err := host.LookAtAddresses()
		if err != nil {
			return err
		}
		return look.Put(vip)
	})
	b.start()
	b.opened(80)
	b.stop()
	b.wantLocal(true) // it was there before
}

func TestPortRangeOfUDP(t *testing.T) {
	b := newBench(t, 1)
	b.greetAll()
	b.configure("xdp: off\nservices:\n", b.service("many", "udp", 8000), b.service("web", "tcp", 80))
	config, err := os.ReadFile(b.opts.Config)
	if err != nil {
		t.Fatal(err)
	}
	b.configure(strings.Replace(string(config), "10:8000'", "10:8000-8100'", 1))
	b.start()
	b.Balancer.Do(t, func() error {
		sockets, err := host.Sockets()
		n := 0
		for _, s := range sockets {
			if s.Addr.Addr() == vip && s.Addr.Port() >= 8000 && s.Addr.Port() <= 8100 {
				n++
			}
		}
		if n != 101 {
			t.Errorf("%d sockets, want 101", n)
		}
		return err
	})
	b.stop()
	b.wantNothing()
}

// TestUDPFlowsOfTheProxyStayThere has a flow begin while XDP is lost, and go on
// over the proxy when it is back: its backend knows the proxy's address only.
func TestUDPFlowsOfTheProxyStayThere(t *testing.T) {
	b := newBench(t, 1)
	b.greetAll()
	b.echoUDP(0)
	b.configure(b.interfaces(), "services:\n", b.service("dns", "udp", 53))
	b.start()
	b.seen("native XDP", onRung(view.RungNative))
	attachAgain := b.keepXDPOff()

	ctx, cancel := context.WithTimeout(t.Context(), stage.Patience)
	defer cancel()
	c, err := b.Clients[0].DialContext(ctx, "udp", vip.String()+":53")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	first := askUDP(t, c)
	if !strings.HasPrefix(first, "?10.2.1.1:") {
		t.Errorf("the backend saw %s, want the balancer", first)
	}
	attachAgain()
	b.seen("XDP again", onRung(view.RungNative))
	b.signal(syscall.SIGHUP)
	b.logged("configuration taken")
	for range 3 {
		if got := askUDP(t, c); got != first {
			t.Errorf("the flow moved: the backend saw %s, before %s", got, first)
		}
	}
	b.stop()
}
