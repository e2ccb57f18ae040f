package daemon

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"fairlead/userspace/view"
)

// A patient is a backend whose first probes at a path fail, but at the first of all:
// so many that who goes by the first result would take it out, and not as many as its
// checks want.
type patient struct {
	mu     sync.Mutex
	probes map[string]int // by path
}

const tolerable = 3

func (p *patient) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !strings.HasPrefix(r.URL.Path, "/health") {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.probes[r.URL.Path]++; p.probes[r.URL.Path] <= tolerable && r.URL.Path != "/health0" {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
}

// probed reports whether a path was asked for after its last failure was told.
func (p *patient) probed(path string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.probes[path] > tolerable
}

// TestReloadKeepsWhoIsUp changes the check of a pool's only backend again and again:
// one that was seen to be up gets requests all the time, although nobody who is new
// does before a probe succeeds, and although the first ones fail.
func TestReloadKeepsWhoIsUp(t *testing.T) {
	p := &patient{probes: map[string]int{}}
	addr := httpServer(t, p.ServeHTTP)
	config := func(i int) string {
		return fmt.Sprintf(`services: [{name: web, listen: '%s', forward: http, routes: [{match: /, pool: main}]}]
pools:
  main: {backends: [{address: %q}], health: {type: http, path: /health%d, interval: 20s, timeout: 20s, fast-interval: 20ms, fall: %d, initial: down}}
`, site, addr, i, tolerable+2)
	}
	r := runAgent(t, config(0))
	r.await("the backend is up", func(v view.View) bool { return v.Services[0].Backends[0].Serves })
	end := keepFetching(t, "/")
	for i := range 4 {
		r.reload(config(i + 1))
		await(t, "the other check", func() bool { return p.probed(fmt.Sprint("/health", i+1)) })
	}
	end()
}

func TestWhoIsNotProbedIsUnknown(t *testing.T) {
	a, _ := page(t, "a")
	const form = "services: [{name: web, listen: '%s', forward: http, backends: [{address: %q}], health: {type: %s}}]\n"
	r := runAgent(t, fmt.Sprintf(form, site, a, "none"))
	v := r.await("a view", func(view.View) bool { return true })
	if b := v.Services[0].Backends[0]; !b.Up || b.Known {
		t.Errorf("backend %+v, want one that nobody was asked about, and that counts as up", b)
	}
	r.reload(fmt.Sprintf(form, site, a, "tcp"))
	r.await("a check", func(v view.View) bool { return v.Services[0].Backends[0].Known })
}
