package fuzz

import (
	"fmt"
	"math/rand/v2"
	"net/netip"

	"fairlead/loader"
	m "fairlead/testenv/refmodel"
)

// allServices stands for a service's row where the clients say in which zone a
// network is: ALL_SERVICES of bpf/types.h.
const allServices = 1<<32 - 1

// setZone writes the zone of a network.
func (k *kernel) setZone(w *world, n netip.Prefix) error {
	zone, ok := w.Zones[n]
	key := k.w.codec.prefix(m.Prefix{Service: allServices, Addr: n.Addr(), Len: n.Bits()})
	return set(k.Own(loader.LBMapClients), key, zone, ok)
}

// newZone is the number of a zone, rarely that of none.
func newZone(r *rand.Rand) uint32 { return pick(r, []uint32{0, 1, 1, 1, 2, 2, 3}) }

// newZones are those of a row of services: the row of the next one + 1, which may
// be in a circle, and its own number.
func newZones(r *rand.Rand) (next, number uint32) {
	if !oneIn(r, 4) {
		next = 1 + r.Uint32N(numServices+1)
	}
	return next, newZone(r)
}

// fillZones puts clients into zones, and gives services some.
func (w *world) fillZones(r *rand.Rand) {
	for range r.IntN(6) {
		w.Zones[w.newNetwork(r)] = newZone(r)
	}
	for row := range w.Services {
		w.Services[row].Zones, w.Services[row].Zone = newZones(r)
	}
}

// zone is another zone of a network of clients, or none, or other zones of a
// service.
func (g *generator) zone() change {
	if oneIn(g.r, 2) {
		row := g.r.Uint32N(numServices)
		s := g.w.Services[row]
		s.Zones, s.Zone = newZones(g.r)
		text := fmt.Sprintf("service %d: %+v", row, s)
		return change{part: partService, row: row, text: text, apply: func(w *world) { w.Services[row] = s }}
	}
	p, zone := g.w.newNetwork(g.r), newZone(g.r)
	if oneIn(g.r, 3) {
		return change{part: partZone, network: p, text: fmt.Sprintf("no zone of %v", p), apply: func(w *world) { delete(w.Zones, p) }}
	}
	return change{part: partZone, network: p, text: fmt.Sprintf("zone of %v: %d", p, zone), apply: func(w *world) { w.Zones[p] = zone }}
}
