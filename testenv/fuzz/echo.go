package fuzz

import m "fairlead/testenv/refmodel"

// echo makes a ping, mostly from the sender of t, and mostly of a service address.
func (g *generator) echo(t m.Tuple) []byte {
	r := g.r
	from, to := t.Src, pick(r, vips)
	switch r.IntN(10) {
	case 0:
		from = pick(r, spoofed)
	case 1:
		from = to
	case 2:
		to = t.Dst
	}
	frame := make([]byte, quoteAt+g.payload(t, quoteAt-ethLen))
	for i := range frame {
		frame[i] = byte(r.Uint32())
	}
	copy(frame, []byte{2, 0, 0, 9, 0, 1, 2, 0, 0, 9, 0, 4, 8, 0})
	g.ip(frame[ethLen:], m.Tuple{Src: from, Dst: to, Proto: m.ICMP})
	if oneIn(r, 8) {
		frame[22] = byte(r.IntN(3)) // TTL
	}
	icmp := frame[l4At:]
	icmp[0], icmp[1] = 8, 0
	if oneIn(r, 8) {
		icmp[0], icmp[1] = pick(r, []byte{0, 8, 13}), byte(r.IntN(2))
	}
	be.PutUint16(icmp[2:], 0)
	be.PutUint16(icmp[2:], m.Checksum(icmp))
	if oneIn(r, 6) { // what becomes 0 or 0xffff, too
		be.PutUint16(icmp[2:], pick(r, []uint16{0, 0xffff, 1, 0xfffe, 0xf7ff, 0xf7fe, 0x0800}))
	}
	if oneIn(r, 8) { // hardly a header
		be.PutUint16(frame[16:], uint16(26+r.IntN(4)))
	}
	return frame
}
