// Package testvault is a server for tests that answers as Vault and OpenBao do for one
// KV store, version 2, mounted at secret, and that fails when it is told to.
package testvault

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// Token is the one that is good.
const Token = "letmein-letmein"

// MaxRequest is how many bytes a request may have: less than what the usual storages
// take, 512 KiB, so that base64 and the rest of a request fit.
const MaxRequest = 512 << 10

// A Server has secrets. TokenFile has its token.
type Server struct {
	URL, TokenFile string

	t  testing.TB
	mu sync.Mutex
	// secrets are by their paths, without the mount.
	secrets  map[string]secret
	before   func(method, path string) Fate // nil: all is answered
	requests int
	largest  int
}

type secret struct {
	version int
	data    json.RawMessage // nil: deleted
}

// A Fate is what becomes of a request.
type Fate int

const (
	Answered Fate = iota
	Refused       // with status 500, and nothing is done
	Cut           // the connection is, and nothing is done
	Lost          // it is carried out, and then the connection is cut
	Sealed        // with status 503
	Denied        // with status 403
)

// New returns a server without secrets that ends with the test.
func New(t testing.TB) *Server {
	t.Helper()
	s := &Server{t: t, secrets: map[string]secret{}, TokenFile: filepath.Join(t.TempDir(), "token")}
	if err := os.WriteFile(s.TokenFile, []byte(Token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	h := httptest.NewServer(s)
	t.Cleanup(h.Close)
	s.URL = h.URL
	return s
}

// Clone returns another server that has what s has now.
func (s *Server) Clone() *Server {
	s.t.Helper()
	c := New(s.t)
	s.mu.Lock()
	defer s.mu.Unlock()
	c.Take(s)
	return c
}

// Take gives s what another server has, which gets no requests meanwhile. Fates may
// do it.
func (s *Server) Take(from *Server) { s.secrets = maps.Clone(from.secrets) }

// Set makes fields those of a secret.
func (s *Server) Set(path string, fields map[string]string) {
	s.t.Helper()
	data, err := json.Marshal(fields)
	if err != nil {
		s.t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.secrets[path] = secret{s.secrets[path].version + 1, data}
}

// Fail has fate decide about requests from now on. It may be nil.
func (s *Server) Fail(fate func(method, path string) Fate) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.before = fate
}

// Paths returns those of all secrets, in order.
func (s *Server) Paths() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.secrets))
}

// Requests returns how many there were, and how many bytes the largest had.
func (s *Server) Requests() (n, largest int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests, s.largest
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Options struct {
			CAS *int `json:"cas"`
		} `json:"options"`
		Data json.RawMessage `json:"data"` // nil if there is none, null if that is what it is
	}
	if r.Method == http.MethodPost && json.NewDecoder(http.MaxBytesReader(w, r.Body, MaxRequest)).Decode(&body) != nil {
		say(w, http.StatusRequestEntityTooLarge, nil)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests++
	s.largest = max(s.largest, int(r.ContentLength))
	part, path, ok := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v1/secret/"), "/")
	fate := Answered
	if s.before != nil {
		fate = s.before(r.Method, path)
	}
	switch {
	case fate == Cut:
		panic(http.ErrAbortHandler)
	case fate == Refused:
		say(w, http.StatusInternalServerError, nil)
		return
	case fate == Sealed:
		say(w, http.StatusServiceUnavailable, nil)
		return
	case r.Header.Get("X-Vault-Token") != Token || fate == Denied:
		say(w, http.StatusForbidden, nil)
		return
	case !ok || !strings.HasPrefix(r.URL.Path, "/v1/secret/"):
		say(w, http.StatusNotFound, nil, "nothing is mounted there")
		return
	}
	status, answer := s.carryOut(r.Method, part, path, body.Options.CAS, body.Data)
	if fate == Lost {
		panic(http.ErrAbortHandler)
	}
	if r.FormValue("list") == "true" {
		status, answer = s.list(path)
	}
	say(w, status, answer)
}

// say answers with data, or with errors.
func say(w http.ResponseWriter, status int, data any, errs ...string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if status == http.StatusNoContent {
		return
	}
	answer := map[string]any{"data": data}
	if data == nil {
		if status != http.StatusNotFound {
			errs = append(errs, http.StatusText(status))
		}
		answer = map[string]any{"errors": errs}
	}
	_ = json.NewEncoder(w).Encode(answer) // whoever has gone does not read it
}

// carryOut reads, writes or deletes a secret.
func (s *Server) carryOut(method, part, path string, cas *int, data json.RawMessage) (status int, answer any) {
	known, ok := s.secrets[path]
	version := map[string]int{"version": known.version}
	switch method + " " + part {
	case "GET data":
		if !ok {
			return http.StatusNotFound, nil
		}
		if known.data == nil {
			return http.StatusNotFound, map[string]any{"data": nil, "metadata": version}
		}
		return http.StatusOK, map[string]any{"data": known.data, "metadata": version}
	case "POST data":
		if data == nil || cas != nil && *cas != known.version {
			return http.StatusBadRequest, nil
		}
		s.secrets[path] = secret{known.version + 1, data}
		return http.StatusOK, map[string]int{"version": known.version + 1}
	case "DELETE data": // the newest version only, as people do it
		s.secrets[path] = secret{version: known.version}
		return http.StatusNoContent, nil
	case "DELETE metadata":
		delete(s.secrets, path)
		return http.StatusNoContent, nil
	}
	return http.StatusNotFound, nil
}

// list returns the names below a path, those of further paths with / at the end.
func (s *Server) list(path string) (status int, answer any) {
	found := map[string]bool{}
	for p := range s.secrets {
		if rest, ok := strings.CutPrefix(p, strings.TrimSuffix(path, "/")+"/"); ok {
			name, _, deeper := strings.Cut(rest, "/")
			if deeper {
				name += "/"
			}
			found[name] = true
		}
	}
	if len(found) == 0 {
		return http.StatusNotFound, nil
	}
	return http.StatusOK, map[string][]string{"keys": slices.Sorted(maps.Keys(found))}
}
