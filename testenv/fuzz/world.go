package fuzz

import (
	"math/rand/v2"
	"net/netip"

	"fairlead/testenv/lbtest"
	m "fairlead/testenv/refmodel"
)

// Sizes of the maps, small so that rows and slots are hit often.
const (
	numServices = 8
	numBackends = 16
	numSlots    = 64
	numSnat     = 1024
)

// bucketNumbers are the sizes of the flow table: two that are soon full, the
// smallest more often, and one that never is.
var bucketNumbers = []int{2, 2, 4, 64}

// Pools of ports, small so that tuples collide.
var (
	vipPorts = []uint16{80, 81, 53, 8000, 8001, 8002}
	ports    = []uint16{1000, 40000, 80, 0, 65535}
	// MTUs of routes: 0 is not known, and hardly any packet is longer than 9000.
	mtus = []uint16{0, 40, 68, 100, 576, 1500, 1500, 1500, 9000, 65535}
	// Interfaces: packets come in by the first, the last two cannot send.
	interfaces = []uint32{1, 2, 3, 4, 70000}
)

func pick[T any](r *rand.Rand, from []T) T { return from[r.IntN(len(from))] }

// oneIn is true once in n times.
func oneIn(r *rand.Rand, n int) bool { return r.IntN(n) == 0 }

// A route is an answer of the FIB.
type route struct {
	result m.FIBResult
	hop    m.Hop
}

// A world is a model with surroundings that can be written down: what of it
// the other side of a comparison has to be told.
type world struct {
	*m.Model
	*family // of all services
	fib     map[m.Addr]route
	random  uint32       // what random numbers are made of
	cookies bool         // whether the kernel makes cookies
	offered []m.Listener // what has been a key of Listeners, to send packets to
}

// newWorld is a random configuration.
func newWorld(r *rand.Rand, f *family) *world {
	w := &world{family: f, Model: &m.Model{
		Listeners: map[m.Listener]uint32{}, VIPs: map[m.Addr]uint32{},
		Services: make([]m.Service, numServices), Backends: make([]m.Backend, numBackends), Slots: make([]uint32, numSlots),
		Devices: map[uint32]uint32{}, Standby: map[m.Tuple]bool{}, Connections: map[m.Tuple]bool{}, Over: map[m.Tuple]bool{}, Rivals: map[m.Tuple]m.Flow{}, Ingress: interfaces[0],
		Clients: map[m.Prefix]bool{}, Zones: map[netip.Prefix]uint32{}, Sources: map[m.Source]m.Credit{}, Ties: map[m.Source]m.Tie{}, Snat: make([]m.Addr, numSnat),
		Fragments: map[m.FragmentKey]m.Fate{}, FragmentRivals: map[m.FragmentKey]m.Fate{},
		Turns: make([]uint64, numServices), Syns: make([]m.Syns, numServices),
		BackendCounters: make([]m.Counters, numBackends),
	}, fib: map[m.Addr]route{}}
	w.FIB = func(_, dst m.Addr) (m.FIBResult, m.Hop) {
		if way, ok := w.fib[dst]; ok {
			return way.result, way.hop
		}
		return m.FIBNotFwded, m.Hop{}
	}
	w.random = r.Uint32()
	w.Random = w.nextRandom
	w.Mixed = f.mixed
	w.resize(pick(r, bucketNumbers))
	w.cookies = !oneIn(r, 8)
	w.Cookie = func(ip, tcp []byte) (uint32, bool) { return lbtest.Cookie(ip, tcp), w.cookies }
	w.IsCookie = lbtest.IsCookie
	w.Control = newControl(r)
	w.Now = pick(r, []uint32{0, 5, 1 << 20, 1<<31 - 3, 1<<32 - 5, r.Uint32()})
	w.Clock = w.Control.Heartbeat + pick(r, []uint64{0, 1e9, 2e9, 10e9 + 1})
	w.Agent = !oneIn(r, 4)
	for _, pool := range [][]m.Addr{w.vips, w.servers, w.narrow} {
		for _, addr := range pool {
			w.VIPs[addr] = newUses(r)
		}
	}
	for row := range w.Services {
		w.Services[row] = w.newService(r)
		w.Turns[row] = pick(r, []uint64{0, 1, 1<<32 - 2, 1<<64 - 2, r.Uint64()})
		w.listen(r, uint32(row))
		for range r.IntN(6) {
			p, allow := w.newPrefix(r, uint32(row))
			w.Clients[p] = allow
		}
	}
	for row := range w.Backends {
		w.Backends[row] = w.newBackend(r)
	}
	w.fillSlots(r)
	w.fillSnat(r)
	for _, i := range interfaces[:3] {
		w.Devices[i] = r.Uint32N(2)
	}
	for _, pool := range [][]m.Addr{w.clients, w.servers, w.spoofed} {
		for _, addr := range pool {
			w.fib[addr] = newRoute(r)
		}
	}
	w.fillZones(r)
	w.EventSample, w.EventRoom = newSample(r), eventRoom()
	return w
}

// resize makes a flow table of so many buckets for the family, and none for the
// other.
func (w *world) resize(buckets int) {
	table := make(m.Table, buckets)
	if w.family == &ipv4 {
		w.Flows = table
	} else {
		w.Flows6 = table
	}
}

// table is the flow table of the family.
func (w *world) table() m.Table {
	if w.family == &ipv4 {
		return w.Flows
	}
	return w.Flows6
}

