package httpproxy

import (
	"sync/atomic"
	"time"
)

// Bounds are those of the buckets of [Times], each with its upper one.
var Bounds = [...]time.Duration{
	time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond, 10 * time.Millisecond, 25 * time.Millisecond,
	50 * time.Millisecond, 100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond,
	time.Second, 2500 * time.Millisecond, 5 * time.Second, 10 * time.Second,
}

// Times count how long something took until the header of its answer: by bucket
// of [Bounds], the last for more than all of them.
type Times struct {
	Counts [len(Bounds) + 1]uint64
	Sum    time.Duration
}

type times struct {
	counts [len(Bounds) + 1]atomic.Uint64
	sum    atomic.Int64
}

func (t *times) add(d time.Duration) {
	i := 0
	for i < len(Bounds) && d > Bounds[i] {
		i++
	}
	t.counts[i].Add(1)
	t.sum.Add(int64(d))
}

func (t *times) load() Times {
	all := Times{Sum: time.Duration(t.sum.Load())}
	for i := range t.counts {
		all.Counts[i] = t.counts[i].Load()
	}
	return all
}

// BackendStats are sums since the pool has the backend, except Running.
type BackendStats struct {
	Attempts uint64    // that began
	Answers  [4]uint64 // by hundreds of their status, 2xx first
	Failures uint64    // what docs/http.md calls one, rule 6
	Running  int64     // requests now
	Times    Times     // of answers
}

// A tally counts what a backend is asked and does.
type tally struct {
	attempts, failures atomic.Uint64

	answers [4]atomic.Uint64
	times   times
}

// answer notes one, and how long it took.
func (t *tally) answer(status int, d time.Duration) {
	if class := status/100 - 2; class >= 0 && class < len(t.answers) {
		t.answers[class].Add(1)
	}
	t.times.add(d)
}

// Stats returns what is known of each backend, by its index of the last Update.
func (p *Pool) Stats() []BackendStats {
	s := p.set.Load()
	all := make([]BackendStats, len(s.backends))
	for i, b := range s.backends {
		t := &b.tally
		all[i] = BackendStats{Attempts: t.attempts.Load(), Failures: t.failures.Load(), Running: b.active.Load(), Times: t.times.load()}
		for c := range t.answers {
			all[i].Answers[c] = t.answers[c].Load()
		}
	}
	return all
}
