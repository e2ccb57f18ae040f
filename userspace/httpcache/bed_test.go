package httpcache

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"fairlead/userspace/model"
)

// A bed is a cache before a backend that the test plays.
type bed struct {
	*Cache
	t       *testing.T
	handler http.Handler
	dead    atomic.Bool // no backend answers
	aside   sync.WaitGroup

	mu     sync.Mutex
	answer http.HandlerFunc
	seen   []*http.Request
}

// lay makes a bed whose backend answers so.
func lay(t *testing.T, answer http.HandlerFunc) *bed {
	t.Helper()
	conf := model.DefaultCache()
	return layWith(t, conf, answer)
}

func layWith(t *testing.T, conf model.Cache, answer http.HandlerFunc) *bed {
	b := &bed{t: t, answer: answer}
	b.Cache = New(Front{
		Key:      func(r *http.Request) (string, string) { return r.Host + r.URL.RequestURI(), r.Header.Get("Test-Scope") },
		Answered: func(*http.Request) bool { return !b.dead.Load() },
		Aside: func(r *http.Request, do func(http.ResponseWriter, *http.Request)) bool {
			b.aside.Go(func() { do(httptest.NewRecorder(), r.Clone(t.Context())) })
			return true
		},
	}, &conf)
	b.handler = b.Link(&model.Route{Match: "/", Cache: true}, http.HandlerFunc(b.serve))
	t.Cleanup(b.aside.Wait)
	return b
}

func (b *bed) serve(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	b.seen = append(b.seen, r)
	answer := b.answer
	b.mu.Unlock()
	if b.dead.Load() {
		http.Error(w, "no backend", http.StatusServiceUnavailable)
		return
	}
	answer(w, r)
}

// now makes the backend answer otherwise.
func (b *bed) now(answer http.HandlerFunc) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.answer = answer
}

// asked returns the requests that the backend has got.
func (b *bed) asked() []*http.Request {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.seen
}

// do sends a request such as "GET /x", with headers as "name: value".
func (b *bed) do(request string, headers ...string) *httptest.ResponseRecorder {
	method, path, _ := strings.Cut(request, " ")
	r := httptest.NewRequest(method, path, nil)
	addAll(r.Header, headers)
	return b.send(r)
}

func (b *bed) send(r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	b.handler.ServeHTTP(w, r)
	return w
}

// expect asks for / and compares the body, and what Cache-Status begins with.
func (b *bed) expect(what, body, status string, headers ...string) *httptest.ResponseRecorder {
	b.t.Helper()
	w := b.do("GET /", headers...)
	if got := w.Body.String(); got != body {
		b.t.Errorf("%s: body %q, want %q", what, got, body)
	}
	if got := w.Header().Get("Cache-Status"); !strings.HasPrefix(got, "fairlead; "+status) {
		b.t.Errorf("%s: cache status %q, want %q", what, got, status)
	}
	return w
}

func addAll(h http.Header, headers []string) {
	for _, line := range headers {
		name, value, _ := strings.Cut(line, ": ")
		h.Add(name, value)
	}
}

// say answers with a status, a body and headers.
func say(status int, body string, headers ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		addAll(w.Header(), headers)
		if status != http.StatusNotModified {
			w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// count answers with the number of the request.
func (b *bed) count(headers ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { say(200, strconv.Itoa(len(b.asked())), headers...)(w, r) }
}
