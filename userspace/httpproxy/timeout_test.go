package httpproxy

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"fairlead/userspace/model"
)

const short = 50 * time.Millisecond

// timed opens a front for one pool with these time-outs.
func timed(t *testing.T, timeouts model.HTTPTimeouts, backends ...string) *front {
	t.Helper()
	return serve(t, everything(timeouts), map[string]*model.Pool{"main": poolOf(backends...)})
}

// deaf returns an address whose backlog is full, so that nobody gets a
// connection.
func deaf(t *testing.T) string {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	addr := fmt.Sprintf("127.0.0.1:%d", name.(*unix.SockaddrInet4).Port)
	for range 4 {
		d := net.Dialer{Timeout: 100 * time.Millisecond}
		c, err := d.Dial("tcp4", addr)
		if err != nil {
			return addr
		}
		t.Cleanup(func() { c.Close() })
	}
	t.Fatal("the backlog has no end")
	return ""
}

func TestABackendThatDoesNotAccept(t *testing.T) {
	limits := usual
	limits.Connect = short
	addr := deaf(t)
	if status, _ := timed(t, limits, addr).get("/"); status != 504 {
		t.Errorf("status %d", status)
	}
	f := timed(t, limits, addr, names(t, "good"))
	for range 2 {
		res, body := f.ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody")
		if body != "good" {
			t.Errorf("%d %q, want the other backend's answer", res.StatusCode, body)
		}
	}
}

func TestABackendThatDoesNotAnswer(t *testing.T) {
	limits := usual
	limits.FirstByte = short
	g := gated(t)
	f := timed(t, limits, g.addr, g.addr)
	if status, _ := f.get("/"); status != 504 {
		t.Errorf("status %d", status)
	}
	if len(g.arrived) != 1 {
		t.Errorf("%d requests arrived, want 1", len(g.arrived))
	}
}

func TestARequestAsAWholeIsBounded(t *testing.T) {
	limits := usual
	limits.Request = 4 * short
	f := timed(t, limits, gated(t).addr)
	if status, _ := f.get("/"); status != 504 {
		t.Errorf("status %d", status)
	}
	f = timed(t, limits, handle(t, func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
	c, r := f.dial() // a client that never ends its body
	fmt.Fprint(c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbo")
	if res, _ := answerOf(t, r, false); res.StatusCode != 504 {
		t.Errorf("status %d", res.StatusCode)
	}
	endless := timed(t, limits, handle(t, func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			if _, err := w.Write(make([]byte, 1000)); err != nil {
				return
			}
		}
	}))
	c, _ = endless.dial() // a client that does not read
	fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	eventually(t, "the request ends", func() bool { s := endless.Stats(); return s.Requests == 1 && s.Running == 0 })
}

func TestWhatDoesNotMoveEnds(t *testing.T) {
	limits := usual
	limits.Idle = short
	half := func(_ string, c net.Conn) string {
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")
		_, _ = c.Read(make([]byte, 1)) // until the proxy closes
		return ""
	}
	f := timed(t, limits, take(t, half).addr())
	c, _ := f.dial()
	fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	if _, err := io.ReadAll(c); err != nil {
		t.Errorf("read: %v", err)
	}
	if f.Stats().Broken != 1 {
		t.Errorf("stats %+v, want one answer that is broken off", f.Stats())
	}

	f = timed(t, limits, handle(t, func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
	c, r := f.dial()
	fmt.Fprint(c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbo")
	if res, _ := answerOf(t, r, false); res.StatusCode != 504 {
		t.Errorf("status %d of a body that stops", res.StatusCode)
	}
}

func TestAClientThatLeavesTakesItsRequestAway(t *testing.T) {
	arrived, ended := make(chan struct{}), make(chan struct{})
	f := one(t, poolOf(handle(t, func(_ http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-r.Context().Done()
		close(ended)
	})))
	c, _ := f.dial()
	fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	await(t, arrived)
	c.Close()
	await(t, ended)
	eventually(t, "the request ends", func() bool { return f.Stats().Running == 0 })
}
