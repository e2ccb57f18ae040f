package httpcache

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// A flight is a request to a backend that others wait for, who want the same.
type flight struct {
	landed  chan struct{}
	result  result // when it has landed
	waiting atomic.Bool
}

// What has become of a flight.
type result int

const (
	broken   result = iota // another should try
	done                   // others may find what they want, or else try, all of them
	personal               // the same, and it was not to be stored
)

// flights are those that have not landed, by what they are for.
type flights struct {
	mu  sync.Mutex
	all map[string]*flight
}

// join returns the flight for id; the caller leads it if there was none.
func (s *flights) join(id string) (f *flight, leads bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f := s.all[id]; f != nil {
		return f, false
	}
	if s.all == nil {
		s.all = map[string]*flight{}
	}
	f = &flight{landed: make(chan struct{})}
	s.all[id] = f
	return f, true
}

// land ends a flight. Only the first call counts.
func (s *flights) land(id string, f *flight, r result) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all[id] == f {
		delete(s.all, id)
		f.result = r
		close(f.landed)
	}
}

// await waits for a flight to land, or returns false.
func (f *flight) await(ctx context.Context, late <-chan time.Time) bool {
	f.waiting.Store(true)
	select {
	case <-f.landed:
		return true
	case <-late:
	case <-ctx.Done():
	}
	return false
}
