package httpproxy

import (
	"sync/atomic"
	"time"

	"fairlead/userspace/latency"
)

// BackendStats are sums since the pool has the backend, except Running.
type BackendStats struct {
	Attempts uint64         // that began
	Answers  map[int]uint64 // as those of [Stats]
	Failures uint64         // what docs/http.md calls one, rule 6
	Running  int64          // requests now
	// Latency is of answers, until their header has come.
	Latency *latency.Recorder
}

// A tally counts what a backend is asked and does.
type tally struct {
	attempts, failures atomic.Uint64

	answers statusCounts
	latency latency.Recorder
}

// answer notes one that took d and came now.
func (t *tally) answer(status int, d time.Duration, now time.Time) {
	t.answers.add(status)
	t.latency.Record(d, now)
}

// Stats returns what is known of each backend, by its index of the last Update.
func (p *Pool) Stats() []BackendStats {
	s := p.set.Load()
	all := make([]BackendStats, len(s.backends))
	for i, b := range s.backends {
		t := &b.tally
		all[i] = BackendStats{
			Attempts: t.attempts.Load(), Answers: t.answers.read(), Failures: t.failures.Load(), Running: b.active.Load(), Latency: &t.latency,
		}
	}
	return all
}
