package udpproxy

import (
	"cmp"
	"sync"
	"sync/atomic"
)

// DefaultMaxFlows bounds the flows of a [Room] that names no bound. It is well
// below the 28232 ports that Linux hands out unless it is told otherwise.
const DefaultMaxFlows = 16384

// A Room bounds the flows of all proxies that share it: each flow takes a
// descriptor and a local port of the host. Beyond the bound a new flow takes
// the place of the longest silent one of its own proxy if that has more than
// its share, else of the proxy that has most. So a flood of one service ends
// no flows of others. The zero value is ready for use.
type Room struct {
	// Max is the bound; 0 means [DefaultMaxFlows]. It must not change.
	Max int

	taken  atomic.Int64
	active atomic.Int64 // proxies that have flows

	mu sync.Mutex // taken before that of a Proxy, never after it
	// members are the proxies that have flows, and perhaps some that had.
	members map[*Proxy]struct{}
}

// Flows returns how many flows there are.
func (r *Room) Flows() int { return int(r.taken.Load()) }

// Bound returns how many flows there may be.
func (r *Room) Bound() int { return cmp.Or(r.Max, DefaultMaxFlows) }

// take takes a place for a flow of p. It returns false if all are taken by
// flows that are only being made.
func (r *Room) take(p *Proxy) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.members == nil {
		r.members = map[*Proxy]struct{}{}
	}
	r.members[p] = struct{}{}
	for r.Flows() >= r.Bound() {
		if !r.evict(p) {
			return false
		}
	}
	r.taken.Add(1)
	return true
}

// give gives a place back.
func (r *Room) give() { r.taken.Add(-1) }

// yield ends a flow, of whom it is fair for p, although there is room: the
// host has none. It returns false if there is no flow.
func (r *Room) yield(p *Proxy) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.evict(p)
}

func (r *Room) evict(p *Proxy) bool {
	victim := p
	if p.size.Load() <= int64(r.Bound())/max(r.active.Load(), 1) {
		for m := range r.members {
			switch n := m.size.Load(); {
			case n > victim.size.Load():
				victim = m
			case n == 0 && m != p:
				delete(r.members, m)
			}
		}
	}
	return victim.evict()
}

// leave lets go of a proxy without flows.
func (r *Room) leave(p *Proxy) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if p.size.Load() == 0 {
		delete(r.members, p)
	}
}
