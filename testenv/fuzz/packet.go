package fuzz

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"

	m "fairlead/testenv/refmodel"
)

var be = binary.BigEndian

const ethLen = 14

// A generator makes packets and changes for a world. It remembers tuples, so
// that flows live on.
type generator struct {
	r *rand.Rand
	// telling is what [generator.listening] draws from.
	telling *rand.Rand
	w       *world
	tuples  []m.Tuple         // of clients' packets, and reversed ones of what was forwarded
	next    int               // to be replaced
	cut     bool              // frames may have a shorter linear part
	want    []m.Tuple         // of the next packets
	calm    bool              // hosts seldom end a connection, user space seldom changes something
	burst   int               // packets of new clients that are still to come, with the clock standing still
	pieces  [][]byte          // fragments that are still to come
	syns    map[m.Tuple]shake // of clients that were answered with a cookie
	left    [][]byte          // IP packets, or their beginnings, that were forwarded: to be quoted by errors
}

const remembered = 40

func newGenerator(r *rand.Rand, w *world, cut bool) *generator {
	telling := rand.New(rand.NewPCG(uint64(w.random), 0))
	return &generator{r: r, telling: telling, w: w, cut: cut, calm: oneIn(r, 2), syns: map[m.Tuple]shake{}}
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
	if _, later := g.w.readFragment(frame); later {
		if res.Verdict == m.HoldFragment && oneIn(g.r, 2) { // it comes back
			g.pieces = append(g.pieces, slices.Clone(frame))
		}
		return
	}
	t, _, ok := g.w.read(frame)
	if ok && isForward(res.Verdict) {
		g.remember(t)
		if left, _, ok := g.w.read(res.Out); ok { // not to a group's address
			g.remember(left.Reverse())
		}
		g.quotable(res.Out)
		f := g.w.Find(t)
		switch {
		case f == nil:
		case f.State == m.FlowNew && oneIn(g.r, 2):
			g.want = append(g.want, f.TwinKey(), f.Key)
		case isAborted(f) && oneIn(g.r, 2): // does its sender go on?
			g.want = append(g.want, pick(g.r, []m.Tuple{f.Key, f.Key, f.TwinKey()}))
		}
	} else if res.Verdict == m.AnswerCookie {
		g.learnCookie(res.Out)
	} else if ok && t.Src.BitLen() == g.w.none().BitLen() && oneIn(g.r, 8) {
		g.remember(t)
	}
}

func isForward(v m.Verdict) bool { return v == m.ForwardTX || v == m.ForwardRedirect }

func isAborted(f *m.Flow) bool {
	return f.State == m.FlowAbortedForward || f.State == m.FlowAbortedReply
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
	t := m.Tuple{Src: pick(g.r, g.w.clients), Dst: l.Addr, SPort: pick(g.r, ports), DPort: l.Port, Proto: l.Proto}
	if len(g.w.table()) <= 4 && !oneIn(g.r, 3) { // enough to fill the table
		t.SPort = 1000 + uint16(g.r.IntN(50))
	}
	if oneIn(g.r, 12) {
		t.Src = pick(g.r, g.w.spoofed)
	}
	if len(g.tuples) > 0 && oneIn(g.r, 3) { // a client with flows of other services
		known := pick(g.r, g.tuples)
		t.Src, t.SPort = known.Src, known.SPort
	}
	if oneIn(g.r, 30) {
		t.Dst = pick(g.r, g.w.servers)
	}
	if oneIn(g.r, 30) {
		t.SPort = uint16(g.r.Uint32())
	}
	return g.w.align(g.r, t)
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
	t = g.w.align(g.r, t)
	g.w.send(t)
	if g.w.mixed && oneIn(g.r, 20) { // what no honest host sends
		g.w.family = g.w.other()
	}
	if calm && oneIn(g.r, 24) {
		g.cutUp(t)
	}
	switch {
	case calm && len(g.pieces) > 0 && oneIn(g.r, 3):
		frame = g.nextPiece()
	case calm && oneIn(g.r, 8):
		frame = g.icmp(t)
		if oneIn(g.r, 3) {
			frame = g.echo(t)
		}
	default:
		frame = g.build(t)
	}
	if g.w.is6() && oneIn(g.r, 5) {
		frame = g.extend(frame)
	}
	if oneIn(g.r, 40) { // of no service
		frame = g.foreign()
	}
	if oneIn(g.r, 6) {
		frame = g.mutate(frame)
		for oneIn(g.r, 4) {
			frame = g.mutate(frame)
		}
	}
	linear = len(frame)
	if g.cut && oneIn(g.r, 20) {
		linear = ethLen + g.r.IntN(min(linear-ethLen, g.reach(frame))+1)
	}
	return frame, linear
}

// reach is how far into a packet the datapath may have to look.
func (g *generator) reach(frame []byte) int {
	if _, l4, ok := g.w.read(frame); ok {
		return l4 - ethLen + 30
	}
	return 2*g.w.header + 40
}

// foreign is a packet of the other family.
func (g *generator) foreign() []byte {
	f := g.w.other()
	w := *g.w
	w.family = f
	return (&generator{r: g.r, w: &w}).build(m.Tuple{
		Src: pick(g.r, f.clients), Dst: pick(g.r, f.vips), SPort: pick(g.r, ports), DPort: pick(g.r, vipPorts), Proto: protocol(g.r),
	})
}

// build makes a good frame of the tuple.
func (g *generator) build(t m.Tuple) []byte {
	header := 8
	if t.Proto == m.TCP {
		header = 20
	}
	w := g.w
	frame := make([]byte, w.l4At()+header+g.payload(t, w.header+header))
	for i := range frame {
		frame[i] = byte(g.r.Uint32())
	}
	copy(frame, w.ethernet())
	w.write(g.r, frame[ethLen:], t)
	l4 := frame[w.l4At():]
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
	if w.family == &mixed4 && t.Proto == m.UDP && oneIn(g.r, 8) {
		g.unsum(l4)
	}
	return frame
}

// unsum takes a datagram's checksum away, and leaves it a part of its length.
func (g *generator) unsum(udp []byte) {
	be.PutUint16(udp[6:], 0)
	if oneIn(g.r, 4) {
		be.PutUint16(udp[4:], uint16(8+g.r.IntN(len(udp)-7)))
	}
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
			if f.FarMTU != 0 && oneIn(g.r, 3) {
				mtu = 1280 // may it be cut up?
			} else if f.FarMTU != 0 {
				mtu = f.FarMTU + uint16(2*g.w.header) - 60
			}
		}
		if mtu <= 1500 || n < 2 && mtu <= 9000 {
			return max(0, int(mtu)-headers-1+g.r.IntN(3))
		}
	}
	return pick(g.r, []int{0, 0, 0, 1, 2, 5, 6, 11, 26, 100})
}

func l4Sum(t m.Tuple, l4 []byte) uint16 {
	return m.Checksum(m.PseudoHeader(t.Src, t.Dst, t.Proto, len(l4)), l4)
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
	if f == nil {
		g.bringCookie(l4, t)
	}
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
		return []byte{m.SYN, m.SYN, m.SYN, m.SYN, m.SYN, m.ACK, m.ACK, m.FIN | m.ACK}
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
