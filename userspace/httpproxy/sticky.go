package httpproxy

import (
	"container/list"
	"crypto/sha256"
	"encoding/binary"
	"math"
	"net/netip"
	"slices"
	"sync"
	"time"

	"fairlead/userspace/model"
)

// A stay is what is known of the backend that a client's requests stay with.
type stay struct {
	backend *backend // nil: none that is there
	// key is that of the client among the stays of the pool, 0 if it has none.
	key   uint64
	until int64 // by the cookie, in seconds since 1970; 0 is for ever
	full  bool  // the backend has as many requests as it may just now
}

// stay returns the stay that a request says it belongs to, or the pool knows of.
func (p *Pool) stay(s *set, x *exchange) (y stay) {
	c := &s.conf.Sticky
	switch c.By {
	case model.StickyCookie:
		return s.seal.read(x.in.CookiesNamed(c.Name), s.backends, time.Now())
	case model.StickyHeader:
		y.key = keyOf(x.in.Header.Get(c.Name))
	case model.StickySource:
		y.key = keyOf(x.client.String())
	}
	if y.key != 0 {
		y.backend = p.stays.get(y.key, time.Now().Add(-c.Lifetime))
	}
	if !slices.Contains(s.backends, y.backend) {
		y.backend = nil // it is gone
	}
	return y
}

// holds reports whether a request belongs to a stay with one of the pool.
func (p *Pool) holds(x *exchange) bool { return p.stay(p.set.Load(), x).backend != nil }

// choose finds the backend that a request stays with; else the one that is first
// by the client's key; else any.
func (s *set) choose(x *exchange, skip func(uint32) bool) (i uint32, done func(), ok bool) {
	for i, b := range s.backends {
		if b != x.stay.backend || skip(uint32(i)) {
			continue
		}
		if done, ok := s.chooser.Keep(uint32(i)); ok {
			return uint32(i), done, true
		}
	}
	if x.stay.key != 0 {
		if i, ok := s.first(x.stay.key, skip); ok {
			done, ok := s.chooser.Keep(i)
			return i, done, ok
		}
	}
	return s.chooser.Choose(netip.AddrPortFrom(x.client, x.peer.Port()), x.local, skip)
}

// first returns which of the backends that get something new comes first for a
// key: balancers that know nothing of each other, or of their past, agree, and who
// comes or goes changes little (Thaler, Ravishankar: Using Name-Based Mappings to
// Increase Hit Rates, 1998; weights by Schindelhauer, Schomaker, 2005).
func (s *set) first(key uint64, skip func(uint32) bool) (best uint32, ok bool) {
	var most float64
	for i, b := range s.backends {
		if s.chooser.Weight(uint32(i)) == 0 || skip(uint32(i)) {
			continue
		}
		unit := (float64(mix(key^b.key)>>11) + 1) / (1<<53 + 1) // from 0 to 1, without both
		if score := -float64(b.Weight) / math.Log(unit); score > most {
			best, most, ok = uint32(i), score, true
		}
	}
	return best, ok
}

// mix makes each bit depend on all (the end of SplitMix64).
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// keyOf returns a number for a text, 0 for none.
func keyOf(text string) uint64 {
	if text == "" {
		return 0
	}
	sum := sha256.Sum256([]byte(text))
	return max(1, binary.BigEndian.Uint64(sum[:]))
}

// maxStays is how many clients a pool remembers.
const maxStays = 65536

// stays remember the backends that clients have had last. Beyond their bound they
// forget those that have asked for nothing for the longest time.
type stays struct {
	mu     sync.Mutex
	by     map[uint64]*list.Element
	recent list.List // of visits, the latest first
}

// A visit is a client's at a backend.
type visit struct {
	key     uint64
	backend *backend
	last    time.Time
}

// get returns the backend that a client has had at since or later, nil if none.
func (y *stays) get(key uint64, since time.Time) *backend {
	y.mu.Lock()
	defer y.mu.Unlock()
	e := y.by[key]
	if e == nil || e.Value.(visit).last.Before(since) {
		return nil
	}
	return e.Value.(visit).backend
}

// note remembers who serves a request. Another one in place of a backend that is
// only full is an exception.
func (y *stays) note(c *model.Sticky, s *stay, b *backend, now time.Time) {
	if c.By == "" || s.key == 0 || s.full && s.backend != b {
		return
	}
	y.mu.Lock()
	defer y.mu.Unlock()
	if y.by == nil {
		y.by = map[uint64]*list.Element{}
	}
	if e := y.by[s.key]; e != nil {
		y.recent.Remove(e)
	} else if len(y.by) == maxStays {
		delete(y.by, y.recent.Remove(y.recent.Back()).(visit).key)
	}
	y.by[s.key] = y.recent.PushFront(visit{s.key, b, now})
}
