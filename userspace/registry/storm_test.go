package registry

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"fairlead/userspace/model"
)

// TestGuesses slows those down who guess, and nobody else: on loopback, and behind one
// address, all are one network.
func TestGuesses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := open(t, &plane{})
		from := func(addr, secret string) int {
			req := httptest.NewRequest("POST", "/register", strings.NewReader(`{"address": "10.0.0.1:80"}`))
			req.RemoteAddr = addr
			req.Header.Set("Authorization", "bearer "+secret)
			w := httptest.NewRecorder()
			r.ServeHTTP(w, req)
			return w.Code
		}
		for i := range guessBurst + 5 {
			want := http.StatusUnauthorized
			if i >= guessBurst {
				want = http.StatusTooManyRequests
			}
			if got := from("192.0.2.1:1", fmt.Sprint(i)); got != want {
				t.Errorf("guess %d: status %d", i, got)
			}
		}
		if got := from("192.0.2.1:1", token); got != http.StatusCreated {
			t.Errorf("who has the token in the same network: status %d", got)
		}
		if got := from("192.0.2.2:1", "x"); got != http.StatusUnauthorized {
			t.Errorf("somebody else: status %d", got)
		}
		time.Sleep(guessEvery)
		if got := from("192.0.2.1:1", "x"); got != http.StatusUnauthorized {
			t.Errorf("later: status %d", got)
		}
	})
}

func TestGuessesAreBounded(t *testing.T) {
	g, now := newGuesses(), time.Now()
	for i := range maxGuesser + 100 {
		g.count(netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 32), now)
	}
	if len(g) > maxGuesser {
		t.Errorf("%d networks", len(g))
	}
}

// TestStorm has a thousand backends register at once and beat, and one that comes
// and goes: whoever beats stays.
func TestStorm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &plane{}
		r := open(t, p)
		const backends = 1000
		var group sync.WaitGroup
		for i := range backends {
			group.Go(func() {
				body := fmt.Sprintf(`{"address": "10.1.%d.%d:80", "ttl_seconds": 3}`, i>>8, i&255)
				for range 20 {
					if status, answer := ask(r, "POST", "/register", token, body); status >= 300 {
						t.Errorf("status %d, answer %s", status, answer)
					}
					time.Sleep(time.Second)
				}
			})
		}
		group.Go(func() {
			for range 5 {
				id := mustRegister(t, r, `{"address": "10.2.0.1:80", "ttl_seconds": 1}`)
				if status, _ := ask(r, "DELETE", "/register/"+id, token, ""); status != http.StatusNoContent {
					t.Errorf("status %d", status)
				}
				mustRegister(t, r, `{"address": "10.2.0.1:80", "ttl_seconds": 1}`)
				time.Sleep(2 * time.Second) // it is gone by then
			}
		})
		time.Sleep(19 * time.Second)
		if got := len(p.has()); got != backends {
			t.Errorf("%d backends", got)
		}
		group.Wait()
		time.Sleep(4 * time.Second)
		if got := p.has(); got != nil {
			t.Errorf("%d backends stay", len(got))
		}
		if got := len(p.told()); got != 2*backends+20 {
			t.Errorf("%d changes", got)
		}
	})
}

// TestServer has the address change, and stay, under requests.
func TestServer(t *testing.T) {
	var s Server
	defer s.Close()
	r := open(t, &plane{})
	use := func(listen string) error {
		return s.Use(t.Context(), &model.Registration{Listen: listen}, r, slog.New(slog.DiscardHandler))
	}
	answers := func(listen string) bool {
		res, err := http.Post("http://"+listen+"/register", "application/json", strings.NewReader("{}"))
		if err != nil {
			return false
		}
		defer res.Body.Close()
		_, _ = io.Copy(io.Discard, res.Body)
		return res.StatusCode == http.StatusUnauthorized
	}
	defer http.DefaultClient.CloseIdleConnections()
	const first, second = "127.0.5.1:8500", "127.0.5.2:8500"
	if err := use(first); err != nil || !answers(first) {
		t.Fatalf("the first does not answer, error %v", err)
	}
	if err := use(first); err != nil || !answers(first) {
		t.Fatalf("the first does not answer again, error %v", err)
	}
	if err := use("203.0.113.7:8500"); err == nil || s.Address() != first || !answers(first) {
		t.Errorf("an address of nobody: error %v", err)
	}
	if err := use(second); err != nil || !answers(second) || answers(first) {
		t.Errorf("the second does not answer alone, error %v", err)
	}
	if err := s.Use(t.Context(), nil, r, slog.New(slog.DiscardHandler)); err != nil || answers(second) {
		t.Errorf("nobody is to answer, error %v", err)
	}
}

// TestWhoMovesDoesNotWait has the address change while a request is answered, which
// ends as it would have.
func TestWhoMovesDoesNotWait(t *testing.T) {
	s := Server{grace: time.Minute}
	came, goOn := make(chan bool), make(chan bool)
	handler := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(came)
		<-goOn
		w.WriteHeader(http.StatusNoContent)
	})
	use := func(listen string) error {
		return s.Use(t.Context(), &model.Registration{Listen: listen}, handler, slog.New(slog.DiscardHandler))
	}
	const first, second = "127.0.5.3:8500", "127.0.5.4:8500"
	if err := use(first); err != nil {
		t.Fatal(err)
	}
	defer http.DefaultClient.CloseIdleConnections()
	answered := make(chan int, 1)
	go func() {
		defer close(answered)
		res, err := http.Post("http://"+first+"/register", "application/json", nil)
		if err != nil {
			t.Error(err)
			return
		}
		res.Body.Close()
		answered <- res.StatusCode
	}()
	<-came
	begin := time.Now()
	if err := errors.Join(use(second), s.Use(t.Context(), nil, handler, slog.New(slog.DiscardHandler))); err != nil {
		t.Error(err)
	}
	if took := time.Since(begin); took > s.grace/2 {
		t.Errorf("it took %v", took)
	}
	for _, listen := range []string{first, second} {
		if conn, err := net.Dial("tcp", listen); err == nil {
			conn.Close()
			t.Errorf("%s is open", listen)
		}
	}
	close(goOn)
	if status := <-answered; status != http.StatusNoContent {
		t.Errorf("status %d", status)
	}
	s.Close()
}
