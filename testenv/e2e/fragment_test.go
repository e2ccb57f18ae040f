package e2e

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"fairlead/testenv"
	"fairlead/testenv/stage"
	"fairlead/userspace/view"
)

// Datagrams of 9000 bytes go to a backend and come back, over links of 1500.
func TestBigDatagrams(t *testing.T) {
	inModes(t, func(t *testing.T, mode string) {
		inFamilies(t, func(t *testing.T, f family) {
			s := f.stage(t, testenv.RigOptions{})
			s.Configure("interfaces: %s\nservices: [{name: echo, listen: '%s', protocol: udp, backends: %s}]", s.Links(), f.at(7), f.backends(s, 8080))
			s.Loader("attach", "--mode", mode).OK(t)
			text := strings.Repeat("fairlead ", 1000)
			for i := range 30 {
				if _, _, err := s.Echo(0, uint16(30000+i%10), f.at(7), text); err != nil {
					t.Fatal(err)
				}
			}
			if v := s.Stats(); v.Kinds["drop"] != 0 || v.Verdicts["pass_fragment"] != 0 {
				t.Errorf("XDP dropped or passed fragments: %v", v.Verdicts)
			}
			wantSound(t, s)
		})
	})
}

// A router in front of the balancer cuts a client's segments up.
func TestSegmentsInFragments(t *testing.T) {
	s := newStage(t, testenv.RigOptions{})
	router := s.Clients[0]
	far, _ := s.Behind(t, router)
	router.SetMTU(t, testenv.Uplink, smallMTU)
	far.Sysctl(t, "net.ipv4.ip_no_pmtu_disc", "1")
	transfers := serveRaw(t, s, families[0])
	account := s.Account()
	for range s.Backends {
		client, server, _ := transfers.open(t, far)
		wantWhole(t, client, server)
	}
	wantAllXDP(t, s, account)
	if n := s.StackCounter(router, "Ip", "FragCreates"); n == 0 {
		t.Error("the router has cut nothing up")
	}
	for i, h := range s.Backends {
		if s.StackCounter(h, "Ip", "ReasmOKs") == 0 {
			t.Errorf("backend %d has put no segment together", i)
		}
	}
}

// wantNoneGivenUp asserts that the agent has dropped no fragment, and returns
// how many it has given back.
func wantNoneGivenUp(t *testing.T, s *stage.Stage) uint64 {
	t.Helper()
	v := s.AwaitView("the agent to hold nothing", func(v *view.View) bool {
		return v.Fragments.Held == 0 && v.Fragments.Taken == s.Stats().Verdicts["hold_fragment"]
	})
	if f := v.Fragments; f.GivenBack != f.Taken || f.Bytes != 0 {
		t.Errorf("the agent gave up fragments: %+v", f)
	}
	return v.Fragments.GivenBack
}

// crowd is how many datagrams are on their way at once.
const crowd = 8000

// One fragment of each of many datagrams comes after one of each other.
func TestInterleavedFragments(t *testing.T) {
	inFamilies(t, func(t *testing.T, f family) {
		for _, forward := range []string{"dnat", "full-nat"} {
			for _, turned := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, out of order %t", forward, turned), func(t *testing.T) {
					interleave(t, f, f, forward, turned)
				})
			}
		}
	})
}

// interleave sends a crowd of datagrams of f to a backend of the family other, and
// as many answers.
func interleave(t *testing.T, f, other family, forward string, turned bool) {
	s := newExchangeStage(t, f, other)
	e := newExchangeWith(t, s, f, other, forward)
	s.StartAgent()
	account := s.Account()
	firsts, laters := e.questions()
	e.send(0, turned, firsts, laters)
	e.wantQuestions()
	firsts, laters = e.answers()
	e.send(1, turned, firsts, laters)
	e.wantAnswers()
	if held := wantNoneGivenUp(t, s); turned && held != 2*crowd || !turned && held != 0 {
		t.Errorf("%d fragments were held", held)
	}
	sums := closeAccount(t, account)
	// Hosts of IPv6 look after their neighbours, by a packet or two.
	others := sums.Verdicts - sums.XDP - sums.Held
	if sums.XDP != 4*crowd || sums.Dropped != 0 || others > s.Stats().Verdicts["pass_other"] {
		t.Errorf("some fragments took other ways than XDP: %+v", sums)
	}
	wantSound(t, s)
}

func TestFragmentsOutOfOrderInGenericMode(t *testing.T) {
	s := newExchangeStage(t, families[0])
	e := newExchange(t, s, families[0], "dnat")
	s.StartAgent("--mode", "generic")
	firsts, laters := e.questions()
	const wave = crowd / 20 // is through long before the agent gives a fragment up
	for from := 0; from < crowd; from += wave {
		e.send(0, true, firsts[from:from+wave], laters[from:from+wave])
		e.wantFromClients(wave)
	}
	if held := wantNoneGivenUp(t, s); held != crowd {
		t.Errorf("%d fragments were held", held)
	}
}