func newControl(r *rand.Rand) m.Control {
	c := m.Control{
		Mode: m.ModeOn, Era: 1 + r.Uint32N(3), Epoch: r.Uint32N(3), Hz: pick(r, []uint32{1, 4, 100, 250}),
		ReplyLimit: pick(r, []uint32{0, 1, 2, 10, 1000}),
		Heartbeat:  1 << 40, LossAfter: pick(r, []uint64{0, 0, 1, 1e9}),
	}
	lasting := oneIn(r, 2) // flows fill the table
	for i := range c.Idle {
		c.Idle[i] = newIdle(r)
		if lasting {
			c.Idle[i] = pick(r, []uint32{20_000, 1<<31 - 1})
		}
	}
	c.SnatPort, c.SnatPorts = newSnatPorts(r)
	c.MixedPort, c.MixedPorts = newSnatPorts(r)
	for _, hash := range []*uint64{&c.HashA, &c.HashB, &c.HashC, &c.HashD, &c.HashE} {
		*hash = r.Uint64() | 1
	}
	return c
}

func newIdle(r *rand.Rand) uint32 {
	return pick(r, []uint32{0, 1, 3, 50, 50, 400, 400, 5000, 5000, 1<<31 - 1, 1 << 31, 1<<32 - 1})
}

func (w *world) newService(r *rand.Rand) m.Service {
	s := m.Service{State: m.ServiceXDP, Gen: r.Uint32N(3), Flags: newFlags(r)}
	w.setLimit(r, &s)
	w.setBalance(r, &s)
	s.CookieAbove = newCookieAbove(r)
	if oneIn(r, 8) {
		s.State = pick(r, []uint8{m.ServiceNone, m.ServiceProxy, m.ServiceProxy})
	}
	return s
}

func (w *world) newBackend(r *rand.Rand) m.Backend {
	b := m.Backend{
		Addr: pick(r, w.servers), Port: pick(r, []uint16{0, 80, 80, 80, 53}), State: m.BackendUp,
		Gen: r.Uint32N(3), Service: w.owner(r), Weight: newWeight(r), Unsure: oneIn(r, 6),
	}
	if w.mixed && !oneIn(r, 8) { // the other family's clients, mostly
		b.Addr = ofFamily(r, w.servers, b.Service%2 != 0)
	}
	b.Sources = w.sourcesOf(r, b.Addr)
	if oneIn(r, 5) {
		b.State = pick(r, []uint8{m.BackendNone, m.BackendDown, m.BackendDown})
	}
	if oneIn(r, 20) {
		b.Addr = pick(r, w.vips)
	}
	return b
}

// newUses are those of an address.
func newUses(r *rand.Rand) uint32 {
	return pick(r, []uint32{0, m.AddressService, m.AddressService, m.AddressBackend, m.AddressBackend, m.AddressService | m.AddressBackend})
}

// newRoute mostly leads somewhere.
func newRoute(r *rand.Rand) route {
	way := route{hop: newHop(r)}
	if oneIn(r, 20) {
		way.hop.Ifindex = pick(r, interfaces)
	}
	if oneIn(r, 12) {
		way.result = m.FIBResult(r.IntN(10))
	}
	if oneIn(r, 25) {
		way.result = m.FIBNoNeigh
	}
	if oneIn(r, 100) {
		way.result = -22
	}
	return way
}

func newHop(r *rand.Rand) m.Hop {
	return m.Hop{
		DMAC:    m.MAC{2, 0, 0, 1, 0, byte(r.IntN(256))},
		SMAC:    m.MAC{2, 0, 0, 2, 0, byte(r.IntN(256))},
		Ifindex: pick(r, interfaces[:3]),
		Flags:   r.Uint32N(2),
		MTU:     pick(r, mtus),
	}
}

// listen makes a service reachable by up to four ports of one or two protocols.
func (w *world) listen(r *rand.Rand, row uint32) {
	first := pick(r, vipPorts)
	for port := first; port < first+uint16(1+r.IntN(4)); port++ {
		l := m.Listener{Addr: w.virtual(r, row), Port: port, Proto: protocol(r)}
		w.Listeners[l] = row
		w.offered = append(w.offered, l)
	}
}

func protocol(r *rand.Rand) uint8 { return pick(r, []uint8{m.TCP, m.TCP, m.TCP, m.UDP, m.UDP}) }

// owner is a row of services, rarely one that does not exist.
func (w *world) owner(r *rand.Rand) uint32 {
	if oneIn(r, 40) {
		return numServices
	}
	return r.Uint32N(numServices)
}

// fillSlots gives every service a run of slots that mostly name its backends.
func (w *world) fillSlots(r *rand.Rand) {
	const run = numSlots / numServices
	for i := range w.Slots {
		w.Slots[i] = w.candidate(r, uint32(i/run))
	}
	for row := range w.Services {
		w.newRuns(r, row)
	}
}

// newRuns gives a service other runs, rarely beyond the end of the slots.
func (w *world) newRuns(r *rand.Rand, row int) {
	s := &w.Services[row]
	const size = numSlots / numServices
	for _, run := range []*m.Run{&s.Slots, &s.SlotsAll} {
		*run = m.Run{Offset: uint32(row*size + r.IntN(3)), Length: uint32(1 + r.IntN(size-2))}
		if oneIn(r, 8) {
			run.Length = 0
		}
		if oneIn(r, 25) {
			*run = m.Run{Offset: numSlots - 2, Length: 5}
		}
	}
}

// candidate is a backend of the service, mostly.
func (w *world) candidate(r *rand.Rand, service uint32) uint32 {
	switch r.IntN(20) {
	case 0:
		return numBackends
	case 1:
		return 1<<32 - 1
	case 2:
		return r.Uint32N(numBackends)
	}
	start := r.IntN(numBackends)
	for i := range numBackends {
		row := (start + i) % numBackends
		if w.Backends[row].Service == service {
			return uint32(row)
		}
	}
	return r.Uint32N(numBackends)
}
