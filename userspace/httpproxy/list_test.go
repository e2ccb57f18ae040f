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
