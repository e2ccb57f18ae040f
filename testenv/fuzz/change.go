package fuzz

import (
	"fmt"
	"net/netip"
	"slices"

	m "fairlead/testenv/refmodel"
)

// A part of a world that a change touches, so that no other need be written.
type part int

const (
	partControl part = iota
	partEnv          // clock
	partService
	partBackend
	partSlot
	partListener
	partVIP
	partDevice
	partStandby
	partConnection
	partRoute
	partRival
	partFlow // an entry is gone
	partClient
	partSnat
	partAgent
	partFate // what is remembered of a datagram is gone
	partFirstRival
	partZone
	partSample
	partRead // events are
)

// A change of a world. Row, addr, listener, tuple, prefix, network or fragment say which entry of the part.
type change struct {
	part     part
	row      uint32
	addr     m.Addr
	listener m.Listener
	tuple    m.Tuple
	prefix   m.Prefix
	network  netip.Prefix
	fragment m.FragmentKey
	text     string
	apply    func(*world)
}

// changes are those before a packet: mostly none.
func (g *generator) changes() []change {
	var cs []change
	if len(g.w.Rivals) > 0 {
		cs = append(cs, noRivals)
	}
	if len(g.w.FragmentRivals) > 0 {
		cs = append(cs, noFirstRivals)
	}
	cs = append(cs, g.listening()...)
	if g.burst > 0 {
		return cs
	}
	if oneIn(g.r, 2) {
		cs = append(cs, g.tick())
	}
	if oneIn(g.r, 40) {
		g.burst = 1 + g.r.IntN(12)
	}
	if g.w.Control.Mode != m.ModeOn && oneIn(g.r, 20) {
		cs = append(cs, setControl("mode on", func(c *m.Control) { c.Mode = m.ModeOn }))
	}
	rate := 4
	if g.calm {
		rate = 12
	}
	for oneIn(g.r, rate) {
		cs = append(cs, g.change()...)
	}
	return cs
}

func (g *generator) change() []change {
	r := g.r
	switch r.IntN(46) {
	case 0, 1, 2, 3:
		return g.withEpoch(g.backend())
	case 4, 5:
		return g.withEpoch(g.service())
	case 6:
		return g.withEpoch(g.slot())
	case 7, 8:
		return g.withEpoch(g.route())
	case 9:
		return g.withEpoch(g.device())
	case 10, 11:
		return []change{g.epoch()}
	case 12, 13:
		return []change{g.control()}
	case 14:
		return []change{g.listener()}
	case 15:
		return []change{g.vip()}
	case 16, 17:
		return []change{g.standby()}
	case 18, 19:
		return []change{g.evict()}
	case 20, 21:
		return g.rival()
	case 22, 23:
		return []change{g.connection()}
	case 24:
		if oneIn(r, 2) {
			return []change{g.zone()}
		}
		return []change{g.prefix()}
	case 25:
		return []change{g.snat()}
	case 26, 27, 28, 44, 45:
		return g.robTwin()
	case 29, 30:
		return g.collide()
	case 31, 32, 33, 34:
		return g.fragment()
	case 35, 36, 37, 38:
		return g.surge()
	case 39, 40:
		return g.succession()
	default:
		return []change{g.edge()}
	}
}

// withEpoch mostly follows a change of rows by a new epoch, as user space does.
func (g *generator) withEpoch(c change) []change {
	if oneIn(g.r, 4) {
		return []change{c}
	}
	return []change{c, g.epoch()}
}

func (g *generator) epoch() change {
	return setControl("epoch + 1", func(c *m.Control) { c.Epoch++ })
}

func setControl(text string, set func(*m.Control)) change {
	return change{part: partControl, text: "control: " + text, apply: func(w *world) { set(&w.Control) }}
}

func setNow(now uint32) change {
	return change{part: partEnv, text: fmt.Sprintf("now: %d", now), apply: func(w *world) { w.Now = now }}
}

// tick moves the clock a little, rarely back or far.
func (g *generator) tick() change {
	now := g.w.Now
	switch n := g.r.IntN(200); {
	case n == 0:
		return setNow(now + 1<<31 - g.r.Uint32N(3))
	case n < 3:
		return setNow(now + 5000)
	case n < 8:
		return setNow(now + g.r.Uint32N(500))
	case n < 28:
		return setNow(now - 1 - g.r.Uint32N(2))
	}
	return setNow(now + g.r.Uint32N(4))
}

