package daemon

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"fairlead/userspace/view"
)

// tells opens an agent that says what words holds.
func tells(t *testing.T, words *atomic.Value) uint16 {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serve(t, l, func(c net.Conn) { fmt.Fprintln(c, words.Load()) })
	return netip.MustParseAddrPort(l.Addr().String()).Port()
}

func TestAgentsOfBackendsAreHeard(t *testing.T) {
	var words atomic.Value
	words.Store("up 50%")
	a, _ := page(t, "a")
	r := runAgent(t, fmt.Sprintf("services: [{name: web, listen: '%s', forward: http, panic-threshold: 0, backends: [{address: %q}], health: {type: tcp, agent: {port: %d, interval: 50ms, timeout: 20s}}}]\n",
		site, a, tells(t, &words)))
	await := func(up bool, share int) {
		t.Helper()
		r.await(fmt.Sprintf("%t with %d %%", up, share), func(v view.View) bool {
			b := v.Services[0].Backends[0]
			return b.Up == up && b.Share == share
		})
	}
	await(true, 50)
	words.Store("down # for a while")
	await(false, 50)
	if status, _ := fetch(t, "/"); status != 503 {
		t.Errorf("status %d of a backend that says that it is down", status)
	}
	words.Store("up drain")
	await(true, 0)
	if status, _ := fetch(t, "/"); status != 503 {
		t.Errorf("status %d of a backend that drains", status)
	}
	words.Store("ready 100%")
	await(true, 100)
	if status, _ := fetch(t, "/"); status != 200 {
		t.Errorf("status %d of a backend that is ready", status)
	}
}

func TestAnAgentKnowsWhatTheLastOneKnew(t *testing.T) {
	config := func(initial string) string {
		return fmt.Sprintf("services: [{name: web, listen: '%s', forward: http, backends: [{address: '127.0.0.1:1'}], health: {type: tcp, interval: 1h, initial: %s}}]\n", site, initial)
	}
	r := runAgentWith(t, config("last-known"), func(o *Options) { o.StateDir = t.TempDir() })
	r.await("nobody is there", func(v view.View) bool { return !v.Services[0].Backends[0].Up })
	r.end()
	if _, err := os.Stat(filepath.Join(r.opts.RunDir, knownFile)); err != nil {
		t.Error(err)
	}
	r.start()
	if b := r.await("a view", func(view.View) bool { return true }).Services[0].Backends[0]; b.Up || !b.Known {
		t.Errorf("backend %+v, want it known to be down", b)
	}
	r.end()
	if err := os.Remove(filepath.Join(r.opts.RunDir, knownFile)); err != nil { // as when the host starts
		t.Fatal(err)
	}
	r.start()
	if b := r.await("a view", func(view.View) bool { return true }).Services[0].Backends[0]; b.Up || !b.Known {
		t.Errorf("backend %+v, want it known to be down by the store", b)
	}
	r.end()
	r.write(config("down"))
	r.start()
	if b := r.await("a view", func(view.View) bool { return true }).Services[0].Backends[0]; b.Up {
		t.Errorf("backend %+v, want it down", b)
	}
}

func TestTheViewTellsWhatWasLastSeenAndWhen(t *testing.T) {
	a, _ := page(t, "a")
	config := func(interval string) string {
		return fmt.Sprintf("services: [{name: web, listen: '%s', forward: http, backends: [{address: %q, weight: 7}], health: {type: http, path: /health, interval: %s, timeout: 1s}}]\n", site, a, interval)
	}
	r := runAgentWith(t, config("1h"), func(o *Options) { o.StateDir = t.TempDir() })
	for range 20 {
		fetch(t, "/")
	}
	v := r.await("the backend is known", func(v view.View) bool {
		l := v.Services[0].Backends[0].Latency
		return v.Services[0].Backends[0].Known && l != nil && l.Count >= 20
	})
	if v.Services[0].Backends[0].Last != nil {
		t.Errorf("the first agent knows of one before: %+v", v.Services[0].Backends[0].Last)
	}
	r.end()
	before := time.Now()
	r.start()
	last := r.await("a view", func(v view.View) bool { return v.Services[0].Backends[0].Last != nil }).Services[0].Backends[0].Last
	if last.Weight != 7 || last.Latency == nil || last.Latency.Count < 20 || last.At.After(before) || before.Sub(last.At) > time.Minute {
		t.Errorf("last seen: %+v, latency %+v", last, last.Latency)
	}
	fetch(t, "/")
	r.await("it is over", func(v view.View) bool {
		return v.Services[0].Backends[0].Known && v.Services[0].Backends[0].Last == nil
	})
}

// TestSinceGoesOn has processes follow each other, in good order and not, and a backend
// of each health that is the same for all of them, and one that is not.
func TestSinceGoesOn(t *testing.T) {
	s := supervised(t, 20*time.Second)
	up, sick := page(t, "up")
	s.configure(s.good + fmt.Sprintf("  - {name: web, listen: '%s', forward: http, backends: [{address: %q}, {address: '127.0.0.1:1'}], %s}\n", site, up, quickHealth))
	s.reload()
	known := func(sick bool) (all [2]time.Time) {
		t.Helper()
		await(t, "a view of known backends by the process", func() bool {
			v, err := view.Read(s.opts.RunDir)
			if err != nil || v.PID != s.pid() {
				return false
			}
			for i, b := range v.Services[len(v.Services)-1].Backends {
				if b.LastProbe.IsZero() || b.Up != (i == 0 && !sick) {
					return false
				}
				all[i] = b.Since
			}
			return true
		})
		return all
	}
	sick.Store(true)
	known(true)
	sick.Store(false) // which is since after the start of the process
	want := known(false)
	for _, row := range []struct {
		name string
		next func()
	}{
		{"a successor", func() { s.reload() }},
		{"a restart", s.restart},
		{"a kill", func() { s.end(syscall.SIGKILL); s.start() }},
	} {
		row.next()
		if now := known(false); !now[0].Equal(want[0]) || !now[1].Equal(want[1]) {
			t.Errorf("%s: since %v, want %v", row.name, now, want)
		}
	}
	s.stop()
	sick.Store(true)
	s.start()
	if now := known(true); !now[0].After(want[0]) || !now[1].Equal(want[1]) {
		t.Errorf("a backend that is down since the last process ended, and one that is for longer: since %v, were %v", now, want)
	}
}
