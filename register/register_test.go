package register_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"fairlead/register"
	"fairlead/testenv/leak"
)

func TestMain(m *testing.M) { leak.Each(m).Run() }

// A balancer answers with the next of some statuses, and goes on with the last.
type balancer struct {
	*httptest.Server
	mu       sync.Mutex
	statuses []int
	got      chan string
}

func serve(t *testing.T, statuses ...int) *balancer {
	b := &balancer{statuses: statuses, got: make(chan string, 100)}
	b.Server = httptest.NewServer(b)
	t.Cleanup(b.Close)
	return b
}

func (b *balancer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var body map[string]any
	_ = json.NewDecoder(r.Body).Decode(&body) // a DELETE has none
	b.mu.Lock()
	status := b.statuses[0]
	if len(b.statuses) > 1 {
		b.statuses = b.statuses[1:]
	}
	b.mu.Unlock()
	b.got <- fmt.Sprint(r.Method, " ", r.URL.Path, " ", r.Header.Get("Authorization"), " ", body["address"], " ", body["weight"], " ", body["ttl_seconds"])
	w.WriteHeader(status)
	fmt.Fprint(w, `{"id": "abc", "error": "no"}`)
}

func (b *balancer) options() register.Options {
	return register.Options{URL: b.URL + "/", Token: "secret", Address: "10.0.0.7:8080", TTL: time.Second, Client: b.Client()}
}

func TestKeep(t *testing.T) {
	b := serve(t, 503, 201, 422, 200)
	ctx, stop := context.WithCancel(t.Context())
	failed := make(chan error, 100)
	o := b.options()
	o.Failed = func(err error) { failed <- err }
	ended := make(chan error)
	go func() { ended <- register.Keep(ctx, o) }()
	for range 5 {
		if got, want := <-b.got, "POST /register Bearer secret 10.0.0.7:8080 1 1"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	last := ""
	for len(b.got) > 0 {
		last = <-b.got
	}
	if want := "DELETE /register/abc Bearer secret <nil> <nil> <nil>"; last != want {
		t.Errorf("at the end %s, want %s", last, want)
	}
	if len(failed) != 2 {
		t.Errorf("%d failed", len(failed))
	}
}

func TestRefused(t *testing.T) {
	for _, status := range []int{400, 401, 403, 404} {
		b := serve(t, status)
		if err := register.Keep(t.Context(), b.options()); !errors.Is(err, register.ErrRefused) || err.Error() != fmt.Sprintf("registration refused: status %d: no", status) {
			t.Errorf("status %d: %v", status, err)
		}
	}
	o := serve(t, 200).options()
	o.URL = "://"
	if err := register.Keep(t.Context(), o); !errors.Is(err, register.ErrRefused) {
		t.Error(err)
	}
}

// TestNobodyThere never registered, so nothing is to be taken away.
func TestNobodyThere(t *testing.T) {
	b := serve(t, 200)
	o := b.options()
	b.Close()
	ctx, stop := context.WithCancel(t.Context())
	o.Failed = func(error) { stop() }
	if err := register.Keep(ctx, o); err != nil {
		t.Error(err)
	}
}

func ExampleKeep() {
	ctx, stop := context.WithCancel(context.Background())
	balancer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Println(r.Method, r.URL.Path)
		fmt.Fprint(w, `{"id": "abc"}`)
		stop() // the program ends
	}))
	defer balancer.Close()
	err := register.Keep(ctx, register.Options{URL: balancer.URL, Token: "0123456789abcdef", Address: ":8080", Client: balancer.Client()})
	fmt.Println(err)
	// Output:
	// POST /register
	// DELETE /register/abc
	// <nil>
}
