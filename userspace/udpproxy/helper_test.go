package udpproxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

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

var loopback = netip.MustParseAddrPort("127.0.0.1:0")

// A running is a Proxy that serves.
type running struct {
	*Proxy
	addr netip.AddrPort
	stop func() error // returns what Serve returned
}

var errStopped = errors.New("stopped by the test")

func serve(tb testing.TB, p *Proxy) *running {
	tb.Helper()
	l, err := Listen(tb.Context(), loopback)
	if err != nil {
		tb.Fatal(err)
	}
	return serveOn(tb, p, l)
}

func serveOn(tb testing.TB, p *Proxy, l *net.UDPConn) *running {
	ctx, cancel := context.WithCancelCause(context.Background())
	end := make(chan error, 1)
	go func() { end <- p.Serve(ctx, l) }()
	stop := sync.OnceValue(func() error {
		cancel(errStopped)
		return <-end
	})
	tb.Cleanup(func() { _ = stop() })
	return &running{p, addrPort(l.LocalAddr()), stop}
}

// bind opens a socket on addr. If that names a port, it is one of deadPort.
func bind(tb testing.TB, addr netip.AddrPort) *net.UDPConn {
	tb.Helper()
	var lc net.ListenConfig
	if addr.Port() != 0 {
		lc.Control = func(_, _ string, c syscall.RawConn) error { return share(c) }
	}
	c, err := lc.ListenPacket(tb.Context(), "udp4", addr.String())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { c.Close() })
	return c.(*net.UDPConn)
}

// share lets others who share bind the same port. A socket without a port yet
// might be given one that another process shares.
func share(c syscall.RawConn) error {
	var optErr error
	err := c.Control(func(fd uintptr) {
		optErr = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	})
	return errors.Join(err, optErr)
}

// A datagram is what a backend got.
type datagram struct {
	from netip.AddrPort
	text string
}

// echo answers each datagram on addr with its text, after told was called with it.
func echo(tb testing.TB, addr netip.AddrPort, told func(datagram)) netip.AddrPort {
	tb.Helper()
	c := bind(tb, addr)
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, maxDatagram)
		for {
			n, from, err := c.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			if told != nil {
				told(datagram{from, string(buf[:n])})
			}
			_, _ = c.WriteToUDPAddrPort(buf[:n], from)
		}
	}()
	tb.Cleanup(func() {
		c.Close()
		<-done
	})
	return addrPort(c.LocalAddr())
}

// deadPort is an address that refuses. It is taken, by a socket that only
// hears another port, so that nobody else gets it but who shares it.
func deadPort(tb testing.TB) netip.AddrPort {
	tb.Helper()
	c := bind(tb, loopback)
	raw, err := c.SyscallConn()
	if err != nil {
		tb.Fatal(err)
	}
	var connectErr error
	err = raw.Control(func(fd uintptr) {
		connectErr = unix.Connect(int(fd), &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: 1})
	})
	if err := errors.Join(err, connectErr, share(raw)); err != nil {
		tb.Fatal(err)
	}
	return addrPort(c.LocalAddr())
}

func client(tb testing.TB, addr netip.AddrPort) *net.UDPConn {
	tb.Helper()
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(addr))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { c.Close() })
	return c
}

// ask sends text once and wants it back.
func ask(tb testing.TB, c *net.UDPConn, text string) {
	tb.Helper()
	if err := asksOnce(c, text); err != nil {
		tb.Fatal(err)
	}
}

// asksOnce is ask for other goroutines.
func asksOnce(c *net.UDPConn, text string) error {
	if _, err := c.Write([]byte(text)); err != nil {
		return err
	}
	_ = c.SetReadDeadline(time.Now().Add(patience))
	buf := make([]byte, maxDatagram)
	n, err := c.Read(buf)
	if err == nil && string(buf[:n]) != text {
		err = fmt.Errorf("got %d bytes %.40q, want %d bytes %.40q", n, buf[:n], len(text), text)
	}
	return err
}

// insist sends text until it comes back.
func insist(c *net.UDPConn, text string) bool {
	buf := make([]byte, maxDatagram)
	for end := time.Now().Add(patience); time.Now().Before(end); {
		_, _ = c.Write([]byte(text))
		_ = c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		if n, err := c.Read(buf); err == nil && string(buf[:n]) == text {
			return true
		}
	}
	return false
}

// await waits until a condition holds.
var await = testenv.Await

type pickFunc = func(client, local netip.AddrPort, tried []netip.AddrPort) (netip.AddrPort, func(error), bool)

// to is a Pick that answers the first of addrs that was not tried.
func to(addrs ...netip.AddrPort) pickFunc {
	return func(_, _ netip.AddrPort, tried []netip.AddrPort) (netip.AddrPort, func(error), bool) {
		for _, a := range addrs {
			if !slices.Contains(tried, a) {
				return a, nil, true
			}
		}
		return netip.AddrPort{}, nil, false
	}
}

// A journal notes what happens, in order.
type journal struct {
	mu    sync.Mutex
	lines []string
}

func (j *journal) add(line string) {
	j.mu.Lock()
	j.lines = append(j.lines, line)
	j.mu.Unlock()
}

func (j *journal) all() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.lines)
}

func (j *journal) onFlow(_, _ netip.AddrPort, open bool) {
	if open {
		j.add("open")
	} else {
		j.add("gone")
	}
}
