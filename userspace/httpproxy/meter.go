package httpproxy

import (
	"container/list"
	"hash/maphash"
	"math"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"fairlead/userspace/model"
)

// What a Proxy remembers of its clients' rates; of more it forgets those that were
// silent longest, and lets them begin anew.
const (
	meterShards = 16
	maxMeters   = 65536
)

// meters are how much of its rates each client has left. The zero value knows
// nobody. It is safe for concurrent use.
type meters [meterShards]meterShard

type meterShard struct {
	mu     sync.Mutex
	known  map[meterKey]*list.Element
	recent list.List // of *meter, the longest silent one last
}

// A meterKey is a client under one limit. Who has another limit after a reload
// begins anew.
type meterKey struct {
	what   string // that is limited
	limit  model.Rate
	client netip.Addr
}

type meter struct {
	key  meterKey
	left *rate.Limiter
}

var meterSeed = maphash.MakeSeed()

// spend takes a request from what a client has left. If there is nothing, it
// returns how long until there is.
func (m *meters) spend(key meterKey, now time.Time) (wait time.Duration) {
	key.client = household(key.client)
	s := &m[maphash.Comparable(meterSeed, key)%meterShards]
	s.mu.Lock()
	defer s.mu.Unlock()
	turn := s.meter(key).left.ReserveN(now, 1)
	if wait = turn.DelayFrom(now); wait > 0 {
		turn.CancelAt(now)
	}
	return wait
}

// meter returns that of a client. The caller holds the lock.
func (s *meterShard) meter(key meterKey) *meter {
	if e := s.known[key]; e != nil {
		s.recent.MoveToFront(e)
		return e.Value.(*meter)
	}
	if s.known == nil {
		s.known = map[meterKey]*list.Element{}
	}
	if s.recent.Len() == maxMeters/meterShards {
		last := s.recent.Back()
		delete(s.known, last.Value.(*meter).key)
		s.recent.Remove(last)
	}
	every := rate.Limit(float64(key.limit.Requests) / key.limit.Per.Seconds())
	m := &meter{key, rate.NewLimiter(every, key.limit.Burst)}
	s.known[key] = s.recent.PushFront(m)
	return m
}

// household returns what counts as one client: an IPv4 address, or the /64 that a
// client of IPv6 usually has to itself.
func household(a netip.Addr) netip.Addr {
	if a.Is6() {
		p, _ := a.Prefix(64) // no address is too short for it
		return p.Addr()
	}
	return a
}

// grants reports whether a client may make one more request of what a limit is
// about, and answers it if not.
func (x *exchange) grants(w http.ResponseWriter, what string, limit model.Rate) bool {
	if limit.Requests == 0 {
		return true
	}
	wait := x.proxy.meters.spend(meterKey{what, limit, x.client}, time.Now())
	if wait <= 0 {
		return true
	}
	x.proxy.rateLimited.Add(1)
	w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(wait.Seconds()))))
	refuse(w, http.StatusTooManyRequests)
	return false
}
