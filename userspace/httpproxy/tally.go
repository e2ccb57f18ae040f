package httpproxy

import (
	"sync/atomic"
	"time"

	"fairlead/userspace/latency"
)

// BackendStats are sums since the pool has the backend, except Running.
type BackendStats struct {
	Attempts uint64    // that began
	Answers  [4]uint64 // by hundreds of their status, 2xx first
	Failures uint64    // what docs/http.md calls one, rule 6
	Running  int64     // requests now
	// Latency is of answers, until their header has come.
	Latency *latency.Recorder
}

// A tally counts what a backend is asked and does.
type tally struct {
	attempts, failures atomic.Uint64

	answers [4]atomic.Uint64
	latency latency.Recorder
}

// answer notes one that took d and came now.
func (t *tally) answer(status int, d time.Duration, now time.Time) {
	if class := status/100 - 2; class >= 0 && class < len(t.answers) {
		t.answers[class].Add(1)
	}
	t.latency.Record(d, now)
}

// Stats returns what is known of each backend, by its index of the last Update.
func (p *Pool) Stats() []BackendStats {
	s := p.set.Load()
	all := make([]BackendStats, len(s.backends))
	for i, b := range s.backends {
		t := &b.tally
		all[i] = BackendStats{Attempts: t.attempts.Load(), Failures: t.failures.Load(), Running: b.active.Load(), Latency: &t.latency}
		for c := range t.answers {
			all[i].Answers[c] = t.answers[c].Load()
		}
	}
	return all
}
