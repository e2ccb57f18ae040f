package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"fairlead/testenv"
	"fairlead/testenv/stage"
	"fairlead/userspace/host"
	"fairlead/userspace/model"
	"fairlead/userspace/udpproxy"
	"fairlead/userspace/view"
)

func TestLimitsLeaveTheHostMostOfWhatItHas(t *testing.T) {
	local, err := host.LocalPorts()
	if err != nil {
		t.Fatal(err)
	}
	ports := local.Len()
	l := newLimits(Options{})
	if n := l.flows.Bound(); n < 1 || n > udpproxy.DefaultMaxFlows || n > ports/2 || n > openFiles()/4 {
		t.Errorf("%d flows of %d ports and %d descriptors", n, ports, openFiles())
	}
	if n := l.sockets.max; n < 1 || n > defaultSockets || n > int64(openFiles()/4) {
		t.Errorf("%d sockets of %d descriptors", n, openFiles())
	}
	l = newLimits(Options{ProxyFlows: 5, ProxySockets: 6})
	if l.flows.Bound() != 5 || l.sockets.max != 6 {
		t.Errorf("%d flows and %d sockets, want 5 and 6", l.flows.Bound(), l.sockets.max)
	}
}

func TestRangesShareTheSocketsThatThereAre(t *testing.T) {
	a := echo(t)
	o := frontOptionsOf(t, Options{ProxySockets: 2})
	open := func(first, last uint16) *front {
		s := &model.Service{
			Name: "web", Listen: netip.AddrPortFrom(loopback, first), LastPort: last, Protocol: model.TCP,
			Backends: []model.Backend{{Address: a.Addr().(*net.TCPAddr).AddrPort(), Weight: 1}},
		}
		return openFront(t.Context(), s, judgement{down: []bool{false}}, o)
	}
	many := open(port, port+4)
	defer many.remove()
	if want := fmt.Sprintf("no proxy socket is left for %s:%d: 2 are taken", loopback, port+3); !strings.HasPrefix(many.missing(), want) {
		t.Errorf("missing %q, want %q", many.missing(), want)
	}
	if got := many.ports(); !slices.Equal(got, []uint16{port, port + 1, port + 2}) {
		t.Errorf("listens on %v", got)
	}
	one := open(port+10, port+10)
	defer one.remove()
	if one.missing() != "" {
		t.Errorf("a single port is missing: %s", one.missing())
	}
	many.remove()
	if n := o.limits.sockets.taken.Load(); n != 0 {
		t.Errorf("%d sockets are still taken", n)
	}
	two := open(port, port+2)
	defer two.remove()
	if two.missing() != "" {
		t.Errorf("missing after the others went: %s", two.missing())
	}
}

// TestSpoofedFloodLeavesPortsAndOthersAlone floods one UDP service on the
// proxy's rung from ever new addresses, while another one has a flow.
func TestSpoofedFloodLeavesPortsAndOthersAlone(t *testing.T) {
	const bound, flood = 40, 400
	b := newBench(t, 1)
	b.greetAll()
	b.echoUDP(0)
	b.opts.ProxyFlows = bound
	b.configure("xdp: off\nservices:\n", b.service("dns", "udp", 53), b.service("quiet", "udp", 54))
	b.start()

	ctx, cancel := context.WithTimeout(t.Context(), stage.Patience)
	defer cancel()
	c, err := b.Clients[0].DialContext(ctx, "udp", vip.String()+":54")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	before := askUDP(t, c)
	for i := range flood {
		from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, byte(100 + i/250), byte(1 + i%250)}), 1000)
		b.Clients[0].Inject(t, testenv.Uplink, testenv.UDPFrame(testenv.FrameSpec{
			SrcMAC: testenv.MAC(b.ClientAddrs[0]), DstMAC: testenv.MAC(b.ClientAddrs[0].Prev()),
			Src: from, Dst: netip.AddrPortFrom(vip, 53), Payload: []byte("?"),
		}))
	}
	v := b.seen("the flood", func(v view.View) bool { return v.Proxy.UDP.Opened == flood+1 })
	if u := v.Proxy.UDP; u.MaxFlows != bound || u.Flows > bound || u.Evicted != u.Opened-uint64(u.Flows) {
		t.Errorf("view %+v", u)
	}
	b.Balancer.Do(t, func() error {
		text, err := os.ReadFile("/proc/thread-self/net/udp")
		if n := strings.Count(string(text), "\n") - 1; n > bound+2 {
			t.Errorf("%d UDP sockets, want %d at most and those that listen", n, bound)
		}
		return err
	})
	if after := askUDP(t, c); after != before {
		t.Errorf("the backend saw %s, before the flood %s", after, before)
	}
	b.stop()
}

func TestRoundRobinOutlivesChangesOfHealth(t *testing.T) {
	f, s := frontOf(t, echo(t), echo(t), echo(t))
	next := func() string {
		t.Helper()
		addr, _, ok := f.table.Load().pick(netip.AddrPortFrom(loopback, 1), s.Listen, nil, nil)
		if !ok {
			t.Fatal("nobody to pick")
		}
		return fmt.Sprint(slices.IndexFunc(s.Backends, func(b model.Backend) bool { return b.Address == addr }))
	}
	got := next()
	f.update(s, judgement{down: []bool{false, false, true}})
	got += next()
	f.update(s, judgement{down: []bool{false, false, false}})
	got += next() + next() + next()
	if got != "01201" {
		t.Errorf("picked %s, want 01201", got)
	}
	heavy := *s
	heavy.Backends = slices.Clone(s.Backends)
	heavy.Backends[0].Weight = 0
	f.update(&heavy, judgement{down: []bool{false, false, false}})
	if a, b := next(), next(); a == "0" || b == "0" || a == b {
		t.Errorf("picked %s and %s, want both that have a weight", a, b)
	}
}

func TestPortsThatStayKeepTheirConnections(t *testing.T) {
	a := echo(t)
	of := func(first, last uint16) *model.State {
		return &model.State{Services: []model.Service{{
			Name: "web", Listen: netip.AddrPortFrom(loopback, first), LastPort: last, Protocol: model.TCP, OnDown: model.DownReset,
			Backends: []model.Backend{{Address: a.Addr().(*net.TCPAddr).AddrPort(), Weight: 1}},
			Health:   model.Check{Type: model.CheckNone},
		}}}
	}
	old := of(port, port+2)
	ag := newAgent(Options{RunDir: t.TempDir(), Grace: time.Hour, Log: slog.New(slog.DiscardHandler)}, old)
	ag.openFronts(t.Context())
	leaves, stays := connected(t, port), connected(t, port+2)

	ag.state = of(port+1, port+3)
	ag.roster = newRoster(ag.state)
	ag.replaceFronts(t.Context(), old)
	f := ag.fronts[ag.state.Services[0].Key()]
	if f == nil || len(ag.fronts) != 1 {
		t.Fatalf("fronts %v", ag.fronts)
	}
	defer ag.sockets.clear(nil)
	defer f.remove() // does not wait for the grace of an hour
	if got := f.ports(); !slices.Equal(got, []uint16{port + 1, port + 2, port + 3}) || f.missing() != "" {
		t.Errorf("listens on %v, missing %q", got, f.missing())
	}
	for _, c := range []net.Conn{leaves, stays, connected(t, port+2), connected(t, port+3)} {
		if err := works(c); err != nil {
			t.Errorf("connection to %s: %v", c.RemoteAddr(), err)
		}
	}
	if c, err := net.Dial("tcp4", netip.AddrPortFrom(loopback, port).String()); err == nil {
		c.Close()
		t.Error("listens on a port that the service has left")
	}
}
