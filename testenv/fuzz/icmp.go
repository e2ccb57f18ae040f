package fuzz

import (
	"slices"

	m "fairlead/testenv/refmodel"
)

const (
	icmpLen   = 8
	quoteAt   = l4At + icmpLen
	quoteL4At = quoteAt + 20
	// longestQuote is as much of a packet as is kept to be quoted.
	longestQuote = 100
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
	r := g.r
	packet := g.build(t.Reverse())[ethLen:]
	if len(g.left) > 0 && !oneIn(r, 4) {
		packet = pick(r, g.left)
	}
	quote := slices.Clone(packet[:min(len(packet), 20+pick(r, []int{8, 8, 8, 17, 18, 19, 20, 28, 80}))])
	if oneIn(r, 4) {
		quote = g.mutateQuote(quote)
	}
	to := m.AddrFrom(quote[12:16])
	from := m.AddrFrom(quote[16:20])
	if oneIn(r, 2) { // a router on its way
		from = pick(r, pick(r, [][]m.Addr{clients, servers, spoofed}))
	}
	if oneIn(r, 20) {
		to = pick(r, pick(r, [][]m.Addr{clients, servers, vips}))
	}
	if oneIn(r, 20) {
		quote = quote[:r.IntN(min(len(quote), 28))]
	}
	frame := make([]byte, quoteAt, quoteAt+len(quote))
	copy(frame, []byte{2, 0, 0, 9, 0, 1, 2, 0, 0, 9, 0, 3, 8, 0})
	frame = append(frame, quote...)
	g.ip(frame[ethLen:], m.Tuple{Src: from, Dst: to, Proto: m.ICMP})
	if oneIn(r, 12) {
		frame[22] = byte(r.IntN(3)) // TTL
	}
	icmp := frame[l4At:]
	icmp[0] = pick(r, []byte{3, 3, 3, 3, 3, 3, 11, 11, 12, 0, 5, 8})
	icmp[1] = byte(r.IntN(6))
	be.PutUint32(icmp[4:], r.Uint32())
	be.PutUint16(icmp[2:], m.Checksum(icmp))
	if oneIn(r, 10) {
		be.PutUint16(icmp[2:], pick(r, []uint16{0, 0xffff, 1, 0xfffe}))
	}
	if oneIn(r, 8) { // what is quoted may be padding
		be.PutUint16(frame[16:], uint16(20+r.IntN(len(icmp)+1)))
	}
	return frame
}

// mutateQuote spoils what an error quotes: at least an IP header and 8 bytes.
func (g *generator) mutateQuote(quote []byte) []byte {
	r := g.r
	edges := []uint16{0, 0, 0xffff, 1, 0xfffe}
	switch r.IntN(10) {
	case 0: // version and header length
		quote[0] = pick(r, []byte{0x44, 0x46, 0x4f, 0x55, 0x65, 0x05})
	case 1:
		be.PutUint16(quote[6:], pick(r, []uint16{0x2000, 0x2000, 1, 0x1fff, 0x4000, 0xe000}))
	case 2:
		quote[9] = pick(r, []byte{m.ICMP, 47, 0, m.TCP, m.UDP})
	case 3: // a bit
		quote[r.IntN(28)] ^= 1 << r.IntN(8)
	case 4: // sum of the header
		be.PutUint16(quote[10:], pick(r, edges))
	case 5, 6: // sum of TCP or UDP
		t := m.Tuple{Src: m.AddrFrom(quote[12:16]), Dst: m.AddrFrom(quote[16:20]), SPort: be.Uint16(quote[20:]), DPort: be.Uint16(quote[22:]), Proto: quote[9]}
		if f := g.w.Find(t.Reverse()); f != nil {
			l4, _ := m.Delta(t, f.TwinKey())
			edges = append(edges, l4, l4, l4, ^l4)
		}
		at := 26
		if quote[9] == m.TCP && len(quote) >= 38 {
			at = 36
		}
		be.PutUint16(quote[at:], pick(r, edges))
	case 7: // padding, as extensions are (RFC 4884)
		quote = append(quote, make([]byte, r.IntN(30))...)
	case 8: // another port
		be.PutUint16(quote[20+2*r.IntN(2):], pick(r, ports))
	default: // the lengths that it claims
		be.PutUint16(quote[2:], uint16(r.IntN(60)))
	}
	return quote
}
