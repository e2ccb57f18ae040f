package balance

import (
	"container/list"
	"net/netip"
	"sync"
	"time"
)

// maxNetworks is how many networks of clients an affinity remembers.
const maxNetworks = 65536

// An affinity remembers which backend networks of clients have had last. Beyond
// its bound it forgets those that made no flow for the longest time.
type affinity struct {
	mu     sync.Mutex
	by     map[netip.Addr]*list.Element
	recent list.List // of stays, the latest first
}

// A stay is a network's with a backend.
type stay struct {
	network netip.Addr
	backend netip.AddrPort
	last    time.Time
}

func newAffinity() *affinity { return &affinity{by: map[netip.Addr]*list.Element{}} }

// get returns the backend that a network has had at since or later.
func (a *affinity) get(network netip.Addr, since time.Time) (netip.AddrPort, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	e := a.by[network]
	if e == nil || e.Value.(stay).last.Before(since) {
		return netip.AddrPort{}, false
	}
	return e.Value.(stay).backend, true
}

// put notes that a network has made a flow with a backend now.
func (a *affinity) put(network netip.Addr, backend netip.AddrPort, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if e := a.by[network]; e != nil {
		a.recent.Remove(e)
	} else if len(a.by) == maxNetworks {
		delete(a.by, a.recent.Remove(a.recent.Back()).(stay).network)
	}
	a.by[network] = a.recent.PushFront(stay{network, backend, now})
}
