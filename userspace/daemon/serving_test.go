package daemon

import (
	"errors"
	"net"
	"strings"
	"syscall"
	"testing"

	"fairlead/userspace/model"
	"fairlead/userspace/view"
)

// marked is the configuration of a service over all backends, with words for
// some of them.
func (b *bench) marked(more string, words map[int]string) string {
	text := b.balanced(more)
	for i, w := range words {
		addr := "'" + b.BackendAddrs[i].String() + ":8080'"
		text = strings.Replace(text, addr, addr+", "+w, 1)
	}
	return text
}

// serving returns whether those serve the first service.
func serving(want model.Serving) func(view.View) bool {
	return func(v view.View) bool { return v.Services[0].Serving == want }
}

// wantBackends opens connections and wants all of these backends to get some,
// and nobody else.
func (b *bench) wantBackends(want ...int) {
	b.t.Helper()
	missing := map[int]bool{}
	for _, i := range want {
		missing[i] = true
	}
	for range 4 * len(want) {
		c, backend, err := b.connect(80)
		if err != nil {
			b.t.Fatal(err)
		}
		c.Close()
		known := false
		for _, i := range want {
			known = known || i == backend
		}
		if !known {
			b.t.Errorf("backend %d got a connection, want one of %v", backend, want)
		}
		delete(missing, backend)
	}
	if len(missing) > 0 {
		b.t.Errorf("no connection for %v", missing)
	}
}

// TestBackupServesWhileNoOtherCan goes by XDP, and by the proxy.
func TestBackupServesWhileNoOtherCan(t *testing.T) {
	for _, more := range []string{"on-down: reset", "forward: proxy"} {
		b := newBench(t, 2)
		servers := b.greetAll()
		b.configure(b.marked(more, map[int]string{1: "backup: true"}))
		b.start()
		b.seen("all up", up(true, true))
		b.wantBackends(0)

		servers[0].Close()
		v := b.seen("backups", serving(model.ServingBackups))
		if x := v.Services[0].Backends[1]; !x.Backup || !x.Serves {
			t.Errorf("the backup is seen as %+v", x)
		}
		b.wantBackends(1)
		stays, _ := b.opened(80)

		b.greet(0)
		v = b.seen("the first again", serving(model.ServingUp))
		if x := v.Services[0].Backends[1]; x.Serves {
			t.Errorf("the backup still serves: %+v", x)
		}
		b.wantBackends(0)
		if err := works(stays); err != nil {
			t.Errorf("%s: the connection to the backup: %v", more, err)
		}
		b.stop()
	}
}

// each opens a connection to every backend.
func (b *bench) each() []net.Conn {
	b.t.Helper()
	all := make([]net.Conn, len(b.Backends))
	for range b.Backends {
		c, backend := b.opened(80)
		all[backend] = c
	}
	for i, c := range all {
		if c == nil {
			b.t.Fatalf("no connection for backend %d", i)
		}
	}
	return all
}

// wantRefused opens connections, of which some are to be refused.
func (b *bench) wantRefused(want, of int) {
	b.t.Helper()
	refused := 0
	for range of {
		c, _, err := b.connect(80)
		switch {
		case err == nil:
			c.Close()
		case errors.Is(err, syscall.ECONNREFUSED):
			refused++
		default:
			b.t.Error(err)
		}
	}
	if refused != want {
		b.t.Errorf("%d of %d connections were refused, want %d", refused, of, want)
	}
}

