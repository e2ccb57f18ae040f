package httpproxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"

	"fairlead/userspace/model"
)

const asksForEcho = "GET /chat HTTP/1.1\r\nHost: example.com\r\nConnection: keep-alive, Upgrade\r\nUpgrade: echo\r\nSec-WebSocket-Key: abc\r\n\r\n"

// echoes opens a backend that changes to a protocol in which it says hello, sends
// back what it gets and, at the end of that, goodbye.
func echoes(t *testing.T) *taker {
	return take(t, func(_ string, c net.Conn) string {
		_, _ = io.WriteString(c, "HTTP/1.1 101 Whatever\r\nUpgrade: echo\r\nConnection: Upgrade, X-Inner\r\nX-Inner: 1\r\nKeep-Alive: timeout=5\r\n"+
			"Proxy-Connection: x\r\nSec-WebSocket-Accept: def\r\n\r\nhello ")
		_, _ = io.Copy(c, c)
		_, _ = io.WriteString(c, " goodbye")
		return ""
	})
}

func TestAConnectionThatChangesItsProtocol(t *testing.T) {
	b := echoes(t)
	p := poolOf(b.addr())
	f := one(t, p)
	c, r := f.dial()
	fmt.Fprint(c, asksForEcho+"early ") // before the backend has agreed
	const want = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nSec-Websocket-Accept: def\r\nUpgrade: echo\r\n\r\nhello early "
	got := make([]byte, len(want))
	if _, err := io.ReadFull(r, got); err != nil || string(got) != want {
		t.Fatalf("got %q, error %v; want %q", got, err, want)
	}
	if s := f.Stats(); s.Tunnels != 1 || s.Running != 1 || s.Answers[http.StatusSwitchingProtocols] != 1 {
		t.Errorf("stats %+v", s)
	}
	fmt.Fprint(c, "late")
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(r); err != nil || string(rest) != "late goodbye" {
		t.Errorf("got %q, error %v", rest, err)
	}
	for _, line := range []string{"Connection: Upgrade\r\n", "Upgrade: echo\r\n", "Sec-Websocket-Key: abc\r\n"} {
		if !strings.Contains(b.seen()[0], line) {
			t.Errorf("backend got %q without %q", b.seen()[0], line)
		}
	}
	eventually(t, "its place is free", func() bool { return f.pools["main"].set.Load().backends[0].active.Load() == 0 })
}

func TestAProtocolThatNobodyAskedFor(t *testing.T) {
	b := echoes(t)
	f := one(t, poolOf(b.addr()))
	for _, request := range []string{"GET / HTTP/1.1\r\nHost: a\r\n\r\n", strings.Replace(asksForEcho, "echo", "other", 1)} {
		if res, _ := f.ask(request); res.StatusCode != 502 {
			t.Errorf("%q: status %d", request, res.StatusCode)
		}
	}
	eventually(t, "the places are free", func() bool { return f.pools["main"].set.Load().backends[0].active.Load() == 0 })
}

func TestABackendNeedNotChangeTheProtocol(t *testing.T) {
	b := take(t, say("no"))
	if res, body := one(t, poolOf(b.addr())).ask(asksForEcho); res.StatusCode != 200 || body != "no" {
		t.Errorf("%d %q", res.StatusCode, body)
	}
}

func TestNobodyIsLedToSpeakHTTP2Unseen(t *testing.T) {
	b := take(t, say("ok"))
	f := one(t, poolOf(b.addr()))
	f.ask("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n")
	if head := strings.ToLower(b.seen()[0]); strings.Contains(head, "h2c") || strings.Contains(head, "settings") || strings.Contains(head, "connection") {
		t.Errorf("backend got %q", head)
	}
}

