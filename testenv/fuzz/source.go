package fuzz

import (
	"fmt"
	"math/rand/v2"
	"net/netip"

	m "fairlead/testenv/refmodel"
)

// newFlags are those of a service, any mix.
func newFlags(r *rand.Rand) uint8 {
	flags := uint8(r.IntN(4))
	if oneIn(r, 4) {
		flags |= m.FlagListed
	}
	if oneIn(r, 4) {
		flags |= m.FlagLimited
	}
	if oneIn(r, 3) {
		flags |= m.FlagFullNAT
	}
	if oneIn(r, 2) {
		flags |= m.FlagCookies
	}
	return flags
}

// setLimit gives a service another limit, which applies if it has the flag.
func (w *world) setLimit(r *rand.Rand, s *m.Service) {
	s.LimitMask = w.mask(pick(r, w.limits))
	s.LimitRate = pick(r, []uint32{0, 1, 3, 1000})
	s.LimitBurst = pick(r, []uint32{1, 2, 5})
}

// newPrefix is a network of clients of a service, and whether it is allowed.
func (w *world) newPrefix(r *rand.Rand, service uint32) (p m.Prefix, allow bool) {
	n := w.newNetwork(r)
	return m.Prefix{Service: service, Addr: n.Addr(), Len: n.Bits()}, !oneIn(r, 3)
}

// newNetwork is a network that clients are in.
func (w *world) newNetwork(r *rand.Rand) netip.Prefix {
	addr := pick(r, pick(r, [][]m.Addr{w.clients, w.clients, w.spoofed}))
	return netip.PrefixFrom(addr, pick(r, w.prefixes)).Masked()
}

// newSnatPorts are the source ports of our own, never beyond the last port.
func newSnatPorts(r *rand.Rand) (first, n uint16) {
	return pick(r, []uint16{1000, 32768, 45000}), pick(r, []uint16{0, 1, 1, 2, 2, 64, 20000})
}

// newSources is a run of snat, rarely beyond its end.
func newSources(r *rand.Rand) m.Run {
	run := m.Run{Offset: r.Uint32N(4), Length: pick(r, []uint32{0, 1, 1, 2, 2, 4})}
	switch r.IntN(16) {
	case 0:
		run.Offset = numSnat - r.Uint32N(4)
	case 1: // to where nobody has written an address
		run.Length = 16
	}
	return run
}

// fillSnat writes the addresses that most runs have.
func (w *world) fillSnat(r *rand.Rand) {
	for at := range w.Snat {
		w.Snat[at] = w.none()
	}
	for at := range 8 {
		w.Snat[at] = w.source(r, at)
	}
	for at := numSnat - 4; at < numSnat; at++ {
		w.Snat[at] = w.source(r, at)
	}
}

// made is how many flows have been made.
func (w *world) made() uint64 {
	var n uint64
	for _, c := range w.BackendCounters {
		n += c.Flows
	}
	return n
}

// snat is another source address of our own.
func (g *generator) snat() change {
	at := g.r.Uint32N(8)
	addr := g.w.source(g.r, int(at))
	return change{part: partSnat, row: at, text: fmt.Sprintf("snat %d: %v", at, addr), apply: func(w *world) { w.Snat[at] = addr }}
}

// prefix is one more in a service's list of clients, or one less.
func (g *generator) prefix() change {
	p, allow := g.w.newPrefix(g.r, g.r.Uint32N(numServices))
	if oneIn(g.r, 3) {
		return change{part: partClient, prefix: p, text: fmt.Sprintf("no client %+v", p), apply: func(w *world) { delete(w.Clients, p) }}
	}
	text := fmt.Sprintf("client %+v: %v", p, allow)
	return change{part: partClient, prefix: p, text: text, apply: func(w *world) { w.Clients[p] = allow }}
}

// creditEdge moves the clock to where a network of clients may just make
// another flow, or has all of its credit back.
func (g *generator) creditEdge() change {
	t := g.tuple()
	row := g.w.Listeners[m.Listener{Addr: t.Dst, Port: t.DPort, Proto: t.Proto}]
	if row >= numServices {
		return g.tick()
	}
	s := g.w.Services[row]
	c, known := g.w.Sources[m.Source{Service: row, Net: m.And(t.Src, s.LimitMask)}]
	if !known || s.LimitRate == 0 {
		return g.tick()
	}
	g.want = append(g.want, t, t)
	goal := g.w.Control.Hz * pick(g.r, []uint32{1, 1, 2, s.LimitBurst})
	return setNow(c.Tick + (max(goal, c.Left)-c.Left)/s.LimitRate + g.r.Uint32N(2))
}

// collide lets a client go to several services from one port. Most have
// backends in common.
func (g *generator) collide() []change {
	t := g.client()
	for range 2 + g.r.IntN(10) {
		l := pick(g.r, g.w.offered)
		if l.Proto == t.Proto {
			g.want = append(g.want, m.Tuple{Src: t.Src, SPort: t.SPort, Dst: l.Addr, DPort: l.Port, Proto: l.Proto})
		}
	}
	return []change{g.tick()}
}

// robTwin takes the reply entry from a disguised flow. Other clients of the
// service may get its source before it sends again.
func (g *generator) robTwin() []change {
	for range 8 {
		f := g.w.Find(g.tuple())
		if f == nil || f.Dir != m.Forward || f.Leave.Src == f.Key.Src && f.Leave.SPort == f.Key.SPort {
			continue
		}
		for range g.r.IntN(4) {
			rival := f.Key
			rival.Src, rival.SPort = pick(g.r, g.w.clients), 1000+uint16(g.r.IntN(50))
			g.want = append(g.want, rival)
		}
		g.want = append(g.want, f.Key, f.Key)
		return []change{evict(f.TwinKey())}
	}
	return []change{g.tick()}
}