// What comes back need not be forwarded: the proxy gets whole datagrams too.
func TestFragmentsForTheProxy(t *testing.T) {
	const few = 50
	s := newExchangeStage(t, families[0])
	e := newExchange(t, s, families[0], "proxy")
	s.StartAgent()
	account := s.Account()
	firsts, laters := e.questions()
	e.send(0, true, firsts[:few], laters[:few])
	e.want(e.server, few, func(int, netip.AddrPort) {})
	if held := wantNoneGivenUp(t, s); held != few {
		t.Errorf("%d fragments were held", held)
	}
	closeAccount(t, account)
	if n := s.Stats().Verdicts["pass_proxy"]; n != 2*few {
		t.Errorf("%d fragments were left to the proxy, want %d", n, 2*few)
	}
}

// Without an agent, only fragments that come before their first are lost.
func TestAgentDiesAmongFragments(t *testing.T) {
	s := newExchangeStage(t, families[0])
	e := newExchange(t, s, families[0], "dnat")
	agent := s.StartAgent()
	firsts, laters := e.questions()
	s.Clients[0].Inject(t, testenv.Uplink, firsts...)
	agent.Stop(syscall.SIGKILL)
	s.Clients[0].Inject(t, testenv.Uplink, laters...)
	e.wantQuestions()
	stray := slices.Clone(laters[0])
	stray[18] = 0xff // of a datagram that nobody knows
	before := s.Stats().Verdicts
	s.Clients[0].Inject(t, testenv.Uplink, stray)
	stage.Await(t, "a verdict about the stray fragment", func() error {
		if after := s.Stats().Verdicts; after["drop_fragment"] != before["drop_fragment"]+1 {
			return fmt.Errorf("verdicts are %v", after)
		}
		return nil
	})
}

// Fragments whose first one never comes take no more room than there is, and
// every one is counted.
func TestStrayFragments(t *testing.T) {
	const strays = 20000
	s := newExchangeStage(t, families[0])
	e := newExchange(t, s, families[0], "dnat")
	s.StartAgent()
	own := s.ClientAddrs[0]
	whole := testenv.UDPFrame(testenv.FrameSpec{
		SrcMAC: testenv.MAC(own), DstMAC: testenv.MAC(own.Prev()),
		Src: netip.AddrPortFrom(own, 1), Dst: netip.MustParseAddrPort(vip + ":7"), Payload: make([]byte, 1400),
	})
	frames := make([][]byte, strays)
	for i := range frames {
		frames[i] = testenv.Fragment(whole, 8, 0)
		binary.BigEndian.PutUint16(frames[i][18:], uint16(crowd+i))
	}
	s.Clients[0].Inject(t, testenv.Uplink, frames...)
	v := s.AwaitView("the agent to give up", func(v *view.View) bool {
		return v.Fragments.Held == 0 && v.Fragments.Taken == s.Stats().Verdicts["hold_fragment"]
	})
	f, n := v.Fragments, s.Stats().Verdicts
	if f.TimedOut+f.NoRoom != f.Taken || n["hold_fragment"]+n["drop_fragment"] != strays {
		t.Errorf("of %d fragments the agent counts %+v, the kernel %v", strays, f, n)
	}
	t.Logf("%+v", f)
	firsts, laters := e.questions()
	e.send(0, true, firsts, laters)
	e.wantQuestions()
}

// An exchange is one of many datagrams between clients, one for each port, and
// a backend that is this test.
type exchange struct {
	t       *testing.T
	s       *stage.Stage
	f       family // of the clients
	other   family // of the backend; the same, or not
	server  net.PacketConn
	clients []net.PacketConn
	seen    []netip.AddrPort // by client: whom the server saw
}

const (
	exchangeClients = 8
	exchangePort    = 9000 // of the backend
	clientPort      = 30000
)

// newExchangeStage raises a stage of these families with one backend.
func newExchangeStage(t *testing.T, of ...family) *stage.Stage {
	t.Helper()
	o := testenv.RigOptions{Backends: 1, IPv6: slices.ContainsFunc(of, family.is6)}
	return stage.New(t, stage.Options{RigOptions: o, Programs: programs})
}

// newExchange writes a configuration with a service for it, which nobody
// attaches yet.
func newExchange(t *testing.T, s *stage.Stage, f family, forward string) *exchange {
	t.Helper()
	return newExchangeWith(t, s, f, f, forward)
}

// newExchangeWith is newExchange with a backend of the family other.
func newExchangeWith(t *testing.T, s *stage.Stage, f, other family, forward string) *exchange {
	t.Helper()
	s.Configure("interfaces: %s\nservices: [{name: echo, listen: '%s', protocol: udp, forward: %s, backends: %s, health: {type: none}}]",
		s.Links(), f.at(7), forward, other.backends(s, exchangePort))
	for _, h := range []*testenv.Host{s.Clients[0], s.Backends[0]} {
		h.Sysctl(t, "net.ipv4.ipfrag_high_thresh", "268435456")
		h.Sysctl(t, "net.ipv4.ipfrag_max_dist", "0") // so many come between two of one datagram
		if f.is6() || other.is6() {
			h.Sysctl(t, "net.ipv6.ip6frag_high_thresh", "268435456")
		}
	}
	e := &exchange{t: t, s: s, f: f, other: other, server: roomy(t, s.Backends[0], other, exchangePort), seen: make([]netip.AddrPort, exchangeClients)}
	for i := range exchangeClients {
		e.clients = append(e.clients, roomy(t, s.Clients[0], f, clientPort+i))
	}
	return e
}

