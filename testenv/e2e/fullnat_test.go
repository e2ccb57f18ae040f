package e2e

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"fairlead/testenv"
	"fairlead/testenv/stage"
)

// fullNATStage raises a stage whose backends know no way to the clients.
func fullNATStage(t *testing.T, o testenv.RigOptions) *stage.Stage {
	t.Helper()
	return families[0].fullNATStage(t, o)
}

func (f family) fullNATStage(t *testing.T, o testenv.RigOptions) *stage.Stage {
	t.Helper()
	s := f.stage(t, o)
	for _, b := range s.Backends {
		b.Do(t, func() error {
			none := netip.MustParsePrefix(map[string]string{"4": "0.0.0.0/0", "6": "::/0"}[f.suffix])
			all := &net.IPNet{IP: none.Addr().AsSlice(), Mask: net.CIDRMask(0, none.Addr().BitLen())}
			return netlink.RouteDel(&netlink.Route{Dst: all})
		})
	}
	return s
}

// configureFullNAT writes a configuration with TCP and UDP by full NAT. more is
// added to it.
func configureFullNAT(s *stage.Stage, more string) {
	families[0].configure(s, ", forward: full-nat", more)
}

func TestFullNATNeedsNoRouteBack(t *testing.T) {
	inFamilies(t, func(t *testing.T, f family) {
		inModes(t, func(t *testing.T, mode string) {
			s := f.fullNATStage(t, testenv.RigOptions{})
			f.configure(s, ", forward: full-nat", "")
			check := attachedIn(t, s, mode)
			wantDisguised(t, s, f, f)
			check()
		})
	})
}

// wantDisguised asserts that clients of f get answers from every backend, of a
// family, and that these see the balancer.
func wantDisguised(t *testing.T, s *stage.Stage, f, backends family) {
	t.Helper()
	for i, b := range s.Backends {
		ours := backends.addr(s.BackendAddrs[i].Prev())
		a, err := s.Get(0, f.web())
		if err != nil || a.Message != b.Name {
			t.Errorf("connection %d was answered by %q: %v", i, a.Message, err)
		}
		seen, err := netip.ParseAddrPort(a.Client)
		wantSource(t, seen, err, ours)
		message, seen, err := s.Echo(0, 0, f.at(7), "hello")
		if message != b.Name {
			t.Errorf("datagram %d was answered by %q", i, message)
		}
		wantSource(t, seen, err, ours)
	}
	curl := s.Run(s.Clients[0], tool(t, "curl"), "--silent", "--show-error", f.web()).OK(t)
	if !strings.Contains(curl, "<h1>backend1</h1>") {
		t.Errorf("curl printed:\n%s", curl)
	}
}

// wantSource asserts that a backend saw the balancer instead of a client.
func wantSource(t *testing.T, seen netip.AddrPort, err error, want netip.Addr) {
	t.Helper()
	if err != nil || seen.Addr() != want || seen.Port() < 10000 || seen.Port() > 29999 {
		t.Errorf("a backend saw %s, want %s with a port from 10000 to 29999: %v", seen, want, err)
	}
}

// Two dnat services share their only backend, and a client uses one port for
// both: their answers would be the same packets.
func TestCollisionWithoutAnotherBackendTakesAnotherPort(t *testing.T) {
	s := newStage(t, testenv.RigOptions{Backends: 1})
	twoServices(t, s)
	account := s.Account()
	const port = 40000
	one, two := dialFrom(t, s, port, vip+":80"), dialFrom(t, s, port, vip+":81")
	for range 3 {
		a, err := one.Ask()
		if want := netip.AddrPortFrom(s.ClientAddrs[0], port).String(); err != nil || a.Client != want {
			t.Errorf("the backend saw %q, want %s: %v", a.Client, want, err)
		}
		b, err := two.Ask()
		if err != nil || b.Client == a.Client || !strings.HasPrefix(b.Client, s.ClientAddrs[0].String()+":") {
			t.Errorf("the backend saw %q beside %q: %v", b.Client, a.Client, err)
		}
	}
	wantAllXDP(t, s, account)
}

