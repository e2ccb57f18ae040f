package balance

import (
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"fairlead/userspace/model"
)

// A Chooser chooses backends for the flows of a service's proxy, in the way that
// the service asks for and the kernel does it. It may be used by any number of
// goroutines at once.
type Chooser struct {
	service *model.Service
	weights []int
	down    []bool
	unsure  []bool          // with whom nobody stays
	pools   []pool          // for clients of no zone, then of each of the service's
	loads   []*atomic.Int64 // flows by backend
	memory
}

// A pool is what the clients of a zone choose from.
type pool struct {
	slots func() []uint32
	turn  *atomic.Uint64
}

// A memory is what the choosers of one service have in common.
type memory struct {
	turns  map[string]*atomic.Uint64 // by name of a zone of clients, "" for none
	stay   *affinity
	counts map[netip.AddrPort]*atomic.Int64 // loads
	// counting is held while the least loaded backend is looked for, so that
	// no two flows find the same one.
	counting *sync.Mutex
}

// NewChooser returns one for a service whose backends have these duties by now.
// It goes on where old stands, which may be nil: with its turns, and with the
// flows that its backends have.
//
// Its tables are made when they are first needed.
func NewChooser(s *model.Service, duties Duties, old *Chooser) *Chooser {
	c := &Chooser{
		service: s, weights: make([]int, len(s.Backends)), loads: make([]*atomic.Int64, len(s.Backends)),
		down: make([]bool, len(s.Backends)), unsure: make([]bool, len(s.Backends)),
		memory: memory{
			turns: map[string]*atomic.Uint64{}, stay: newAffinity(), counts: map[netip.AddrPort]*atomic.Int64{}, counting: new(sync.Mutex),
		},
	}
	if old != nil {
		c.stay, c.counting = old.stay, old.counting
	}
	zones := s.ClientZones.Names()
	for k := range duties {
		zone := ""
		if k > 0 {
			zone = zones[k-1]
		}
		c.addPool(zone, duties[k].Weights, old)
	}
	for i, b := range s.Backends {
		c.weights[i], c.down[i], c.unsure[i] = duties.Weight(i), duties.Down(i), duties.Unsure(i)
		if old != nil {
			c.loads[i] = old.counts[b.Address]
		}
		if c.loads[i] == nil {
			c.loads[i] = new(atomic.Int64)
		}
		c.counts[b.Address] = c.loads[i]
	}
	return c
}

// addPool makes what clients of a zone choose from.
func (c *Chooser) addPool(zone string, weights []int, old *Chooser) {
	p := pool{sync.OnceValue(func() []uint32 { return Slots(c.service, weights) }), new(atomic.Uint64)}
	if old != nil && old.turns[zone] != nil {
		p.turn = old.turns[zone]
	}
	c.turns[zone] = p.turn
	c.pools = append(c.pools, p)
}

// Flows returns how many flows the i-th backend has.
func (c *Chooser) Flows(i int) int { return int(c.loads[i].Load()) }

// Choose returns the index of the backend for a flow from client to local, that
// skip does not want skipped, or false if there is none. A nil skip skips
// nothing. The backend has the flow until done is called, once.
func (c *Chooser) Choose(client, local netip.AddrPort, skip func(i uint32) bool) (i uint32, done func(), ok bool) {
	passes := func(i uint32) bool { return c.weights[i] <= 0 || skip != nil && skip(i) }
	if c.service.Balance.Method == model.LeastConnections {
		c.counting.Lock()
		defer c.counting.Unlock()
	}
	if c.service.Affinity > 0 {
		i, ok = c.stayed(client.Addr(), func(i uint32) bool { return c.unsure[i] || passes(i) })
	}
	if !ok {
		i, ok = c.find(&c.pools[c.service.ClientZones.Find(client.Addr())], client, local, passes)
	}
	if !ok {
		return 0, nil, false
	}
	if c.service.Affinity > 0 {
		c.stay.put(network(c.service, client.Addr().Unmap()), c.service.Backends[i].Address, time.Now())
	}
	return i, c.count(i), true
}

// Weight returns what the i-th backend weighs by now; 0 is no new flow.
func (c *Chooser) Weight(i uint32) int { return c.weights[i] }

// Keep gives the i-th backend a flow as Choose does, whatever it weighs, unless it
// is down.
func (c *Chooser) Keep(i uint32) (done func(), ok bool) {
	if c.down[i] {
		return nil, false
	}
	return c.count(i), true
}

// count counts a flow of the i-th backend until what it returns is called.
func (c *Chooser) count(i uint32) (done func()) {
	load := c.loads[i]
	load.Add(1)
	return func() { load.Add(-1) }
}

