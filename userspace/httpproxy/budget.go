package httpproxy

import (
	"sync"
	"time"
)

const (
	freeRetries = 10  // in a second, whatever the requests
	mostRetries = 100 // that may be saved up
)

// A budget bounds the attempts after the first, so that a pool that is overloaded
// does not get a multiple of its requests.
type budget struct {
	mu    sync.Mutex
	spent float64 // of mostRetries, by now
	last  time.Time
}

// earn adds what a request brings in, in percent of an attempt.
func (b *budget) earn(percent int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.spent = max(0, b.spent-float64(percent)/100)
}

// spend takes an attempt, if there is one.
func (b *budget) spend(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.last.IsZero() {
		b.spent = max(0, b.spent-freeRetries*now.Sub(b.last).Seconds())
	}
	b.last = now
	if b.spent > mostRetries-1 {
		return false
	}
	b.spent++
	return true
}

// A pace is how long a backend takes to answer, smoothed: each answer moves it by
// an eighth of what it is off.
type pace struct {
	mu   sync.Mutex
	time time.Duration
}

func (p *pace) add(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.time == 0 {
		p.time = d
	}
	p.time += (d - p.time) / 8
}

func (p *pace) get() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.time
}
