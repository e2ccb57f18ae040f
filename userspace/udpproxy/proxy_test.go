package udpproxy

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestAnyDatagramComesAndGoesWhole(t *testing.T) {
	p := serve(t, &Proxy{Pick: to(echo(t, loopback, nil))})
	c := client(t, p.addr) // hears nothing but what comes from p.addr
	var bytes uint64
	texts := []string{"hello", "", "x", strings.Repeat("0123456789abcdef", 4096)[:65507]}
	for _, text := range texts {
		ask(t, c, text)
		bytes += uint64(len(text))
	}
	traffic := Traffic{uint64(len(texts)), bytes}
	await(t, "all is counted", func() bool { s := p.Stats(); return s.ToClients == traffic && s.ToBackends == traffic })
	want := Stats{Flows: 1, Opened: 1, ToBackends: traffic, ToClients: traffic}
	if diff := cmp.Diff(want, p.Stats()); diff != "" {
		t.Errorf("stats -want +got:\n%s", diff)
	}
}

func TestAFlowIsAClientAndAnAddress(t *testing.T) {
	var from []netip.AddrPort
	heard := make(chan datagram, 10)
	p := &Proxy{Pick: to(echo(t, loopback, func(d datagram) { heard <- d }))}
	one, two := serve(t, p), serve(t, p)
	c := bind(t, loopback)
	_ = c.SetReadDeadline(time.Now().Add(patience))
	for _, addr := range []netip.AddrPort{one.addr, two.addr, one.addr} {
		if _, err := c.WriteToUDPAddrPort([]byte("x"), addr); err != nil {
			t.Fatal(err)
		}
		from = append(from, (<-heard).from)
		if _, answered, err := c.ReadFromUDPAddrPort(make([]byte, 1)); err != nil || answered != addr {
			t.Errorf("the answer came from %v, want %v: %v", answered, addr, err)
		}
	}
	ask(t, client(t, one.addr), "y")
	from = append(from, (<-heard).from)
	if from[0] != from[2] || from[0] == from[1] || from[0] == from[3] {
		t.Errorf("backend heard %v, want the first and the third alike and no others", from)
	}
	if err := two.stop(); !errors.Is(err, errStopped) {
		t.Errorf("Serve returned %v", err)
	}
	if s := p.Stats(); s.Flows != 2 || s.Opened != 3 {
		t.Errorf("stats %+v", s)
	}
}

func TestPickAndOnFlowSeeWhoSpeaksToWhom(t *testing.T) {
	type pair struct{ client, local netip.AddrPort }
	saw := make(chan pair, 3)
	back := echo(t, loopback, nil)
	for _, addr := range []string{"127.0.0.1:0", "[::1]:0"} {
		l, err := Listen(t.Context(), netip.MustParseAddrPort(addr))
		if err != nil {
			t.Fatal(err)
		}
		p := serveOn(t, &Proxy{
			Pick: func(client, local netip.AddrPort, _ []netip.AddrPort) (netip.AddrPort, func(error), bool) {
				saw <- pair{client, local}
				return back, nil, true
			},
			OnFlow: func(client, local netip.AddrPort, _ bool) { saw <- pair{client, local} },
		}, l)
		c := client(t, p.addr)
		ask(t, c, "x")
		want := pair{addrPort(c.LocalAddr()), p.addr}
		if a, b := <-saw, <-saw; a != want || b != want {
			t.Errorf("Pick saw %v, OnFlow %v, want %v", a, b, want)
		}
		_ = p.stop()
		<-saw
	}
}

func TestAnswersNeedAnAddress(t *testing.T) {
	for _, addr := range []string{"0.0.0.0:0", "[::]:0"} {
		if _, err := Listen(t.Context(), netip.MustParseAddrPort(addr)); !errors.Is(err, ErrUnspecified) {
			t.Errorf("listen on %s: %v", addr, err)
		}
	}
	l, err := net.ListenUDP("udp", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := new(Proxy).Serve(t.Context(), l); !errors.Is(err, ErrUnspecified) {
		t.Errorf("serve on %s: %v", l.LocalAddr(), err)
	}
}

func TestWithoutABackendThereIsNoFlow(t *testing.T) {
	var j journal
	p := serve(t, &Proxy{Pick: to(), OnFlow: j.onFlow})
	c := client(t, p.addr)
	if _, err := c.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	await(t, "the datagram is counted", func() bool { return p.Stats().Dropped == 1 })
	if diff := cmp.Diff(Stats{NoBackend: 1, Dropped: 1}, p.Stats()); diff != "" {
		t.Errorf("stats -want +got:\n%s", diff)
	}
	if lines := j.all(); lines != nil {
		t.Errorf("OnFlow was told %v", lines)
	}
}

func TestABackendThatCannotBeDialledIsReplaced(t *testing.T) {
	pick := to(netip.MustParseAddrPort("[fe80::1]:9"), echo(t, loopback, nil))
	told := make(chan error, 1)
	p := serve(t, &Proxy{Pick: func(c, l netip.AddrPort, tried []netip.AddrPort) (netip.AddrPort, func(error), bool) {
		addr, _, ok := pick(c, l, tried)
		if len(tried) == 0 {
			return addr, func(err error) { told <- err }, ok
		}
		return addr, nil, ok
	}})
	ask(t, client(t, p.addr), "x")
	if err := <-told; err != nil {
		t.Errorf("told %v: an address without its zone is a fault of this host", err)
	}
	if s := p.Stats(); s.DialErrors != 1 || s.Flows != 1 || s.Dropped != 0 {
		t.Errorf("stats %+v", s)
	}
}

func TestErrorsOfTheListeningSocketPass(t *testing.T) {
	l, err := Listen(t.Context(), loopback)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := l.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	// Now the socket hears that a client is gone, as its next error.
	var optErr error
	err = raw.Control(func(fd uintptr) {
		optErr = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_RECVERR, 1)
	})
	if err := errors.Join(err, optErr); err != nil {
		t.Fatal(err)
	}
	heard, goOn := make(chan struct{}, 10), make(chan struct{}, 10)
	p := serveOn(t, &Proxy{Pick: to(echo(t, loopback, func(datagram) {
		heard <- struct{}{}
		<-goOn
	}))}, l)
	leaver := client(t, p.addr)
	if _, err := leaver.Write([]byte("bye")); err != nil {
		t.Fatal(err)
	}
	<-heard
	leaver.Close()
	goOn <- struct{}{}
	await(t, "the error is read", func() bool { return p.Stats().ReadErrors > 0 })
	goOn <- struct{}{}
	ask(t, client(t, p.addr), "still there?")
	if s := p.Stats(); s.ReadErrors > 10 {
		t.Errorf("stats %+v", s)
	}
}

func TestABrokenSocketEndsServe(t *testing.T) {
	l, err := Listen(t.Context(), loopback)
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := new(Proxy).Serve(t.Context(), l); !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v", err)
	}
}

func TestAnAddressInUseIsAnError(t *testing.T) {
	l, err := Listen(t.Context(), loopback)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := Listen(t.Context(), addrPort(l.LocalAddr())); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("got %v", err)
	}
}
