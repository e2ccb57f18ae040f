package fuzz

import (
	"slices"

	m "fairlead/testenv/refmodel"
)

const (
	icmpLen = 8
	// longestQuote is as much of a packet as is kept to be quoted.
	longestQuote = 120
)

// quotable keeps a frame that was forwarded.
func (g *generator) quotable(frame []byte) {
	frame = frame[ethLen:min(len(frame), ethLen+longestQuote)]
	if len(g.left) < remembered {
		g.left = append(g.left, slices.Clone(frame))
		return
	}
	g.left[g.r.IntN(remembered)] = slices.Clone(frame)
}

// icmp makes an ICMP packet: mostly an error about a packet that has left here,
// else about one that the receiver of t may have sent.
func (g *generator) icmp(t m.Tuple) []byte {
	r, w := g.r, g.w
	packet := g.build(t.Reverse())[ethLen:]
	if len(g.left) > 0 && !oneIn(r, 4) {
		packet = pick(r, g.left)
		w.sendLike(append(w.ethernet(), packet...))
	}
	quote := slices.Clone(packet[:min(len(packet), w.header+pick(r, []int{8, 8, 8, 17, 18, 19, 20, 28, 80}))])
	if w.family == &ipv6 && oneIn(r, 4) {
		quote = g.quoteFragment(quote)
	}
	if oneIn(r, 4) {
		quote = g.mutateQuote(quote)
	}
	to, from := w.addrs(quote)
	if oneIn(r, 2) { // a router on its way
		from = pick(r, pick(r, [][]m.Addr{w.clients, w.servers, w.spoofed}))
	}
	if oneIn(r, 20) {
		to = pick(r, pick(r, [][]m.Addr{w.clients, w.servers, w.vips}))
	}
	if oneIn(r, 20) {
		quote = quote[:r.IntN(min(len(quote), w.header+8))]
	}
	frame := append(w.ethernet(), make([]byte, w.header+icmpLen)...)
	frame = append(frame, quote...)
	about := m.Tuple{Src: from, Dst: to, Proto: w.icmp}
	w.write(r, frame[ethLen:], about)
	if oneIn(r, 12) {
		frame[ethLen+w.ttl] = byte(r.IntN(3))
	}
	icmp := frame[w.l4At():]
	icmp[0] = pick(r, w.errors)
	icmp[1] = byte(r.IntN(6))
	if w.mixed { // what it is becomes another number
		icmp[1] = byte(r.IntN(17))
	}
	be.PutUint32(icmp[4:], pick(r, []uint32{r.Uint32(), 0, 1280, 1300, 1500, 65535}))
	if w.mixed && oneIn(r, 3) { // where a parameter has a problem
		icmp[1] = byte(r.IntN(3))
		be.PutUint32(icmp[4:], r.Uint32N(44)<<pick(r, []int{0, 24, 24}))
	}
	w.sumICMP(icmp, about)
	if oneIn(r, 10) {
		be.PutUint16(icmp[2:], pick(r, []uint16{0, 0xffff, 1, 0xfffe}))
	}
	if oneIn(r, 8) { // what is quoted may be padding
		w.setTotal(frame[ethLen:], w.header+r.IntN(len(icmp)+1))
	}
	return frame
}

// quoteFragment makes what an error quotes a fragment, mostly a first one.
func (g *generator) quoteFragment(quote []byte) []byte {
	part := pick(g.r, []uint16{0, 1, 1, 1, 6, 8, 0xfff9})
	header := be.AppendUint16([]byte{quote[g.w.proto], byte(g.r.Uint32())}, part)
	quote[g.w.proto] = m.Fragment
	return slices.Insert(quote, g.w.header, be.AppendUint32(header, g.r.Uint32())...)
}

// mutateQuote spoils what an error quotes: at least an IP header and 8 bytes.
func (g *generator) mutateQuote(quote []byte) []byte {
	r, w := g.r, g.w
	edges := []uint16{0, 0, 0xffff, 1, 0xfffe}
	l4 := quote[w.header:]
	switch r.IntN(10) {
	case 0: // version and header length
		quote[0] = pick(r, []byte{0x44, 0x46, 0x4f, 0x55, 0x65, 0x05, 0x61, 0x45, 0x70})
	case 1:
		be.PutUint16(quote[6:], pick(r, []uint16{0x2000, 0x2000, 1, 0x1fff, 0x4000, 0xe000}))
	case 2:
		quote[w.proto] = pick(r, []byte{w.icmp, 47, 0, m.TCP, m.UDP, m.Fragment, m.Destination})
	case 3: // a bit
		quote[r.IntN(w.header+8)] ^= 1 << r.IntN(8)
	case 4: // sum of the header
		be.PutUint16(quote[10:], pick(r, edges))
	case 5, 6: // sum of TCP or UDP
		t := w.tuple(quote)
		if f := w.Find(t.Reverse()); f != nil {
			l4, _ := m.Delta(t, f.TwinKey())
			edges = append(edges, l4, l4, l4, ^l4)
		}
		at := 6
		if t.Proto == m.TCP && len(l4) >= 18 {
			at = 16
		}
		be.PutUint16(l4[at:], pick(r, edges))
	case 7: // padding, as extensions are (RFC 4884)
		quote = append(quote, make([]byte, r.IntN(30))...)
	case 8: // another port
		be.PutUint16(l4[2*r.IntN(2):], pick(r, ports))
	default: // the lengths that it claims
		be.PutUint16(quote[w.length:], uint16(r.IntN(60)))
	}
	return quote
}
