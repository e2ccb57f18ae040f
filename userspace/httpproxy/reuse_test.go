package httpproxy

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"fairlead/userspace/model"
)

// once opens a front for one backend to which nothing is sent again.
func once(t *testing.T, addr string, keep time.Duration) *front {
	t.Helper()
	p := poolOf(addr)
	p.Retry.Attempts, p.KeepAlive = 0, keep
	return serve(t, everything(usual), map[string]*model.Pool{"main": p})
}

// TestConnectionsEndBeforeTheBackendEndsThem has a backend say how long it waits.
func TestConnectionsEndBeforeTheBackendEndsThem(t *testing.T) {
	const body = "Content-Length: 4\r\n\r\nbody"
	for _, row := range []struct {
		name, promise, request string
		connections            int // of 4 requests
	}{
		{"nothing said", "", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", 1},
		{"nothing said, a body", "", "POST / HTTP/1.1\r\nHost: a\r\n" + body, 1},
		{"a long time", "Keep-Alive: timeout=60, max=100\r\n", "POST / HTTP/1.1\r\nHost: a\r\n" + body, 1},
		{"a second", "Keep-Alive: max=100, Timeout=1\r\n", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", 4},
		{"a second, a body", "Keep-Alive: timeout=1\r\n", "POST / HTTP/1.1\r\nHost: a\r\n" + body, 4},
		{"a second, a chunked body", "Keep-Alive: timeout=1\r\n", "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n", 4},
		{"a second, without a body", "Keep-Alive: timeout=1\r\n", "DELETE / HTTP/1.1\r\nHost: a\r\n\r\n", 4},
		{"nonsense", "Keep-Alive: timeout=-1, timeout, 5\r\n", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", 1},
	} {
		t.Run(row.name, func(t *testing.T) {
			var made atomic.Int32
			var arrived atomic.Int32
			s := &http.Server{
				ConnState: func(_ net.Conn, state http.ConnState) {
					if state == http.StateNew {
						made.Add(1)
					}
				},
				Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					arrived.Add(1)
					if name, value, ok := strings.Cut(strings.TrimSpace(row.promise), ": "); ok {
						w.Header().Set(name, value)
					}
					fmt.Fprint(w, readAll(t, r))
				}),
			}
			f := once(t, listening(t, s), 0)
			for range 4 {
				res, body := f.ask(row.request)
				if want := strings.Contains(row.request, "body"); res.StatusCode != 200 || (body == "body") != want {
					t.Errorf("status %d, body %q", res.StatusCode, body)
				}
			}
			if int(made.Load()) != row.connections || arrived.Load() != 4 {
				t.Errorf("%d requests over %d connections, want 4 over %d", arrived.Load(), made.Load(), row.connections)
			}
		})
	}
}

// listening has a server of HTTP serve on loopback and returns where.
func listening(t *testing.T, s *http.Server) string {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = s.Serve(l)
	}()
	t.Cleanup(func() {
		s.Close()
		<-ended
	})
	return l.Addr().String()
}

func TestIdleConnectionsEnd(t *testing.T) {
	over := make(chan struct{})
	s := &http.Server{
		Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}),
		ConnState: func(_ net.Conn, state http.ConnState) {
			if state == http.StateClosed {
				close(over)
			}
		},
	}
	f := once(t, listening(t, s), short)
	if status, _ := f.get("/"); status != 200 {
		t.Errorf("status %d", status)
	}
	await(t, over)
}

// TestAnEndThatNobodyHasReadIsSeen because the transport's own look at a connection may
// come too late for a request.
func TestAnEndThatNobodyHasReadIsSeen(t *testing.T) {
	for _, row := range []struct {
		name string
		end  func(c *net.TCPConn) error
	}{
		{"closed", (*net.TCPConn).Close},
		{"reset", func(c *net.TCPConn) error {
			_ = c.SetLinger(0)
			return c.Close()
		}},
		{"an answer that nobody asked for", func(c *net.TCPConn) error {
			_, err := c.Write([]byte("HTTP/1.1 408 Late\r\n\r\n"))
			return err
		}},
	} {
		accepted := make(chan net.Conn, 1)
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		go func() {
			c, _ := l.Accept()
			accepted <- c
		}()
		c, err := dial(context.WithValue(t.Context(), exchangeKey{}, &exchange{timeouts: &usual}), "tcp4", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		peer := (<-accepted).(*net.TCPConn)
		defer peer.Close()
		if c.(*line).hasEnded() {
			t.Errorf("%s: seen before it was so", row.name)
		}
		if err := row.end(peer); err != nil {
			t.Fatal(err)
		}
		eventually(t, row.name, c.(*line).hasEnded)
	}
}

// TestAPOSTIsNotLostWithTheConnectionThatWaited has the backend close each connection
// while nobody uses it, and the next request come as soon as that is known.
func TestAPOSTIsNotLostWithTheConnectionThatWaited(t *testing.T) {
	conns := make(chan net.Conn, 1)
	b := take(t, func(_ string, c net.Conn) string {
		conns <- c
		return "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
	})
	f := once(t, b.addr(), 0)
	usual, lines := f.pools["main"].set.Load().carriers.usual, make(chan *line, 1)
	usual.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := dial(ctx, network, addr)
		if err == nil {
			lines <- c.(*line)
		}
		return c, err
	}
	c, r := f.dial()
	for i := range 300 {
		if _, err := fmt.Fprint(c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody"); err != nil {
			t.Fatal(err)
		}
		if res, _ := answerOf(t, r, false); res.StatusCode != 200 {
			t.Fatalf("POST %d: status %d", i, res.StatusCode)
		}
		l := <-lines
		(<-conns).Close()
		for !l.hasEnded() {
		}
	}
	if n := len(b.seen()); n != 300 {
		t.Errorf("%d requests arrived", n)
	}
}