// stayed returns the backend that the network of a client has had lately.
func (c *Chooser) stayed(client netip.Addr, skip func(uint32) bool) (uint32, bool) {
	at, ok := c.stay.get(network(c.service, client.Unmap()), time.Now().Add(-c.service.Affinity))
	if !ok {
		return 0, false
	}
	for i, b := range c.service.Backends {
		if b.Address == at {
			return uint32(i), !skip(uint32(i))
		}
	}
	return 0, false
}

// find chooses from a pool by the service's method.
func (c *Chooser) find(p *pool, client, local netip.AddrPort, skip func(uint32) bool) (uint32, bool) {
	n := uint64(len(p.slots()))
	if n == 0 {
		return 0, false
	}
	switch c.service.Balance.Method {
	case model.Random:
		return p.from(rand.Uint64N(n), skip)
	case model.Maglev, model.SourceHash:
		return c.byHash(p, Hash(c.service, client, local), skip)
	case model.P2C:
		return c.lighter(p, skip)
	case model.LeastConnections:
		return c.lightest(p, skip)
	}
	return p.inTurn(skip)
}

// from returns the first index that is not skipped in slot at and those behind.
func (p *pool) from(at uint64, skip func(uint32) bool) (uint32, bool) {
	i, _, ok := p.after(at, skip)
	return i, ok
}

// after is from, and says how many slots it looked at.
func (p *pool) after(at uint64, skip func(uint32) bool) (i uint32, looked uint64, ok bool) {
	slots := p.slots()
	n := uint64(len(slots))
	for looked = range n {
		if i = slots[(at+looked)%n]; !skip(i) {
			return i, looked + 1, true
		}
	}
	return 0, n, false
}

// inTurn takes turns. Skipped slots have had theirs: what they would have got is
// shared by all others, not taken by the one behind them. Who finds nobody takes
// no turn.
func (p *pool) inTurn(skip func(uint32) bool) (uint32, bool) {
	for {
		turn := p.turn.Load()
		i, turns, ok := p.after(turn, skip)
		if !ok {
			return 0, false
		}
		if p.turn.CompareAndSwap(turn, turn+turns) {
			return i, true
		}
	}
}

// hashes is how many slots of a flow's hash are looked at before all others are.
const hashes = 8

// byHash follows a hash from slot to slot until one is not skipped, nor has too
// much already.
func (c *Chooser) byHash(p *pool, h uint64, skip func(uint32) bool) (uint32, bool) {
	slots, bound := p.slots(), c.bound()
	least, found := uint32(0), false
	for range hashes {
		i := slots[h%uint64(len(slots))]
		h = Rehash(h)
		if skip(i) {
			continue
		}
		if bound(i) {
			return i, true
		}
		if !found || c.better(i, least) {
			least, found = i, true
		}
	}
	if found {
		return least, true
	}
	return p.from(h%uint64(len(slots)), skip)
}

// bound returns what says whether a backend may have another flow by the
// service's bound of the load (Mirrokni, Thorup, Zadimoghaddam: Consistent
// Hashing with Bounded Loads, 2016).
func (c *Chooser) bound() func(i uint32) bool {
	if c.service.Balance.MaxLoad == 0 {
		return func(uint32) bool { return true }
	}
	flows, weight := int64(0), int64(0)
	for i, w := range c.weights {
		flows += c.loads[i].Load()
		weight += int64(w)
	}
	most := int64(c.service.Balance.MaxLoad) * (flows + 1)
	return func(i uint32) bool { return 100*c.loads[i].Load()*weight < most*int64(c.weights[i]) }
}

// better reports whether a has fewer flows for its weight than b, with half of
// one more each (Sainte-Laguë's method).
func (c *Chooser) better(a, b uint32) bool {
	return (2*c.loads[a].Load()+1)*int64(c.weights[b]) < (2*c.loads[b].Load()+1)*int64(c.weights[a])
}

// lighter takes the less loaded of two random slots (Mitzenmacher: The Power of
// Two Choices in Randomized Load Balancing, 2001).
func (c *Chooser) lighter(p *pool, skip func(uint32) bool) (uint32, bool) {
	n := uint64(len(p.slots()))
	a, ok := p.from(rand.Uint64N(n), skip)
	if !ok {
		return 0, false
	}
	if b, _ := p.from(rand.Uint64N(n), skip); c.better(b, a) {
		return b, true
	}
	return a, true
}

// lightest takes the least loaded of all, by turns where several are.
func (c *Chooser) lightest(p *pool, skip func(uint32) bool) (best uint32, ok bool) {
	slots := p.slots()
	first := p.turn.Add(1)
	for k := range slots {
		i := slots[(first+uint64(k))%uint64(len(slots))]
		if !skip(i) && (!ok || c.better(i, best)) {
			best, ok = i, true
		}
	}
	return best, ok
}
