package httpproxy

import (
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"testing"
	"time"

	"fairlead/userspace/model"
)

// TestWhoYieldsLetsClientsLeave ends a proxy for another one: each client is told with
// an answer to come again, and none is closed before it has asked.
func TestWhoYieldsLetsClientsLeave(t *testing.T) {
	f := serveWith(t, &Proxy{Grace: patience}, everything(usual), map[string]*model.Pool{"main": poolOf(handle(t, func(http.ResponseWriter, *http.Request) {}))})
	const request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
	idle, answers := f.dial()
	if _, err := io.WriteString(idle, request); err != nil {
		t.Fatal(err)
	}
	if res, _ := answerOf(t, answers, false); res.Close {
		t.Error("a client is sent away too early")
	}
	fresh, first := f.dial()
	eventually(t, "the new client is accepted", func() bool { return f.Stats().Active == 2 })
	f.Yield(patience / 2)
	f.stop()
	eventually(t, "nobody listens", func() bool {
		c, err := net.Dial("tcp4", f.addr)
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	if err := idle.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, err := answers.Peek(1); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("an idle client reads %v, want to be left alone", err)
	}
	if err := idle.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(idle, request); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(fresh, request); err != nil {
		t.Fatal(err)
	}
	if res, _ := answerOf(t, answers, false); res.StatusCode != 200 || !res.Close {
		t.Errorf("status %d, close %t", res.StatusCode, res.Close)
	}
	if res, _ := answerOf(t, first, false); res.StatusCode != 200 || !res.Close {
		t.Errorf("new client: status %d, close %t", res.StatusCode, res.Close)
	}
	f.await() // for no idle client any more
	if n := f.Stats().Cut; n != 0 {
		t.Errorf("%d requests were cut", n)
	}
}

// TestWhoWasAcceptedIsServed ends a proxy that has accepted clients whose requests are
// only on their way.
func TestWhoWasAcceptedIsServed(t *testing.T) {
	f := serveWith(t, &Proxy{Grace: patience}, everything(usual), map[string]*model.Pool{"main": poolOf(handle(t, func(http.ResponseWriter, *http.Request) {}))})
	c, answers := f.dial()
	eventually(t, "the client is accepted", func() bool { return f.Stats().Active == 1 })
	f.stop()
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if res, _ := answerOf(t, answers, false); res.StatusCode != 200 {
		t.Errorf("status %d", res.StatusCode)
	}
	f.await()
}

// TestCutRequestsAreCounted ends a proxy while a request runs for longer than its grace.
func TestCutRequestsAreCounted(t *testing.T) {
	begun := make(chan struct{})
	f := serveWith(t, &Proxy{Grace: 10 * time.Millisecond}, everything(usual), map[string]*model.Pool{"main": poolOf(handle(t, func(_ http.ResponseWriter, r *http.Request) {
		close(begun)
		<-r.Context().Done()
	}))})
	c, answers := f.dial()
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	<-begun
	f.stop()
	f.await()
	if n := f.Stats().Cut; n != 1 {
		t.Errorf("%d requests were cut, want 1", n)
	}
	if res, err := http.ReadResponse(answers, nil); err == nil && res.StatusCode == 200 {
		t.Error("the client got an answer all the same")
	}
}