// TestPanicSpreadsOverAll has backends that refuse new connections and go on
// with those that they have.
func TestPanicSpreadsOverAll(t *testing.T) {
	b := newBench(t, 3)
	servers := b.greetAll()
	b.configure(b.balanced("on-down: reset"))
	b.start()
	b.seen("all up", up(true, true, true))
	open := b.each()

	servers[1].Close()
	b.seen("one down", up(true, false, true))
	if err := works(open[1]); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the connection to the first that is down: %v, want %v", err, syscall.ECONNRESET)
	}
	b.wantBackends(0, 2)

	servers[2].Close()
	v := b.seen("panic", serving(model.ServingPanic))
	for i, x := range v.Services[0].Backends {
		if x.Up != (i == 0) || !x.Serves {
			t.Errorf("backend %d is seen as %+v", i, x)
		}
	}
	b.wantRefused(4, 6)
	if err := works(open[2]); err != nil {
		t.Errorf("the connection to the second that is down: %v", err)
	}

	servers[0].Close()
	b.seen("nobody", serving(model.ServingNone))
	b.wantRefused(2, 2)
	for _, i := range []int{0, 2} {
		if err := works(open[i]); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the connection to backend %d, all are down: %v, want %v", i, err, syscall.ECONNRESET)
		}
	}
	b.stop()
}

// TestNoPanicWhereTheThresholdIsOff has one backend of three serve alone.
func TestNoPanicWhereTheThresholdIsOff(t *testing.T) {
	b := newBench(t, 3)
	servers := b.greetAll()
	b.configure(b.balanced("panic-threshold: 0"))
	b.start()
	b.seen("all up", up(true, true, true))
	servers[1].Close()
	servers[2].Close()
	b.seen("two down", up(true, false, false))
	b.wantBackends(0)
	b.stop()
}

// TestPanicInTheProxy has it look for a backend that answers.
func TestPanicInTheProxy(t *testing.T) {
	b := newBench(t, 3)
	servers := b.greetAll()
	b.configure(b.balanced("forward: proxy"))
	b.start()
	b.seen("all up", up(true, true, true))
	open := b.each()
	servers[1].Close()
	b.seen("one down", up(true, false, true))
	servers[2].Close()
	b.seen("panic", serving(model.ServingPanic))
	b.wantBackends(0)
	if v := b.seen("retries", func(v view.View) bool { return v.Proxy.TCP.Retries > 0 }); v.Services[0].Serving != model.ServingPanic {
		t.Errorf("serving %s", v.Services[0].Serving)
	}
	if err := works(open[2]); err != nil {
		t.Errorf("the connection to the second that is down: %v", err)
	}
	b.greet(1)
	b.seen("no panic", serving(model.ServingUp))
	if err := works(open[2]); err == nil {
		t.Error("the connection to who is down goes on after the panic")
	}
	b.stop()
}

// TestOwnZoneServesWhileEnoughOfItIsUp goes by XDP, and by the proxy. The last
// backend is of another zone.
func TestOwnZoneServesWhileEnoughOfItIsUp(t *testing.T) {
	for _, more := range []string{"panic-threshold: 0", "panic-threshold: 0, forward: proxy"} {
		b := newBench(t, 3)
		servers := b.greetAll()
		b.configure("zone: east\n", b.marked(more, map[int]string{0: "zone: east", 1: "zone: east", 2: "zone: west"}))
		b.start()
		b.seen("all up", up(true, true, true))
		b.wantBackends(0, 1)
		servers[1].Close()
		b.seen("half of the zone up", up(true, false, true))
		b.wantBackends(0)
		servers[0].Close()
		v := b.seen("all zones", serving(model.ServingUp))
		if x := v.Services[0].Backends[2]; !x.Serves || x.Zone != "west" {
			t.Errorf("the backend of another zone is seen as %+v", x)
		}
		b.wantBackends(2)
		stays, _ := b.opened(80)

		b.greet(1)
		b.seen("the own zone", serving(model.ServingZone))
		b.wantBackends(1)
		if err := works(stays); err != nil {
			t.Errorf("%s: the connection to another zone: %v", more, err)
		}
		b.configure(b.marked(more, nil))
		b.signal(syscall.SIGHUP)
		b.seen("no zones", serving(model.ServingUp))
		b.wantBackends(1, 2)
		if err := works(stays); err != nil {
			t.Errorf("%s: the connection after zones have gone: %v", more, err)
		}
		b.stop()
	}
}