// Many flows to one backend address, by four source addresses, live at once,
// and each gets its own answers. Every socket has a flow to each port of the
// service, which is as many flows for fewer descriptors.
func TestFullNATFlowsAreNotMixedUp(t *testing.T) {
	const ports = 10
	sockets := slow(2000, 60000) / ports
	s := fullNATStage(t, testenv.RigOptions{Backends: 1})
	sources := []netip.Addr{s.BackendAddrs[0].Prev()}
	for range 3 {
		sources = append(sources, addSource(t, s, len(sources)))
	}
	s.Balancer.Sysctl(t, "net.ipv4.ip_local_reserved_ports", "32768-60999")
	s.Configure(`
interfaces: %s
flow-table: 262144
full-nat: {addresses: [%s, %s, %s, %s], ports: 1024-65535}
services: [{name: echo, listen: "%s:7000-%d", protocol: udp, forward: full-nat, backends: %s}]`,
		s.Links(), sources[0], sources[1], sources[2], sources[3], vip, 7000+ports-1, s.BackendList(8080))
	s.Loader("attach").OK(t)

	started := time.Now()
	flows := openFlows(t, s, sockets, ports)
	for range 2 {
		if err := askAll(flows); err != nil {
			t.Fatalf("%v; the kernel counts %+v", err, s.Stats())
		}
	}
	used, seen := map[netip.Addr]int{}, map[netip.AddrPort]*echoFlow{}
	for _, f := range flows {
		if other := seen[f.seen]; other != nil {
			t.Fatalf("flows %s and %s both have source %s", other.id, f.id, f.seen)
		}
		seen[f.seen] = f
		used[f.seen.Addr()]++
	}
	for a, n := range used {
		if !slices.Contains(sources, a) || n < len(flows)/5 {
			t.Errorf("%d of %d flows have source %s, want about a quarter for each of %v", n, len(flows), a, sources)
		}
	}
	v := s.Stats()
	if v.Forwarded.Flows != uint64(len(flows)) || v.Kinds["drop"] != 0 {
		t.Errorf("made %d flows of %d, dropped %d frames: %v", v.Forwarded.Flows, len(flows), v.Kinds["drop"], v.Verdicts)
	}
	t.Logf("%d flows, asked twice each, in %s", len(flows), time.Since(started).Round(time.Millisecond))
}

// addSource gives the balancer the n-th further address on backend 1's cable.
func addSource(t *testing.T, s *stage.Stage, n int) netip.Addr {
	t.Helper()
	raw := s.BackendAddrs[0].As4()
	raw[3] = byte(100 + n)
	addr := netip.AddrFrom4(raw)
	s.Balancer.Do(t, func() error {
		l, err := netlink.LinkByName(s.BackendLinks[0])
		if err != nil {
			return err
		}
		return netlink.AddrAdd(l, &netlink.Addr{IPNet: &net.IPNet{IP: addr.AsSlice(), Mask: net.CIDRMask(32, 32)}})
	})
	return addr
}

// An echoFlow is one flow of a socket that has others too.
type echoFlow struct {
	socket *net.UDPConn
	to     netip.AddrPort
	id     string
	seen   netip.AddrPort // what the backend sees
}

// openFlows opens sockets and returns their flows to each port, a socket's one
// after the other. Nothing is sent yet.
func openFlows(t *testing.T, s *stage.Stage, sockets, ports int) []*echoFlow {
	t.Helper()
	var flows []*echoFlow
	s.Clients[0].Do(t, func() error {
		for i := range sockets {
			c, err := net.ListenUDP("udp4", &net.UDPAddr{Port: 20000 + i})
			if err != nil {
				return err
			}
			t.Cleanup(func() { c.Close() })
			for p := range ports {
				to := netip.AddrPortFrom(netip.MustParseAddr(vip), uint16(7000+p))
				flows = append(flows, &echoFlow{socket: c, to: to, id: fmt.Sprintf("%d-%d", i, p)})
			}
		}
		return nil
	})
	return flows
}