// opened returns a connection that has changed its protocol.
func (f *front) opened() (*net.TCPConn, *bufio.Reader) {
	f.t.Helper()
	c, r := f.dial()
	fmt.Fprint(c, asksForEcho)
	res, err := http.ReadResponse(r, nil)
	if err != nil || res.StatusCode != 101 {
		f.t.Fatalf("answer %v, error %v", res, err)
	}
	if _, err := io.ReadFull(r, make([]byte, len("hello "))); err != nil {
		f.t.Fatal(err)
	}
	return c, r
}

func TestATunnelInWhichNothingMovesEnds(t *testing.T) {
	limits := usual
	limits.Idle = short
	f := timed(t, limits, echoes(t).addr())
	_, r := f.opened()
	if _, err := r.ReadByte(); err == nil {
		t.Error("a byte comes")
	}
}

func TestATunnelOverAPoolOfHTTP2(t *testing.T) {
	p := poolOf(echoes(t).addr())
	p.HTTP2 = true
	c, r := one(t, p).opened()
	fmt.Fprint(c, "x")
	if b, err := r.ReadByte(); err != nil || b != 'x' {
		t.Errorf("%c, error %v", b, err)
	}
}

// drained opens a front with some grace, whose end is asked for when begin has
// returned.
func drained(t *testing.T, grace bool, backend string, begin func(f *front) (after func())) {
	t.Helper()
	f := one(t, poolOf(backend))
	if grace {
		f.Grace = patience
	}
	after := begin(f)
	f.stop()
	eventually(t, "nobody listens", func() bool {
		c, err := net.Dial("tcp4", f.addr)
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	after()
	f.await()
}

func TestRequestsMayEndBeforeServeDoes(t *testing.T) {
	g := gated(t)
	drained(t, true, g.addr, func(f *front) func() {
		status := f.start()
		await(t, g.arrived)
		return func() {
			g.goOn <- struct{}{}
			if s := await(t, status); s != 200 {
				t.Errorf("status %d", s)
			}
		}
	})
	drained(t, true, echoes(t).addr(), func(f *front) func() {
		c, r := f.opened()
		return func() {
			fmt.Fprint(c, "x")
			if b, err := r.ReadByte(); err != nil || b != 'x' {
				t.Errorf("%c, error %v", b, err)
			}
			c.Close()
		}
	})
}

func TestWithoutGraceRequestsAreBrokenOff(t *testing.T) {
	g := gated(t)
	drained(t, false, g.addr, func(f *front) func() {
		status := f.start()
		await(t, g.arrived)
		return func() {
			if s := await(t, status); s != 0 {
				t.Errorf("status %d", s)
			}
		}
	})
	drained(t, false, echoes(t).addr(), func(f *front) func() {
		_, r := f.opened()
		return func() {
			if _, err := r.ReadByte(); err == nil {
				t.Error("a byte comes")
			}
		}
	})
}

func TestCutBreaksRequestsOff(t *testing.T) {
	f := one(t, poolOf(echoes(t).addr()))
	_, r := f.opened()
	f.Cut()
	if _, err := r.ReadByte(); err == nil {
		t.Error("a byte comes")
	}
}

func TestAClientThatIsNotAdmittedGetsAReset(t *testing.T) {
	for admission, count := range map[model.Admission]func(Stats) uint64{
		model.Denied:  func(s Stats) uint64 { return s.Denied },
		model.Limited: func(s Stats) uint64 { return s.SourceLimit },
	} {
		l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		f := &front{Proxy: &Proxy{Admit: admits(admission)}, t: t, addr: l.Addr().String(), ended: make(chan error, 1)}
		ctx, stop := context.WithCancel(t.Context())
		go func() { f.ended <- f.Serve(ctx, l) }()
		c, err := net.Dial("tcp4", f.addr)
		if err == nil {
			_, err = c.Read(make([]byte, 1))
			c.Close()
		}
		if !errors.Is(err, syscall.ECONNRESET) || count(f.Stats()) != 1 {
			t.Errorf("%d: %v; stats %+v", admission, err, f.Stats())
		}
		stop()
		f.await()
	}
}
