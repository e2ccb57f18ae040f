package httpproxy

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"slices"
	"testing"

	"fairlead/testenv/testca"
	"fairlead/userspace/model"
)

// holding opens a backend that answers, at /held, half of it until let is closed.
func holding(t *testing.T, let chan struct{}) string {
	return handle(t, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "begun")
		if r.URL.Path != "/held" {
			return
		}
		_ = http.NewResponseController(w).Flush()
		select {
		case <-let:
		case <-r.Context().Done():
		}
	})
}

func TestKillBreaksOffConnectionsThatAreMeant(t *testing.T) {
	let := make(chan struct{})
	defer close(let)
	backend := holding(t, let)
	f := one(t, poolOf(backend))
	idle, fromIdle := f.dial()
	fmt.Fprint(idle, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	answerOf(t, fromIdle, false)
	held, fromHeld := f.dial()
	fmt.Fprint(held, "GET /held HTTP/1.1\r\nHost: a\r\n\r\n")
	if _, err := fromHeld.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	at := netip.MustParseAddrPort(f.addr)
	want := []model.Proxied{
		{Client: addrPortOf(idle.LocalAddr()), Virtual: at}, {Client: addrPortOf(held.LocalAddr()), Virtual: at, Backend: netip.MustParseAddrPort(backend)},
	}
	eventually(t, "both connections are told", func() bool {
		got := f.Proxied()
		return len(got) == 2 && slices.Contains(got, want[0]) && slices.Contains(got, want[1])
	})
	if n := f.Kill(func(x model.Proxied) bool { return x.Backend == want[1].Backend }); n != 1 {
		t.Errorf("killed %d, want the one with %s", n, backend)
	}
	if _, err := io.ReadAll(fromHeld); err == nil {
		t.Error("the answer has come to a good end")
	}
	fmt.Fprint(idle, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	if res, _ := answerOf(t, fromIdle, false); res.StatusCode != http.StatusOK {
		t.Errorf("the other connection answers %s", res.Status)
	}
	if n := f.Kill(func(x model.Proxied) bool { return x.Client == want[0].Client }); n != 1 {
		t.Errorf("killed %d, want the one of %s", n, want[0].Client)
	}
	if _, err := fromIdle.ReadByte(); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("%v, want a reset", err)
	}
	eventually(t, "nobody is left", func() bool { return len(f.Proxied()) == 0 })
	eventually(t, "the backend's place is free", func() bool { return f.pools["main"].set.Load().backends[0].active.Load() == 0 })
}

// A killedAnswer is what a client has got for a path, perhaps not to its end.
type killedAnswer struct {
	path, body string
	err        error
}

// TestKillLeavesOtherRequestsOfHTTP2 has two requests with one backend and two with
// another one share a connection, before their answers begin and after it.
func TestKillLeavesOtherRequestsOfHTTP2(t *testing.T) {
	let := make(chan struct{})
	hold := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/begun" {
			_, _ = io.WriteString(w, "begun")
			_ = http.NewResponseController(w).Flush()
		}
		select {
		case <-let:
			_, _ = io.WriteString(w, "ended")
		case <-r.Context().Done():
		}
	}
	killed, kept := handle(t, hold), handle(t, hold)
	f := one(t, poolOf(killed, kept))
	c := plaintext2(t)
	answers, begun := make(chan killedAnswer), make(chan struct{}, 2)
	for i, path := range []string{"/begun", "/begun", "/late", "/late"} { // in turns
		go func() {
			res, err := c.Get("http://" + f.addr + path)
			if err != nil {
				answers <- killedAnswer{path, "", err}
				return
			}
			defer res.Body.Close()
			if path == "/begun" {
				begun <- struct{}{}
			}
			body, err := io.ReadAll(res.Body)
			answers <- killedAnswer{path, string(body), err}
		}()
		eventually(t, "the request is with a backend", func() bool {
			all := f.Proxied()
			return len(all) == i+1 && all[i].Backend.IsValid()
		})
	}
	for range 2 {
		<-begun
	}
	if n := f.Kill(func(x model.Proxied) bool { return x.Backend.String() == killed }); n != 2 {
		t.Errorf("killed %d requests, want 2", n)
	}
	for range 2 {
		if a := <-answers; a.err == nil {
			t.Errorf("%s has come to a good end: %q", a.path, a.body)
		}
	}
	close(let)
	for range 2 {
		if a := <-answers; a.err != nil || a.body != map[string]string{"/begun": "begunended", "/late": "ended"}[a.path] {
			t.Errorf("%s of the other backend: %q, %v", a.path, a.body, a.err)
		}
	}
	if s := f.Stats(); s.Accepted != 1 || s.Retries != 0 {
		t.Errorf("%d connections, %d requests were sent again; want 1 and 0", s.Accepted, s.Retries)
	}
	eventually(t, "the places are free", func() bool { return f.Stats().Running == 0 })
}

// TestRequestsOfHTTP2AreTold has two requests share a connection with TLS.
func TestRequestsOfHTTP2AreTold(t *testing.T) {
	let := make(chan struct{})
	defer close(let)
	ca := testca.New(t)
	f := serveTLS(t, ca, everything(usual), map[string]*model.Pool{"main": poolOf(holding(t, let))})
	c := over(t, ca, f, true)
	for range 2 {
		res, err := c.Get("https://" + f.addr + "/held")
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
	}
	if all := f.Proxied(); len(all) != 2 || all[0] != all[1] || !all[0].Backend.IsValid() {
		t.Errorf("%+v, want two requests of one connection", all)
	}
	if n := f.Kill(func(model.Proxied) bool { return true }); n != 1 {
		t.Errorf("killed %d, want one connection", n)
	}
	eventually(t, "nobody is left", func() bool { return len(f.Proxied()) == 0 })
}
