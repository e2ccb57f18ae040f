package fuzz

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"

	m "fairlead/testenv/refmodel"
)

var be = binary.BigEndian

const (
	ethLen   = 14
	protoAt  = ethLen + 9
	l4At     = ethLen + 20
	tcpFlags = l4At + 13
)

// A generator makes packets and changes for a world. It remembers tuples, so
// that flows live on.
type generator struct {
	r      *rand.Rand
	w      *world
	tuples []m.Tuple // of clients' packets, and reversed ones of what was forwarded
	next   int       // to be replaced
	cut    bool      // frames may have a shorter linear part
	want   []m.Tuple // of the next packets
	calm   bool      // hosts seldom end a connection, user space seldom changes something
	burst  int       // packets of new clients that are still to come, with the clock standing still
	pieces [][]byte  // fragments that are still to come
	left   [][]byte  // IP packets, or their beginnings, that were forwarded: to be quoted by errors
}

const remembered = 40

func newGenerator(r *rand.Rand, w *world, cut bool) *generator {
	return &generator{r: r, w: w, cut: cut, calm: oneIn(r, 2)}
}

// remember replaces the oldest tuple.
func (g *generator) remember(t m.Tuple) {
	if len(g.tuples) < remembered {
		g.tuples = append(g.tuples, t)
		return
	}
	g.tuples[g.next] = t
	g.next = (g.next + 1) % remembered
}

// learn remembers a packet that was forwarded, and how its receiver would
// answer; a few others, too. Many flows are made complete at once.
func (g *generator) learn(frame []byte, res m.Result) {
	if isLater(frame) {
		if res.Verdict == m.HoldFragment && oneIn(g.r, 2) { // it comes back
			g.pieces = append(g.pieces, slices.Clone(frame))
		}
		return
	}
	if isForward(res.Verdict) && frame[protoAt] != m.ICMP {
		g.remember(tupleOf(frame))
		g.remember(tupleOf(res.Out).Reverse())
		g.quotable(res.Out)
		f := g.w.Find(tupleOf(frame))
		switch {
		case f == nil:
		case f.State == m.FlowNew && oneIn(g.r, 2):
			g.want = append(g.want, f.TwinKey(), f.Key)
		case isAborted(f) && oneIn(g.r, 2): // does its sender go on?
			g.want = append(g.want, pick(g.r, []m.Tuple{f.Key, f.Key, f.TwinKey()}))
		}
	} else if len(frame) >= l4At+8 && oneIn(g.r, 8) {
		g.remember(tupleOf(frame))
	}
}

func isForward(v m.Verdict) bool { return v == m.ForwardTX || v == m.ForwardRedirect }

func isAborted(f *m.Flow) bool {
	return f.State == m.FlowAbortedForward || f.State == m.FlowAbortedReply
}

func tupleOf(frame []byte) m.Tuple {
	return m.Tuple{
		Src: m.Addr(frame[26:30]), Dst: m.Addr(frame[30:34]),
		SPort: be.Uint16(frame[34:]), DPort: be.Uint16(frame[36:]), Proto: frame[23],
	}
}

// tuple is one that was seen, or a client's new one.
func (g *generator) tuple() m.Tuple {
	if len(g.tuples) > 0 && !oneIn(g.r, 3) {
		return pick(g.r, g.tuples)
	}
	return g.client()
}

// client is a tuple of a client to a service.
func (g *generator) client() m.Tuple {
	l := pick(g.r, g.w.offered)
	t := m.Tuple{Src: pick(g.r, clients), Dst: l.Addr, SPort: pick(g.r, ports), DPort: l.Port, Proto: l.Proto}
	if len(g.w.Flows) <= 4 && !oneIn(g.r, 3) { // enough to fill the table
		t.SPort = 1000 + uint16(g.r.IntN(50))
	}
	if oneIn(g.r, 12) {
		t.Src = pick(g.r, spoofed)
	}
	if len(g.tuples) > 0 && oneIn(g.r, 3) { // a client with flows of other services
		known := pick(g.r, g.tuples)
		t.Src, t.SPort = known.Src, known.SPort
	}
	if oneIn(g.r, 30) {
		t.Dst = pick(g.r, servers)
	}
	if oneIn(g.r, 30) {
		t.SPort = uint16(g.r.Uint32())
	}
	return t
}

// packet is a frame and the length of its linear part.
func (g *generator) packet() (frame []byte, linear int) {
	var t m.Tuple
	calm := len(g.want) == 0 && g.burst == 0
	switch {
	case len(g.want) > 0:
		t, g.want = g.want[0], g.want[1:]
	case g.burst > 0:
		t = g.client()
		g.burst--
	case oneIn(g.r, 4) || len(g.tuples) == 0:
		t = g.client()
	default:
		t = pick(g.r, g.tuples)
		if g.w.Find(t) == nil { // one with a flow is worth more
			t = pick(g.r, g.tuples)
		}
	}
	if calm && oneIn(g.r, 24) {
		g.cutUp(t)
	}
	switch {
	case calm && len(g.pieces) > 0 && oneIn(g.r, 3):
		frame = g.nextPiece()
	case calm && oneIn(g.r, 8):
		frame = g.icmp(t)
	default:
		frame = g.build(t)
	}
	if oneIn(g.r, 6) {
		frame = g.mutate(frame)
		for oneIn(g.r, 4) {
			frame = g.mutate(frame)
		}
	}
	linear = len(frame)
	if g.cut && oneIn(g.r, 20) {
		linear = ethLen + g.r.IntN(min(linear-ethLen, 70)+1)
	}
	return frame, linear
}

