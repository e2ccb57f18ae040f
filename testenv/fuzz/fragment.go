package fuzz

import (
	"fmt"
	"slices"

	m "fairlead/testenv/refmodel"
)

// pieceIDs are few, so that ids are used again.
const pieceIDs = 6

// longestHeld is the length of a frame around which the agent takes no more.
const longestHeld = 3000

// cutUp makes fragments of a datagram, and lets them follow one another as the
// network may: out of order, twice, among others.
func (g *generator) cutUp(t m.Tuple) {
	r := g.r
	frame := g.build(t)
	if g.w.is6() && oneIn(r, 3) { // what comes then is cut up, too
		frame = g.extend(frame)
	}
	for range 8 + 8*r.IntN(8) {
		frame = append(frame, byte(r.Uint32()))
	}
	if oneIn(r, 12) {
		frame = append(frame, make([]byte, longestHeld-10+r.IntN(20))...)
	}
	id := uint16(r.IntN(pieceIDs))
	l4At := g.w.l4At()
	var pieces [][]byte
	at := l4At
	for at < len(frame) {
		size := 8 * pick(r, []int{1, 2, 3, 3, 4, 8, 400})
		pieces = append(pieces, g.piece(frame, id, at, min(at+size, len(frame))))
		at += size
	}
	if oneIn(r, 4) { // another one that begins like this
		other := t
		other.SPort = pick(r, ports)
		pieces = append(pieces, g.piece(g.build(other), id, l4At, l4At+8))
	}
	if !oneIn(r, 3) {
		r.Shuffle(len(pieces), func(i, j int) { pieces[i], pieces[j] = pieces[j], pieces[i] })
	}
	g.pieces = append(g.pieces, pieces...)
	g.pieces = g.pieces[max(0, len(g.pieces)-remembered):]
}

// piece is the fragment that has these bytes of a frame.
func (g *generator) piece(frame []byte, id uint16, from, to int) []byte {
	l4At := g.w.l4At()
	out := slices.Concat(frame[:l4At], frame[from:to])
	offset, more := uint16(from-l4At), to < len(frame)
	if g.w.is6() {
		out = slices.Insert(out, l4At, g.fragmentHeader(frame[ethLen+ipv6.proto], id, offset, more)...)
		out[ethLen+ipv6.proto] = m.Fragment
	}
	ip := out[ethLen:l4At]
	g.w.setTotal(ip, len(out)-ethLen)
	if oneIn(g.r, 12) {
		ip[g.w.ttl] = byte(g.r.IntN(3))
	}
	if !g.w.is6() {
		g.markFragment(ip, id, offset, more)
	}
	return out
}

// markFragment writes what an IPv4 header says of a fragment.
func (g *generator) markFragment(ip []byte, id, offset uint16, more bool) {
	field := offset / 8
	if more {
		field |= 0x2000
	}
	if oneIn(g.r, 8) {
		field |= 0x4000
	}
	be.PutUint16(ip[4:], id)
	be.PutUint16(ip[6:], field)
	be.PutUint16(ip[10:], 0)
	be.PutUint16(ip[10:], m.Checksum(ip))
}

// fragmentHeader is that of IPv6. Ids differ in either half.
func (g *generator) fragmentHeader(next byte, id, offset uint16, more bool) []byte {
	if more {
		offset |= 1
	}
	if offset > 1 && oneIn(g.r, 4) { // which nobody asks
		next = pick(g.r, []byte{m.TCP, m.UDP, m.Routing, m.Destination, m.ICMPv6, m.NoHeader})
	}
	header := be.AppendUint16([]byte{next, byte(g.r.Uint32())}, offset|uint16(g.r.IntN(4))<<1)
	return be.AppendUint32(header, uint32(id&1)|uint32(id>>1)<<16)
}

// nextPiece is one of the oldest.
func (g *generator) nextPiece() []byte {
	at := g.r.IntN(min(3, len(g.pieces)))
	if oneIn(g.r, 2) {
		at = 0
	}
	frame := g.pieces[at]
	g.pieces = slices.Delete(g.pieces, at, at+1)
	g.w.sendLike(frame)
	return frame
}

// fragment changes what fragments meet: an agent, what is remembered of their
// first, or when that was.
func (g *generator) fragment() []change {
	if oneIn(g.r, 4) {
		there := !oneIn(g.r, 4)
		return []change{{part: partAgent, text: fmt.Sprintf("agent: %v", there), apply: func(w *world) { w.Agent = there }}}
	}
	if len(g.pieces) == 0 {
		return []change{g.tick()}
	}
	at := g.r.IntN(len(g.pieces))
	for range 8 { // one whose first has come is worth more
		key, later := g.w.readFragment(g.pieces[at])
		if _, known := g.w.Fragments[key]; known && later {
			break
		}
		at = g.r.IntN(len(g.pieces))
	}
	g.pieces[0], g.pieces[at] = g.pieces[at], g.pieces[0] // the next one, likely
	frame := g.pieces[0]
	key, _ := g.w.readFragment(frame)
	fate, known := g.w.Fragments[key]
	switch {
	case known && isForward(fate.Verdict):
		return g.endFlow(frame, fate)
	case known && oneIn(g.r, 2):
		return []change{setNow(fate.Tick + 5*g.w.Control.Hz + g.r.Uint32N(2))}
	case known && oneIn(g.r, 2):
		return []change{{part: partFate, fragment: key, text: fmt.Sprintf("fate of %+v evicted", key), apply: func(w *world) { delete(w.Fragments, key) }}}
	}
	t := g.tuple()
	rival := m.Fate{SPort: t.SPort, DPort: t.DPort, Proto: t.Proto, Tick: g.w.Now - g.r.Uint32N(3), Verdict: pick(g.r, []m.Verdict{m.ForwardTX, m.ForwardRedirect, m.HoldFragment, m.PassProxy, m.DropFragment})}
	return []change{{
		part: partFirstRival, fragment: key, text: fmt.Sprintf("rival of %+v: %+v", key, rival),
		apply: func(w *world) { w.FragmentRivals[key] = rival },
	}}
}

// endFlow takes down the backend to or from which a fragment is to go. Packets
// of the flow may notice that before the fragment comes.
func (g *generator) endFlow(frame []byte, fate m.Fate) []change {
	key, _ := g.w.readFragment(frame)
	f := g.w.Find(m.Tuple{Src: key.Src, Dst: key.Dst, SPort: fate.SPort, DPort: fate.DPort, Proto: fate.Proto})
	if f == nil || f.Backend >= numBackends {
		return []change{g.tick()}
	}
	row, b := f.Backend, g.w.Backends[f.Backend]
	b.State = m.BackendDown
	down := change{part: partBackend, row: row, text: fmt.Sprintf("backend %d: %+v", row, b), apply: func(w *world) { w.Backends[row] = b }}
	if fate.Proto == m.UDP || oneIn(g.r, 4) {
		return []change{down}
	}
	g.want = append(g.want, f.TwinKey())
	g.w.sendLike(frame)
	frame[ethLen+g.w.ttl] = 1
	return []change{down, g.epoch()}
}

// noFirstRivals ends what another CPU does.
var noFirstRivals = change{part: partFirstRival, text: "no rival of fragments", apply: func(w *world) { clear(w.FragmentRivals) }}