// askAll sends each flow's number once and wants it back, in the flow, from a
// backend that sees what it saw before.
func askAll(flows []*echoFlow) error {
	const workers = 10 // divides the flows of a socket to one worker
	var wg sync.WaitGroup
	errs := make([]error, workers)
	for w := range workers {
		wg.Go(func() {
			part := len(flows) / workers
			for _, f := range flows[w*part : (w+1)*part] {
				if errs[w] = f.ask(); errs[w] != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func (f *echoFlow) ask() error {
	if err := f.socket.SetDeadline(time.Now().Add(stage.Patience)); err != nil {
		return err
	}
	if _, err := f.socket.WriteToUDPAddrPort([]byte(f.id), f.to); err != nil {
		return err
	}
	buf := make([]byte, 256)
	n, from, err := f.socket.ReadFromUDPAddrPort(buf)
	if err != nil {
		return fmt.Errorf("flow %s: %w", f.id, err)
	}
	words := strings.Fields(string(buf[:n]))
	if from != f.to || len(words) != 3 || words[2] != f.id {
		return fmt.Errorf("flow %s got %q from %s", f.id, buf[:n], from)
	}
	seen, err := netip.ParseAddrPort(words[1])
	if err == nil && f.seen.IsValid() && seen != f.seen {
		err = fmt.Errorf("flow %s had source %s, now %s", f.id, f.seen, seen)
	}
	f.seen = seen
	return err
}

func TestFullNATThatCannotWorkChangesNothing(t *testing.T) {
	s := fullNATStage(t, testenv.RigOptions{Backends: 1})
	listener := s.Balancer.Listen(t, "tcp4", "0.0.0.0:12345")
	for name, c := range map[string]struct{ config, want string }{
		"ports of the host":   {"{ports: 30000-40000}", "sysctl -w net.ipv4.ip_local_reserved_ports=32768-40000"},
		"a port in use":       {"{ports: 12000-13000}", "a program of this host listens on tcp port 12345"},
		"an address not ours": {"{addresses: [10.9.9.9], ports: 20000-29999}", "10.9.9.9 is not an address of this host"},
	} {
		configureFullNAT(s, "full-nat: "+c.config)
		r := s.Loader("attach")
		if r.Code != 3 || !strings.Contains(r.Stderr, c.want) || strings.Count(r.Stderr, "\n") != 1 {
			t.Errorf("%s: exit status %d, want 3 and %q in one line:\n%s", name, r.Code, c.want, r.Stderr)
		}
		if r := s.Loader("status"); !strings.Contains(r.Stdout, "instance  none") {
			t.Errorf("%s: something is attached:\n%s", name, r.Stdout)
		}
		if r := s.Fairlead("check"); !strings.Contains(r.Stderr, c.want) {
			t.Errorf("%s: check says nothing of it:\n%s", name, r.Stderr)
		}
	}
	listener.Close()
	s.Balancer.Sysctl(t, "net.ipv4.ip_local_reserved_ports", "32768-40000")
	configureFullNAT(s, "full-nat: {ports: 30000-40000}")
	s.Loader("attach").OK(t)
	if _, err := s.Get(0, web); err != nil {
		t.Error(err)
	}
}

// Sources are there before a service needs them, and as long as it does.
func TestSwitchingFullNATFailsNoConnection(t *testing.T) {
	s := attached(t, testenv.RigOptions{})
	talk, err := s.Dial(0, vip+":80")
	if err != nil {
		t.Fatal(err)
	}
	account := s.Account()
	end := overAndOver(func() error {
		_, err := s.Get(0, web)
		return err
	})
	for range slow(5, 50) {
		configureFullNAT(s, "")
		s.Loader("attach").OK(t)
		configure(s, "")
		s.Loader("attach").OK(t)
		if a, err := talk.Ask(); err != nil || !strings.HasPrefix(a.Client, s.ClientAddrs[0].String()+":") {
			t.Fatalf("the connection from before is seen as %q: %v", a.Client, err)
		}
	}
	if n, err := end(); err != nil || n == 0 {
		t.Errorf("%d connections, then: %v", n, err)
	}
	closeAccount(t, account)
}

// Nobody watches over what loader attaches; an agent waits for the route.
func TestFullNATBackendWithoutARoute(t *testing.T) {
	s := fullNATStage(t, testenv.RigOptions{Backends: 1})
	s.Configure(`
interfaces: %s
services: [{name: web, listen: %s:80, forward: full-nat, backends: [{address: 192.0.2.1:8080}, {address: %s:8080}], health: {type: none}}]`,
		s.Links(), vip, s.BackendAddrs[0])
	const want = "there is no source address towards backend 192.0.2.1: add a route"
	if r := s.Loader("attach"); r.Code != 3 || !strings.Contains(r.Stderr, want) {
		t.Errorf("attach: exit status %d, want 3 and %q:\n%s", r.Code, want, r.Stderr)
	}
	agent := s.StartAgent()
	for range 3 {
		if a, err := s.Get(0, web); err != nil || a.Message != "backend1" {
			t.Errorf("answer of %q: %v", a.Message, err)
		}
	}
	if v := s.Stats(); v.Forwarded.Flows != 3 {
		t.Errorf("%d flows in the kernel, want 3: %v", v.Forwarded.Flows, v.Verdicts)
	}
	agent.Stop(syscall.SIGTERM)
}

func TestAgentKeepsFullNATSourcesTrue(t *testing.T) {
	s := fullNATStage(t, testenv.RigOptions{Backends: 1})
	configureFullNAT(s, "")
	agent := s.StartAgent()
	if out := s.Fairlead("status").OK(t); !strings.Contains(out, "full-nat") {
		t.Errorf("status says nothing of full-nat:\n%s", out)
	}
	other := addSource(t, s, 1)
	s.Balancer.Do(t, func() error {
		l, err := netlink.LinkByName(s.BackendLinks[0])
		if err != nil {
			return err
		}
		return netlink.RouteAdd(&netlink.Route{
			LinkIndex: l.Attrs().Index, Src: other.AsSlice(), Scope: netlink.SCOPE_LINK,
			Dst: &net.IPNet{IP: s.BackendAddrs[0].AsSlice(), Mask: net.CIDRMask(32, 32)},
		})
	})
	stage.Await(t, "the backend to see the new source", func() error {
		_, seen, err := s.Echo(0, 0, vip+":7", "hello")
		if err == nil && seen.Addr() != other {
			err = fmt.Errorf("it saw %s", seen)
		}
		return err
	})
	before := s.BackendRows()
	configureFullNAT(s, "full-nat: {addresses: [10.9.9.9]}")
	agent.Signal(syscall.SIGHUP)
	agent.AwaitOutput("10.9.9.9 is not an address of this host")
	if after := s.BackendRows(); !slices.Equal(before[0].Sources, after[0].Sources) {
		t.Errorf("a refused configuration changed sources %v to %v", before[0].Sources, after[0].Sources)
	}
	agent.Stop(syscall.SIGTERM)
}
