package daemon

import (
	"errors"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"fairlead/loader"
	"fairlead/userspace/kernel"
	"fairlead/userspace/view"
)

func TestBackendsGoOutAndComeBack(t *testing.T) {
	b := newBench(t, 3)
	servers := b.greetAll()
	b.configure(b.interfaces(), "services:\n", b.service("web", "tcp", 80))
	b.start()
	b.seen("all to be up", up(true, true, true))
	b.seen("native XDP", onRung(view.RungNative))
	staying, at := b.opened(80)
	gone := (at + 1) % 3
	servers[gone].Close()
	want := []bool{true, true, true}
	want[gone] = false
	b.seen("one to be down", up(want...))
	for range 6 {
		if _, at := b.opened(80); at == gone {
			t.Errorf("backend %d is down and got a connection", at)
		}
	}
	if err := works(staying); err != nil {
		t.Errorf("connection to a backend that stays: %v", err)
	}
	b.greet(gone)
	b.seen("all to be up again", up(true, true, true))
	for range 3 {
		if _, at := b.opened(80); at == gone {
			gone = -1
		}
	}
	if gone >= 0 {
		t.Errorf("backend %d is up again and got nothing", gone)
	}
	b.stop()
	b.wantLocal(true) // the kernel goes on
	if err := works(staying); err != nil {
		t.Errorf("connection after the agent's end: %v", err)
	}
	b.Balancer.Do(t, func() error { return kernel.Detach(t.Context(), b.opts.PinDir, nil, 0, nil) })
	b.wantNothing()
}

func TestKilledAgentIsAdopted(t *testing.T) {
	b := newBench(t, 2)
	servers := b.greetAll()
	b.configure(b.interfaces(), "services:\n", b.service("web", "tcp", 80))
	b.start()
	servers[1].Close()
	b.seen("one to be down", up(true, false))
	c, _ := b.opened(80)
	programs := func() (ids []uint32) {
		v, err := kernel.Status(b.opts.PinDir)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range v.Interfaces {
			ids = append(ids, i.Program)
		}
		return ids
	}
	before := programs()
	for range 3 {
		b.kill()
		if err := works(c); err != nil {
			t.Errorf("while no agent runs: %v", err)
		}
		b.start()
		if v, err := view.Read(b.opts.RunDir); err == nil && v.Alive() && v.Services[0].Backends[1].Up {
			t.Error("what was known to be down counts as up")
		}
		b.seen("one to be down again", up(true, false))
	}
	if after := programs(); !slices.Equal(before, after) {
		t.Errorf("programs %v became %v", before, after)
	}
	if err := works(c); err != nil {
		t.Errorf("connection over all of it: %v", err)
	}
	b.stop()
}

func TestReload(t *testing.T) {
	b := newBench(t, 2)
	b.greetAll()
	b.configure(b.interfaces(), "services:\n", b.service("web", "tcp", 80), b.service("old", "tcp", 81))
	b.start()
	web, _ := b.opened(80)
	old, _ := b.opened(81)

	b.configure("services: [{name: nonsense}]\n")
	b.signal(syscall.SIGHUP)
	b.seen("the fault", func(v view.View) bool { return v.ConfigError != "" && len(v.Services) == 2 })
	if err := errors.Join(works(web), works(old)); err != nil {
		t.Errorf("a bad file changed something: %v", err)
	}

	b.configure(b.interfaces(), "services:\n", b.service("web", "tcp", 80), b.service("new", "tcp", 82))
	b.signal(syscall.SIGHUP)
	b.seen("the new service", func(v view.View) bool {
		return v.ConfigError == "" && len(v.Services) == 2 && v.Services[1].Name == "new" && v.Services[1].Standby
	})
	if err := works(web); err != nil {
		t.Errorf("service that stays: %v", err)
	}
	if err := works(old); err == nil {
		t.Error("a connection of the removed service goes on")
	}
	b.opened(82)
	if _, _, err := b.connect(81); err == nil {
		t.Error("the removed service takes connections")
	}

	b.Balancer.Listen(t, "tcp", ":83")
	b.configure(b.interfaces(), "services:\n", b.service("web", "tcp", 80), b.service("clash", "tcp", 83))
	b.signal(syscall.SIGHUP)
	v := b.seen("the clash", func(v view.View) bool { return v.ConfigError != "" })
	if !strings.Contains(v.ConfigError, "--force") || v.Services[1].Name != "new" {
		t.Errorf("clash: %q, services %+v", v.ConfigError, v.Services)
	}
	b.stop()
}

func TestReloadOfInterfacesAndModes(t *testing.T) {
	b := newBench(t, 2)
	b.greetAll()
	services := "services:\n" + b.service("web", "tcp", 80)
	b.configure(b.interfaces(), services)
	b.start()
	b.seen("native XDP", onRung(view.RungNative))

	b.configure("interfaces: [client1, backend1]\n", services)
	b.signal(syscall.SIGHUP)
	v := b.seen("backend2 to be out", func(v view.View) bool { return len(v.XDP.Interfaces) == 2 })
	if want := "backend2 is not attached"; !onRung(view.RungProxy)(v) || !strings.Contains(v.Services[0].Reason, want) {
		t.Errorf("rung %s at once, reason %q, want %q", v.Services[0].Rung, v.Services[0].Reason, want)
	}
	b.opened(80)
	b.configure(b.interfaces(), services)
	b.signal(syscall.SIGHUP)
	b.seen("native XDP again", onRung(view.RungNative))
	b.opened(80)

	for _, xdp := range []string{"xdp: generic\n", "xdp: off\n"} {
		b.configure(b.interfaces(), xdp, services)
		b.signal(syscall.SIGHUP)
		v = b.seen("refusal of "+xdp, func(v view.View) bool { return v.ConfigError != "" })
		if strings.Contains(v.ConfigError, "\n") || v.Services[0].Rung != view.RungNative {
			t.Errorf("%s: error %q, rung %s", xdp, v.ConfigError, v.Services[0].Rung)
		}
		b.configure(b.interfaces(), services)
		b.signal(syscall.SIGHUP)
		b.seen("no fault", func(v view.View) bool { return v.ConfigError == "" })
	}
	b.opened(80)
	b.stop()
}

func TestFailedStartLeavesNothing(t *testing.T) {
	b := newBench(t, 1)
	b.greetAll()
	b.configure(b.interfaces(), "services:\n", b.service("web", "tcp", 80))
	refused := func(want string) {
		t.Helper()
		b.launch()
		if err := b.cmd.Wait(); err == nil || !strings.Contains(b.log.String(), want) {
			t.Errorf("agent: %v, want %q", err, want)
		}
	}
	b.Balancer.Sysctl(t, "net.ipv4.conf.client1.forwarding", "0")
	refused("net.ipv4.conf.client1.forwarding=1")
	b.wantNothing()
	b.Balancer.Sysctl(t, "net.ipv4.conf.client1.forwarding", "1")
	l := b.Balancer.Listen(t, "tcp", ":80")
	refused("--force")
	b.wantNothing()
	l.Close()

	b.start()
	first, log := b.cmd, b.log
	refused("another agent runs")
	b.cmd, b.log = first, log
	b.seen("the first agent's status, still", func(v view.View) bool { return v.PID == first.Process.Pid })
	b.opened(80)
	b.stop()
	if _, err := os.Stat(b.opts.PinDir); err != nil {
		t.Errorf("the kernel's part is gone: %v", err)
	}
	if m, err := b.mode(); err != nil || m != loader.ModeOn {
		t.Errorf("mode %v, %v", m, err)
	}
}