// build makes a good frame of the tuple.
func (g *generator) build(t m.Tuple) []byte {
	header := 8
	if t.Proto == m.TCP {
		header = 20
	}
	frame := make([]byte, l4At+header+g.payload(t, 20+header))
	for i := range frame {
		frame[i] = byte(g.r.Uint32())
	}
	copy(frame, []byte{2, 0, 0, 9, 0, 1, 2, 0, 0, 9, 0, 2, 8, 0})
	g.ip(frame[ethLen:], t)
	l4 := frame[l4At:]
	be.PutUint16(l4[0:], t.SPort)
	be.PutUint16(l4[2:], t.DPort)
	sumAt := 6
	if t.Proto == m.TCP {
		g.tcp(l4, t)
		sumAt = 16
	} else {
		be.PutUint16(l4[4:], uint16(len(l4)))
	}
	be.PutUint16(l4[sumAt:], 0)
	be.PutUint16(l4[sumAt:], l4Sum(t, l4))
	return frame
}

// payload is how many bytes follow the headers, which are so long.
func (g *generator) payload(t m.Tuple, headers int) int {
	switch n := g.r.IntN(300); {
	case n == 0:
		return 3400 + g.r.IntN(5500)
	case n < 30: // as long as its way out allows, or nearly
		mtu := pick(g.r, mtus)
		if f := g.w.Find(t); f != nil {
			mtu = f.Hop.MTU
		}
		if mtu <= 1500 || n < 2 && mtu <= 9000 {
			return max(0, int(mtu)-headers-1+g.r.IntN(3))
		}
	}
	return pick(g.r, []int{0, 0, 0, 1, 2, 5, 6, 11, 26, 100})
}

func l4Sum(t m.Tuple, l4 []byte) uint16 {
	pseudo := append(append([]byte{}, t.Src[:]...), t.Dst[:]...)
	pseudo = append(pseudo, 0, t.Proto, byte(len(l4)>>8), byte(len(l4)))
	return m.Checksum(pseudo, l4)
}

func (g *generator) ip(ip []byte, t m.Tuple) {
	ip[0] = 0x45
	be.PutUint16(ip[2:], uint16(len(ip)))
	be.PutUint16(ip[6:], pick(g.r, []uint16{0, 0x4000, 0x4000, 0x8000}))
	ip[8] = pick(g.r, []byte{64, 64, 255, 2})
	ip[9] = t.Proto
	copy(ip[12:], t.Src[:])
	copy(ip[16:], t.Dst[:])
	be.PutUint16(ip[10:], 0)
	be.PutUint16(ip[10:], m.Checksum(ip[:20]))
}

func (g *generator) tcp(l4 []byte, t m.Tuple) {
	l4[12] = 5 << 4
	if len(l4) >= 24 && oneIn(g.r, 4) {
		l4[12] = 6 << 4
	}
	f := g.w.Find(t)
	be.PutUint32(l4[4:], g.r.Uint32())
	be.PutUint32(l4[8:], g.r.Uint32())
	if f != nil && !oneIn(g.r, 4) {
		be.PutUint32(l4[8:], f.Answer+pick(g.r, []uint32{0, 0, 0, 1, 65535, 65536, 1<<32 - 1}))
	}
	l4[13] = pick(g.r, g.kinds(f))
	if oneIn(g.r, 16) {
		l4[13] = byte(g.r.Uint32())
	}
}

// kinds are flags of packets that may come next, in the direction of an entry,
// or of a client that has none.
func (g *generator) kinds(f *m.Flow) []byte {
	var kinds []byte
	switch {
	case f == nil:
		return []byte{m.SYN, m.SYN, m.SYN, m.SYN, m.SYN, m.ACK, m.FIN | m.ACK}
	case isAborted(f):
		return []byte{m.ACK, m.ACK, m.ACK, m.FIN | m.ACK, m.SYN, m.SYN | m.ACK, m.RST, m.RST | m.ACK}
	case f.Dir == m.Reply && f.State == m.FlowNew:
		kinds = []byte{m.SYN | m.ACK, m.SYN | m.ACK, m.SYN | m.ACK, m.ACK}
	case f.Dir == m.Reply:
		kinds = []byte{m.SYN | m.ACK, m.ACK, m.ACK, m.ACK, m.SYN}
	case f.State == m.FlowAnswered:
		kinds = []byte{m.ACK, m.ACK, m.ACK, m.SYN, m.SYN | m.ACK}
	default:
		kinds = []byte{m.SYN, m.SYN, m.ACK, m.ACK, m.ACK, m.ACK}
	}
	if g.calm && !oneIn(g.r, 10) {
		return kinds
	}
	return append(kinds, m.FIN|m.ACK, m.FIN, m.RST|m.ACK&^byte(f.Dir*m.ACK))
}