// steady is a tuple that was seen, of an established flow if one is found soon.
func (g *generator) steady() m.Tuple {
	t := pick(g.r, g.tuples)
	for range 16 {
		if f := g.w.Find(t); f != nil && f.State == m.FlowEstablished {
			break
		}
		t = pick(g.r, g.tuples)
	}
	return t
}

// edge moves the clock to where a known flow or the agent's time is just up.
func (g *generator) edge() change {
	if oneIn(g.r, 4) {
		return g.creditEdge()
	}
	if oneIn(g.r, 4) {
		limit := pick(g.r, []uint64{g.w.Control.LossAfter, 10e9}) // until all count as up, until standby flows end
		at := g.w.Control.Heartbeat + limit - 1 + uint64(g.r.IntN(3))
		return change{part: partEnv, text: fmt.Sprintf("clock: %d ns", at), apply: func(w *world) { w.Clock = at }}
	}
	f := g.w.Find(g.tuple())
	if f == nil {
		return g.tick()
	}
	switch g.r.IntN(4) {
	case 0:
		return setNow(f.Seen + f.Idle + g.r.Uint32N(2))
	case 1:
		return setNow(f.Checked + g.w.Control.Hz - g.r.Uint32N(2))
	}
	g.burst = 4 + g.r.IntN(8) // to take the places of flows that are silent
	return setNow(f.Seen + 60*g.w.Control.Hz - g.r.Uint32N(2))
}

func (g *generator) control() change {
	r := g.r
	switch r.IntN(9) {
	case 0:
		mode := pick(r, []m.Mode{m.ModeOff, m.ModeOff, m.ModeDraining, m.ModeDraining, m.ModeOn, m.ModeOn})
		if mode != m.ModeOn && len(g.tuples) > 0 { // what was steady just now goes on
			g.burst = 4
			for range g.burst {
				g.want = append(g.want, g.steady())
			}
			g.want = append(g.want, g.client(), g.client()) // in the middle of a flow, it may be
		}
		return setControl(fmt.Sprintf("mode %d", mode), func(c *m.Control) { c.Mode = mode })
	case 1:
		era := 1 + r.Uint32N(3) // never 0
		return setControl(fmt.Sprintf("era %d", era), func(c *m.Control) { c.Era = era })
	case 2:
		hz := pick(r, []uint32{1, 4, 100, 250})
		return setControl(fmt.Sprintf("hz %d", hz), func(c *m.Control) { c.Hz = hz })
	case 3, 4:
		limit := pick(r, []uint32{0, 1, 2, 10, 1000})
		return setControl(fmt.Sprintf("reply limit %d", limit), func(c *m.Control) { c.ReplyLimit = limit })
	case 5:
		after := pick(r, []uint64{0, 0, 1, 1e9})
		return setControl(fmt.Sprintf("loss after %d", after), func(c *m.Control) { c.LossAfter = after })
	case 6:
		beat := g.w.Clock + 1 - uint64(r.IntN(3))
		return setControl(fmt.Sprintf("heartbeat %d", beat), func(c *m.Control) { c.Heartbeat = beat })
	}
	if oneIn(r, 3) {
		first, n := newSnatPorts(r)
		if g.w.mixed && oneIn(r, 2) {
			return setControl(fmt.Sprintf("mixed ports %d, %d", first, n), func(c *m.Control) { c.MixedPort, c.MixedPorts = first, n })
		}
		return setControl(fmt.Sprintf("snat ports %d, %d", first, n), func(c *m.Control) { c.SnatPort, c.SnatPorts = first, n })
	}
	which, idle := r.IntN(m.IdleMax), newIdle(r)
	return setControl(fmt.Sprintf("idle %d: %d", which, idle), func(c *m.Control) { c.Idle[which] = idle })
}

func (g *generator) backend() change {
	r := g.r
	row := r.Uint32N(numBackends)
	b := g.w.Backends[row]
	switch r.IntN(9) {
	case 0:
		b.Gen++
	case 1:
		gen := b.Gen // generations never go back
		b = g.w.newBackend(r)
		b.Gen = gen + r.Uint32N(2)
	case 2:
		b.State = m.BackendNone
	case 3:
		b.Port = pick(r, vipPorts)
	case 4, 5:
		b.State = m.BackendDown
	case 6:
		b.Sources = g.w.sourcesOf(r, b.Addr)
	default:
		b.State = m.BackendUp
	}
	text := fmt.Sprintf("backend %d: %+v", row, b)
	return change{part: partBackend, row: row, text: text, apply: func(w *world) { w.Backends[row] = b }}
}

