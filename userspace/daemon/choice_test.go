package daemon

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"fairlead/userspace/balance"
	"fairlead/userspace/config"
	"fairlead/userspace/view"
)

// balanced is the configuration of a service over all backends.
func (b *bench) balanced(more string) string {
	text := strings.TrimSuffix(b.service("web", "tcp", 80), "}\n")
	return b.interfaces() + "services:\n" + text + ", " + more + "}\n"
}

// TestHashesChooseAlikeInKernelAndProxy foretells the backends of connections
// through XDP, and through the proxy.
func TestHashesChooseAlikeInKernelAndProxy(t *testing.T) {
	for _, choice := range []string{"{method: maglev, table-size: 1021, seed: 7}", "{method: source-hash, table-size: 251, seed: 8}"} {
		b := newBench(t, 3)
		b.greetAll()
		b.configure(b.balanced("balance: " + choice))
		b.start()
		b.seen("all up", up(true, true, true))
		state, err := config.Load(b.opts.Config)
		if err != nil {
			t.Fatal(err)
		}
		s := &state.Services[0]
		slots := balance.Slots(s, balance.Weights(s.Backends, nil))
		foretell := func() {
			t.Helper()
			for range 30 {
				c, backend := b.opened(80)
				client := c.LocalAddr().(*net.TCPAddr).AddrPort()
				h := balance.Hash(s, client, netip.AddrPortFrom(vip, 80))
				if want := int(slots[h%uint64(len(slots))]); backend != want {
					t.Errorf("%s: %s has backend %d, want %d", choice, client, backend, want)
				}
				c.Close()
			}
		}
		b.seen("XDP", onRung(view.RungNative))
		foretell()
		b.keepXDPOff()
		foretell()
		b.stop()
	}
}

// TestSlowStart has a backend come back: it begins with less than its share.
func TestSlowStart(t *testing.T) {
	b := newBench(t, 2)
	servers := b.greetAll()
	b.configure(b.balanced("slow-start: 10m"))
	b.start()
	v := b.seen("all up", up(true, true))
	for i, x := range v.Services[0].Backends {
		if x.Share != 100 {
			t.Errorf("backend %d begins with %d %% though the agent has just started", i, x.Share)
		}
	}
	servers[1].Close()
	b.seen("one down", up(true, false))
	b.greet(1)
	b.seen("a slow start", func(v view.View) bool { x := v.Services[0].Backends[1]; return x.Up && x.Share < 50 })
	b.stop()
}

// TestResponseTime has one backend whose probes take much longer.
func TestResponseTime(t *testing.T) {
	b := newBench(t, 2)
	b.greetAll()
	script := `test "$FAIRLEAD_ADDRESS" = ` + b.BackendAddrs[0].String() + ` || sleep 0.5`
	text := b.balanced("balance: response-time")
	check := fmt.Sprintf("health: {type: exec, command: [/bin/sh, -c, '%s'], interval: 2s, timeout: 2s}", script)
	at := strings.Index(text, "health: {")
	end := at + strings.Index(text[at:], "}") + 1
	b.configure(text[:at] + check + text[end:])
	b.start()
	b.seen("other shares", func(v view.View) bool {
		first, second := v.Services[0].Backends[0].Share, v.Services[0].Backends[1].Share
		return first == 100 && second < 60
	})
	got := [2]int{}
	for range 60 {
		c, backend := b.opened(80)
		got[backend]++
		c.Close()
	}
	if got[0] <= got[1] {
		t.Errorf("%d and %d connections, want most at the quicker backend", got[0], got[1])
	}
	b.stop()
}

// TestLeastConnections has connections that stay, through XDP and through the
// proxy: each backend gets those that its weight says, give or take one.
func TestLeastConnections(t *testing.T) {
	for _, more := range []string{"", ", forward: proxy"} {
		b := newBench(t, 3)
		b.greetAll()
		b.configure(b.balanced("balance: least-connections" + more))
		b.start()
		b.seen("all up", up(true, true, true))
		open := [3][]net.Conn{}
		for k := range 40 {
			c, backend := b.opened(80)
			if open[backend] = append(open[backend], c); k%4 == 3 {
				open[backend][0].Close()
				open[backend] = open[backend][1:]
				b.seen("its end", func(v view.View) bool { return v.Services[0].Backends[backend].Flows == len(open[backend]) })
			}
		}
		for i := range open {
			if n := len(open[i]); n < 9 || n > 11 {
				t.Errorf("balance: least-connections%s: backend %d has %d of 30 connections", more, i, n)
			}
		}
		b.stop()
	}
}

// TestAffinity has all connections of a client go to one backend.
func TestAffinity(t *testing.T) {
	b := newBench(t, 3)
	b.greetAll()
	b.configure(b.balanced("affinity: {source: 1h}"))
	b.start()
	b.seen("all up", up(true, true, true))
	for _, by := range []string{"XDP", "the proxy"} {
		_, first := b.opened(80)
		for range 6 {
			if _, again := b.opened(80); again != first {
				t.Errorf("by %s: backend %d, then %d", by, first, again)
			}
		}
		if by == "XDP" {
			b.keepXDPOff()
		}
	}
	b.stop()
}
