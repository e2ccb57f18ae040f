package splice

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// broadcast has no route anywhere: a TCP connection cannot be a broadcast.
var broadcast = netip.MustParseAddrPort("255.255.255.255:80")

func TestADeadBackendIsReplaced(t *testing.T) {
	for _, row := range []struct {
		name  string
		dead  func(testing.TB) netip.AddrPort
		want  DialErrors
		blame error // nil: the backend is not at fault
	}{
		{"it refuses", closedPort, DialErrors{Refused: 1}, syscall.ECONNREFUSED},
		{"it does not answer", silentPort, DialErrors{Timeout: 1}, os.ErrDeadlineExceeded},
		{"there is no way to it", func(testing.TB) netip.AddrPort { return broadcast }, DialErrors{Unreachable: 1}, syscall.ENETUNREACH},
		{"this host is at fault", func(testing.TB) netip.AddrPort { return netip.AddrPort{} }, DialErrors{Local: 1}, nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			pick := to(row.dead(t), listen(t, echo))
			told := make(chan error, 2)
			p := serve(t, &Proxy{DialTimeout: 2 * time.Second, Pick: func(c, l netip.AddrPort, tried []netip.AddrPort) (netip.AddrPort, func(error), bool) {
				addr, _, ok := pick(c, l, tried)
				return addr, func(err error) { told <- err }, ok
			}})
			c := dial(t, p.addr)
			roundTrip(t, c, "hello")
			c.Close()
			if err := <-told; !errors.Is(err, row.blame) && !isTimeout(err, row.blame) {
				t.Errorf("the dead backend was told %v, want %v", err, row.blame)
			}
			if err := <-told; err != nil {
				t.Errorf("the good backend was told %v", err)
			}
			await(t, "the session is over", func() bool { return p.Stats().Active == 0 })
			want := Stats{Accepted: 1, Retries: 1, ToBackends: 5, ToClients: 5, DialErrors: row.want}
			if diff := cmp.Diff(want, p.Stats()); diff != "" {
				t.Errorf("stats -want +got:\n%s", diff)
			}
		})
	}
}

func isTimeout(err, want error) bool {
	var n net.Error
	return errors.Is(want, os.ErrDeadlineExceeded) && errors.As(err, &n) && n.Timeout()
}

func TestFaultsOfThisHostAreNotBlamedOnTheBackend(t *testing.T) {
	for err, want := range map[error]fault{
		syscall.EADDRNOTAVAIL:    local,
		syscall.EMFILE:           local,
		syscall.ENOBUFS:          local,
		syscall.EPERM:            local,
		context.Canceled:         local,
		syscall.ECONNREFUSED:     refused,
		syscall.EHOSTUNREACH:     unreachable,
		syscall.ETIMEDOUT:        timeout,
		context.DeadlineExceeded: timeout,
	} {
		wrapped := &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", err)}
		if got := faultOf(wrapped); got != want {
			t.Errorf("%v is a fault of kind %d, want %d", err, got, want)
		}
	}
}

func TestWithoutABackendTheClientIsReset(t *testing.T) {
	dead := closedPort(t)
	for name, row := range map[string]struct {
		pick func(_, _ netip.AddrPort, tried []netip.AddrPort) (netip.AddrPort, func(error), bool)
		want Stats
	}{
		"none at all":     {to(), Stats{Accepted: 1, NoBackend: 1}},
		"none that lives": {to(dead), Stats{Accepted: 1, NoBackend: 1, DialErrors: DialErrors{Refused: 1}}},
		"the same one for ever": {func(_, _ netip.AddrPort, _ []netip.AddrPort) (netip.AddrPort, func(error), bool) {
			return dead, nil, true
		}, Stats{Accepted: 1, NoBackend: 1, DialErrors: DialErrors{Refused: 1}}},
	} {
		t.Run(name, func(t *testing.T) {
			p := serve(t, &Proxy{Pick: row.pick})
			// The reset may come before connect has returned.
			c, err := net.Dial("tcp", p.addr.String())
			switch {
			case err == nil:
				defer c.Close()
				wantReset(t, c.(*net.TCPConn))
			case !errors.Is(err, syscall.ECONNRESET):
				t.Errorf("dial: %v, want a reset", err)
			}
			await(t, "the session is over", func() bool { return p.Stats().Active == 0 })
			if diff := cmp.Diff(row.want, p.Stats()); diff != "" {
				t.Errorf("stats -want +got:\n%s", diff)
			}
		})
	}
}

