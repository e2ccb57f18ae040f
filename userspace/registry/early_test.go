package registry

import (
	"context"
	"log/slog"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
)

// TestRequestsThatComeFirst are answered once somebody may register and it is known who
// has, which a process before this one may have told.
func TestRequestsThatComeFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &plane{}
		gone := mustRegister(t, open(t, p), `{"address": ":1"}`)
		r := New(p, slog.New(slog.DiscardHandler))
		var asked sync.WaitGroup
		for request, want := range map[string]int{"POST /register": 201, "PUT /register/" + gone: 204} {
			asked.Go(func() {
				method, path, _ := strings.Cut(request, " ")
				if status, answer := ask(r, method, path, token, `{"address": ":2"}`); status != want {
					t.Errorf("%s: status %d, answer %s", request, status, answer)
				}
			})
		}
		synctest.Wait()
		r.Use(&usual)
		synctest.Wait()
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { r.Run(ctx) })
		asked.Wait()
		r.Use(nil)
		if status, answer := ask(r, "POST", "/register", token, `{"address": ":3"}`); status != 503 {
			t.Errorf("nobody may register: status %d, answer %s", status, answer)
		}
		stop()
		running.Wait()
	})
}

// TestNobodyWaitsForAnAgentThatEnds has one end before it was ready.
func TestNobodyWaitsForAnAgentThatEnds(t *testing.T) {
	r := New(&plane{}, slog.New(slog.DiscardHandler))
	ctx, stop := context.WithCancel(t.Context())
	stop()
	w := httptest.NewRecorder()
	r.ServeHTTP(w, httptest.NewRequestWithContext(ctx, "POST", "/register", strings.NewReader("{}")))
	if w.Code != 503 {
		t.Errorf("status %d", w.Code)
	}
}
