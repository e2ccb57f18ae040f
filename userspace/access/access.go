// Package access says which clients may make flows of a service, and how many,
// by the same rules as the kernel's part: for the proxies, whose flows that
// part does not see.
//
// It opens and closes nothing, and has no clock: who asks says what time it is.
package access

import (
	"container/list"
	"net/netip"
	"slices"
	"sync"
	"time"

	"fairlead/userspace/model"
)

// MaxNetworks is how many networks a Guard remembers; of more it forgets those
// that were silent longest, and lets them begin anew.
const MaxNetworks = 65536

// A Guard judges clients of one service. It is safe for concurrent use.
type Guard struct {
	lengths []int // of prefixes in rules, longest first
	rules   map[netip.Prefix]bool
	limit   model.Limit

	mu      sync.Mutex
	sources map[netip.Addr]*list.Element // by network
	recent  list.List                    // of credit, the longest silent one last
}

// A credit is what a network may still do.
type credit struct {
	network netip.Addr
	at      time.Time // when that was
	left    int64     // flows · nanoseconds, as the kernel counts in flows · ticks
}

// New returns a guard that lets in whom c lets in.
func New(c model.Clients) *Guard {
	g := &Guard{rules: c.Rules(), limit: c.Limit, sources: map[netip.Addr]*list.Element{}}
	for p := range g.rules {
		if !slices.Contains(g.lengths, p.Bits()) {
			g.lengths = append(g.lengths, p.Bits())
		}
	}
	slices.Sort(g.lengths)
	slices.Reverse(g.lengths)
	return g
}

// Admit judges a client that wants to make a flow now. One that is admitted has
// used up one flow of its network's credit.
func (g *Guard) Admit(client netip.Addr, now time.Time) model.Admission {
	client = client.Unmap()
	switch {
	case !g.allows(client):
		return model.Denied
	case g.limit.Rate > 0 && !g.spend(client, now):
		return model.Limited
	}
	return model.Admitted
}

func (g *Guard) allows(client netip.Addr) bool {
	for _, bits := range g.lengths {
		p, err := client.Prefix(bits)
		if err != nil {
			return false
		}
		if may, ok := g.rules[p]; ok {
			return may
		}
	}
	return len(g.rules) == 0
}

// spend takes a flow from the credit of the client's network, if it has one left.
func (g *Guard) spend(client netip.Addr, now time.Time) bool {
	p, err := client.Prefix(g.limit.Prefix)
	if err != nil {
		return false
	}
	const flow = int64(time.Second)
	most := int64(g.limit.Burst) * flow
	g.mu.Lock()
	defer g.mu.Unlock()
	e := g.sources[p.Addr()]
	if e == nil {
		g.remember(&credit{p.Addr(), now, most - flow})
		return true
	}
	g.recent.MoveToFront(e)
	c := e.Value.(*credit)
	left := most
	// Longer than it takes to fill up is as good as that, and may not fit.
	if age := max(0, now.Sub(c.at)); int64(age) <= most/int64(g.limit.Rate) {
		left = min(most, c.left+int64(age)*int64(g.limit.Rate))
	}
	if left < flow {
		return false
	}
	c.left = left - flow
	if now.After(c.at) { // another goroutine may have looked at its clock later
		c.at = now
	}
	return true
}

// remember adds a network. The caller holds the lock.
func (g *Guard) remember(c *credit) {
	if g.recent.Len() == MaxNetworks {
		last := g.recent.Back()
		delete(g.sources, last.Value.(*credit).network)
		g.recent.Remove(last)
	}
	g.sources[c.network] = g.recent.PushFront(c)
}