func TestPickSeesWhoSpeaksToWhom(t *testing.T) {
	back := listen(t, echo)
	for _, listen := range []string{"127.0.0.1:0", "0.0.0.0:0", "[::1]:0", "[::]:0"} {
		t.Run(listen, func(t *testing.T) {
			type pair struct{ client, local netip.AddrPort }
			saw := make(chan pair, 1)
			p := serveOn(t, &Proxy{Pick: func(client, local netip.AddrPort, _ []netip.AddrPort) (netip.AddrPort, func(error), bool) {
				saw <- pair{client, local}
				return back, nil, true
			}}, netip.MustParseAddrPort(listen))
			host := netip.MustParseAddr("127.0.0.1")
			if p.addr.Addr().Is6() {
				host = netip.IPv6Loopback()
			}
			c := dial(t, netip.AddrPortFrom(host, p.addr.Port()))
			roundTrip(t, c, "x")
			want := pair{addrPort(c.LocalAddr()), netip.AddrPortFrom(host, p.addr.Port())}
			if got := <-saw; got != want {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
}

func TestBothFamiliesMayHaveOnePort(t *testing.T) {
	four, err := Listen(t.Context(), netip.MustParseAddrPort("0.0.0.0:0"))
	if err != nil {
		t.Fatal(err)
	}
	defer four.Close()
	six, err := Listen(t.Context(), netip.AddrPortFrom(netip.IPv6Unspecified(), addrPort(four.Addr()).Port()))
	if err != nil {
		t.Fatal("the port is taken by IPv4:", err)
	}
	six.Close()
}

func TestListenerOptionsReachConnections(t *testing.T) {
	l, err := Listen(t.Context(), netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dial(t, addrPort(l.Addr()))
	c, err := l.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var got [3]int
	_ = raw.Control(func(fd uintptr) {
		for i, opt := range [3][2]int{
			{syscall.SOL_SOCKET, unix.SO_PROTOCOL},
			{syscall.IPPROTO_TCP, syscall.TCP_KEEPIDLE},
			{syscall.IPPROTO_TCP, syscall.TCP_NODELAY},
		} {
			got[i], _ = syscall.GetsockoptInt(int(fd), opt[0], opt[1])
		}
	})
	if want := [3]int{syscall.IPPROTO_TCP, 15, 1}; got != want {
		t.Errorf("protocol, keepalive, nodelay: %v, want %v", got, want)
	}
}

func TestCloseBackendResetsItsConnectionsAndNoOthers(t *testing.T) {
	broke := make(chan error, 10)
	doomed := listen(t, func(c *net.TCPConn) {
		_, err := io.Copy(c, struct{ io.Reader }{c})
		broke <- err
	})
	other := listen(t, echo)
	var n atomic.Int32
	p := serve(t, &Proxy{Pick: func(_, _ netip.AddrPort, _ []netip.AddrPort) (netip.AddrPort, func(error), bool) {
		if n.Add(1)%2 == 0 {
			return doomed, nil, true
		}
		return other, nil, true
	}})
	var conns []*net.TCPConn
	for range 10 {
		c := dial(t, p.addr)
		roundTrip(t, c, "before")
		conns = append(conns, c)
	}
	if n := p.CloseBackend(doomed); n != 5 {
		t.Errorf("closed %d connections, want 5", n)
	}
	for i, c := range conns {
		if i%2 == 0 {
			roundTrip(t, c, "after")
			continue
		}
		wantReset(t, c)
		if err := <-broke; !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the backend's side ended with %v, want a reset", err)
		}
	}
	await(t, "the closed sessions are over", func() bool { return p.Stats().Active == 5 })
	if s := p.Stats(); s.Cut != 5 || s.Resets != 0 {
		t.Errorf("stats %+v", s)
	}
	if n := p.CloseBackend(doomed); n != 0 {
		t.Errorf("closed %d connections again", n)
	}
}

// dialling serves with a first backend that does not answer and a second that
// does, and returns when a client waits for the first.
func dialling(t *testing.T) (p *running, c *net.TCPConn, silent netip.AddrPort, picks *atomic.Int32) {
	silent = silentPort(t)
	good := listen(t, echo)
	picks = new(atomic.Int32)
	p = serve(t, &Proxy{DialTimeout: patience, Pick: func(_, _ netip.AddrPort, tried []netip.AddrPort) (netip.AddrPort, func(error), bool) {
		if picks.Add(1) == 1 {
			return silent, nil, true
		}
		return good, nil, len(tried) == 0
	}})
	c = dial(t, p.addr)
	await(t, "a backend is picked", func() bool { return picks.Load() == 1 })
	return p, c, silent, picks
}

func TestCloseBackendSendsAConnectionInTheMakingElsewhere(t *testing.T) {
	p, c, silent, _ := dialling(t)
	p.CloseBackend(silent)
	roundTrip(t, c, "hello")
	if s := p.Stats(); s.DialErrors != (DialErrors{}) || s.Cut != 0 || s.Retries != 0 {
		t.Errorf("stats %+v", s)
	}
}

func TestABackendClosedWhileItIsPickedIsNotUsed(t *testing.T) {
	doomed, good := listen(t, func(*net.TCPConn) {}), listen(t, echo)
	p := &Proxy{}
	var picks atomic.Int32
	p.Pick = func(_, _ netip.AddrPort, tried []netip.AddrPort) (netip.AddrPort, func(error), bool) {
		if picks.Add(1) == 1 {
			p.CloseBackend(doomed)
			return doomed, nil, true
		}
		return good, nil, len(tried) == 0
	}
	roundTrip(t, dial(t, serve(t, p).addr), "hello")
}

func TestNoSecondDialForAClientThatIsGone(t *testing.T) {
	p, c, silent, picks := dialling(t)
	reset(c)
	await(t, "the reset arrives", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		for s := range p.sessions {
			return gone(s.client)
		}
		return false
	})
	p.CloseBackend(silent)
	await(t, "the session is over", func() bool { return p.Stats().Active == 0 })
	if n := picks.Load(); n != 1 {
		t.Errorf("picked %d times", n)
	}
}

func TestTheEndIsGraceful(t *testing.T) {
	p := serve(t, &Proxy{Pick: to(listen(t, echo)), Grace: time.Hour})
	c := dial(t, p.addr)
	roundTrip(t, c, "before")
	p.stop()
	await(t, "nobody is accepted", func() bool {
		c, err := net.Dial("tcp", p.addr.String())
		if err == nil {
			c.Close()
		}
		return errors.Is(err, syscall.ECONNREFUSED)
	})
	roundTrip(t, c, "after")
	select {
	case err := <-p.end:
		t.Fatalf("Serve ended before its connection: %v", err)
	default:
	}
	c.Close()
	if err := <-p.end; !errors.Is(err, errStopped) {
		t.Errorf("Serve returned %v", err)
	}
}

func TestTheEndIsNotForEver(t *testing.T) {
	// The other session is still being made when Grace is over.
	p, dialler, _, _ := dialling(t)
	c := dial(t, p.addr)
	roundTrip(t, c, "before")
	p.stop()
	wantReset(t, c)
	wantReset(t, dialler)
	if err := <-p.end; !errors.Is(err, errStopped) {
		t.Errorf("Serve returned %v", err)
	}
	if s := p.Stats(); s.Active != 0 || s.Cut != 1 || s.NoBackend != 0 {
		t.Errorf("stats %+v", s)
	}
}

func TestABrokenListenerEndsServe(t *testing.T) {
	l, err := Listen(t.Context(), netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := new(Proxy).Serve(t.Context(), l); !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v", err)
	}
}