// roomy listens with room for all datagrams.
func roomy(t *testing.T, h *testenv.Host, f family, port int) net.PacketConn {
	t.Helper()
	c := h.ListenPacket(t, "udp"+f.suffix, f.wild(port))
	raw, err := c.(*net.UDPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	cerr := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20) })
	if err := errors.Join(cerr, err, c.SetReadDeadline(time.Now().Add(2*stage.Patience))); err != nil {
		t.Fatal(err)
	}
	return c
}

// text is what the i-th datagram says: 16 bytes, half of them in each fragment.
func text(i int) string { return fmt.Sprintf("%08d%08d", i, i) }

// pieces are the two fragments of each datagram.
func pieces(spec func(i int) testenv.FrameSpec) (firsts, laters [][]byte) {
	const cut = 16
	for i := range crowd {
		f := spec(i)
		f.ID, f.Payload = uint16(i), []byte(text(i))
		if f.Src.Addr().Is6() {
			frame, id := testenv.UDPFrame(f), uint32(i)<<16|uint32(i)
			firsts, laters = append(firsts, testenv.Fragment6(frame, id, 0, cut)), append(laters, testenv.Fragment6(frame, id, cut, 0))
			continue
		}
		frame := testenv.UDPFrame(f)
		firsts, laters = append(firsts, testenv.Fragment(frame, 0, cut)), append(laters, testenv.Fragment(frame, cut, 0))
	}
	return firsts, laters
}

// questions are those of the clients to the service.
func (e *exchange) questions() (firsts, laters [][]byte) {
	own := e.s.ClientAddrs[0]
	return pieces(func(i int) testenv.FrameSpec {
		return testenv.FrameSpec{
			SrcMAC: testenv.MAC(own), DstMAC: testenv.MAC(own.Prev()),
			Src: netip.AddrPortFrom(e.f.addr(own), uint16(clientPort+i%exchangeClients)), Dst: netip.MustParseAddrPort(e.f.at(7)),
		}
	})
}

// answers are those of the backend.
func (e *exchange) answers() (firsts, laters [][]byte) {
	own := e.s.BackendAddrs[0]
	return pieces(func(i int) testenv.FrameSpec {
		return testenv.FrameSpec{
			SrcMAC: testenv.MAC(own), DstMAC: testenv.MAC(own.Prev()),
			Src: netip.AddrPortFrom(e.other.addr(own), exchangePort), Dst: e.seen[i%exchangeClients],
		}
	})
}

// send sends first all of the one and then all of the other fragments, from
// the client or from the backend (1).
func (e *exchange) send(from int, turned bool, firsts, laters [][]byte) {
	e.t.Helper()
	if turned {
		firsts, laters = laters, firsts
	}
	host := []*testenv.Host{e.s.Clients[0], e.s.Backends[0]}[from]
	host.Inject(e.t, testenv.Uplink, firsts...)
	host.Inject(e.t, testenv.Uplink, laters...)
}

// wantQuestions reads all of them, and notes whom the backend saw.
func (e *exchange) wantQuestions() {
	e.t.Helper()
	e.wantFromClients(crowd)
}

// wantFromClients is wantQuestions for n of them.
func (e *exchange) wantFromClients(n int) {
	e.t.Helper()
	e.want(e.server, n, func(i int, from netip.AddrPort) {
		if was := e.seen[i%exchangeClients]; was.IsValid() && was != from {
			e.t.Fatalf("a client was seen as %s and as %s", was, from)
		}
		e.seen[i%exchangeClients] = from
	})
}

// wantAnswers reads all of them.
func (e *exchange) wantAnswers() {
	e.t.Helper()
	for n, c := range e.clients {
		e.want(c, crowd/exchangeClients, func(i int, from netip.AddrPort) {
			if i%exchangeClients != n || from != netip.MustParseAddrPort(e.f.at(7)) {
				e.t.Fatalf("client %d got answer %d from %s", n, i, from)
			}
		})
	}
}

// want reads n different datagrams.
func (e *exchange) want(c net.PacketConn, n int, each func(i int, from netip.AddrPort)) {
	e.t.Helper()
	got := map[int]bool{}
	buf := make([]byte, 100)
	for len(got) < n {
		size, from, err := c.ReadFrom(buf)
		if err != nil {
			e.t.Fatalf("%d of %d datagrams have arrived: %v; verdicts: %v", len(got), n, err, e.s.Stats().Verdicts)
		}
		var i int
		if _, err := fmt.Sscanf(string(buf[:8]), "%d", &i); err != nil || string(buf[:size]) != text(i) || got[i] {
			e.t.Fatalf("a datagram says %q, seen before: %t: %v", buf[:size], got[i], err)
		}
		got[i] = true
		each(i, from.(*net.UDPAddr).AddrPort())
	}
}