func (g *generator) service() change {
	r := g.r
	row := r.Uint32N(numServices)
	was := g.w.Services[row]
	s := was
	switch r.IntN(10) {
	case 0:
		s.Gen++
	case 1:
		s = g.w.newService(r)
		s.Gen = was.Gen + r.Uint32N(2)
		s.Slots, s.SlotsAll, s.Zones, s.Zone = was.Slots, was.SlotsAll, was.Zones, was.Zone
	case 2:
		s.Flags ^= m.FlagKeep
	case 4, 5:
		s.Flags ^= pick(r, []uint8{m.FlagListed, m.FlagLimited, m.FlagFullNAT, m.FlagCookies})
	case 6:
		g.w.setLimit(r, &s)
		s.CookieAbove = newCookieAbove(r)
	case 7:
		g.w.setBalance(r, &s)
	case 3:
		s.State = pick(r, []uint8{m.ServiceXDP, m.ServiceXDP, m.ServiceProxy, m.ServiceNone})
	default:
		g.w.newRuns(r, int(row))
		s = g.w.Services[row]
		g.w.Services[row] = was
	}
	text := fmt.Sprintf("service %d: %+v", row, s)
	return change{part: partService, row: row, text: text, apply: func(w *world) { w.Services[row] = s }}
}

func (g *generator) slot() change {
	at := g.r.Uint32N(numSlots)
	row := g.w.candidate(g.r, at*numServices/numSlots)
	text := fmt.Sprintf("slot %d: %d", at, row)
	return change{part: partSlot, row: at, text: text, apply: func(w *world) { w.Slots[at] = row }}
}

func (g *generator) route() change {
	addr := pick(g.r, pick(g.r, [][]m.Addr{g.w.clients, g.w.servers, g.w.servers, g.w.spoofed}))
	if oneIn(g.r, 10) {
		return change{part: partRoute, addr: addr, text: fmt.Sprintf("no route to %v", addr), apply: func(w *world) { delete(w.fib, addr) }}
	}
	way := newRoute(g.r)
	text := fmt.Sprintf("route to %v: %+v", addr, way)
	return change{part: partRoute, addr: addr, text: text, apply: func(w *world) { w.fib[addr] = way }}
}

func (g *generator) device() change {
	ifindex := pick(g.r, interfaces)
	if oneIn(g.r, 3) {
		return change{part: partDevice, row: ifindex, text: fmt.Sprintf("no device %d", ifindex), apply: func(w *world) { delete(w.Devices, ifindex) }}
	}
	flags := g.r.Uint32N(4)
	text := fmt.Sprintf("device %d: flags %d", ifindex, flags)
	return change{part: partDevice, row: ifindex, text: text, apply: func(w *world) { w.Devices[ifindex] = flags }}
}

func (g *generator) listener() change {
	if oneIn(g.r, 3) {
		l := pick(g.r, g.w.offered)
		return change{part: partListener, listener: l, text: fmt.Sprintf("no listener %v", l), apply: func(w *world) { delete(w.Listeners, l) }}
	}
	l, row := pick(g.r, g.w.offered), g.w.owner(g.r)
	text := fmt.Sprintf("listener %v: %d", l, row)
	return change{part: partListener, listener: l, text: text, apply: func(w *world) { w.Listeners[l] = row }}
}

func (g *generator) vip() change {
	addr, uses := pick(g.r, slices.Concat(g.w.vips, g.w.servers, g.w.narrow)), newUses(g.r)
	text := fmt.Sprintf("vip %v: %d", addr, uses)
	return change{part: partVIP, addr: addr, text: text, apply: func(w *world) { w.VIPs[addr] = uses }}
}

func (g *generator) standby() change {
	t := g.tuple()
	is := !oneIn(g.r, 3)
	text := fmt.Sprintf("standby %v: %v", t, is)
	return change{part: partStandby, tuple: t, text: text, apply: func(w *world) { w.Standby[t] = is }}
}

// connection is one of the host's own.
func (g *generator) connection() change {
	t := g.tuple()
	is := !oneIn(g.r, 3)
	over := is && oneIn(g.r, 3)
	text := fmt.Sprintf("connection %v: %v, over %v", t, is, over)
	return change{part: partConnection, tuple: t, text: text, apply: func(w *world) { w.Connections[t], w.Over[t] = is && !over, over }}
}
