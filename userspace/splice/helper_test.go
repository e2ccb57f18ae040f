package splice

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"fairlead/testenv"
	"fairlead/testenv/leak"
)

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		os.Exit(child())
	}
	leak.Each(m).Run()
}

// patience is how long a test waits for what must come.
const patience = 30 * time.Second

// A running is a Proxy that serves.
type running struct {
	*Proxy
	addr netip.AddrPort
	stop context.CancelFunc
	end  chan error // what Serve returned
}

var errStopped = errors.New("stopped by the test")

func serve(tb testing.TB, p *Proxy) *running {
	tb.Helper()
	return serveOn(tb, p, netip.MustParseAddrPort("127.0.0.1:0"))
}

func serveOn(tb testing.TB, p *Proxy, addr netip.AddrPort) *running {
	tb.Helper()
	l, err := Listen(tb.Context(), addr)
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	r := &running{p, addrPort(l.Addr()), func() { cancel(errStopped) }, make(chan error, 1)}
	var wg sync.WaitGroup
	wg.Go(func() { r.end <- p.Serve(ctx, l) })
	tb.Cleanup(func() {
		r.stop()
		p.cut(func(*session) bool { return true })
		wg.Wait()
	})
	return r
}

// listen runs handle for every connection to a new backend until the test is
// over, and closes them.
func listen(tb testing.TB, handle func(*net.TCPConn)) netip.AddrPort {
	tb.Helper()
	l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		tb.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.AcceptTCP()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(patience))
				handle(c)
			})
		}
	})
	tb.Cleanup(func() {
		l.Close()
		wg.Wait()
	})
	return addrPort(l.Addr())
}

func echo(c *net.TCPConn) { _, _ = io.Copy(c, c) }

func dial(tb testing.TB, addr netip.AddrPort) *net.TCPConn {
	tb.Helper()
	c, err := net.DialTCP("tcp", nil, net.TCPAddrFromAddrPort(addr))
	if err != nil {
		tb.Fatal(err)
	}
	_ = c.SetDeadline(time.Now().Add(patience))
	tb.Cleanup(func() { c.Close() })
	return c
}

// closedPort is an address that refuses.
func closedPort(tb testing.TB) netip.AddrPort {
	tb.Helper()
	// Bound, so that nobody else gets it, but not listening.
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { syscall.Close(fd) })
	return bound(tb, fd)
}

func bound(tb testing.TB, fd int) netip.AddrPort {
	tb.Helper()
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		tb.Fatal(err)
	}
	sa, err := syscall.Getsockname(fd)
	if err != nil {
		tb.Fatal(err)
	}
	return netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(sa.(*syscall.SockaddrInet4).Port))
}

// silentPort is an address that does not answer: its queue is full.
func silentPort(tb testing.TB) netip.AddrPort {
	tb.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { syscall.Close(fd) })
	addr := bound(tb, fd)
	if err := syscall.Listen(fd, 0); err != nil {
		tb.Fatal(err)
	}
	for range 8 {
		c, err := net.DialTimeout("tcp", addr.String(), time.Second)
		if err != nil {
			return addr
		}
		tb.Cleanup(func() { c.Close() })
	}
	tb.Fatal("the queue does not fill")
	return addr
}

// await waits until a condition holds.
var await = testenv.Await

// wantReset fails the test unless c gets a reset.
func wantReset(tb testing.TB, c *net.TCPConn) {
	tb.Helper()
	if _, err := io.Copy(io.Discard, c); !errors.Is(err, syscall.ECONNRESET) {
		tb.Errorf("reading ended with %v, want a reset", err)
	}
}

// roundTrip sends b and wants it back.
func roundTrip(tb testing.TB, c net.Conn, b string) {
	tb.Helper()
	if _, err := io.WriteString(c, b); err != nil {
		tb.Fatal(err)
	}
	got := make([]byte, len(b))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != b {
		tb.Fatalf("got %q, %v, want %q", got, err, b)
	}
}

// to is a Pick that answers the first of addrs that was not tried.
func to(addrs ...netip.AddrPort) func(_, _ netip.AddrPort, tried []netip.AddrPort) (netip.AddrPort, func(error), bool) {
	return func(_, _ netip.AddrPort, tried []netip.AddrPort) (netip.AddrPort, func(error), bool) {
		if len(tried) == len(addrs) {
			return netip.AddrPort{}, nil, false
		}
		return addrs[len(tried)], nil, true
	}
}
