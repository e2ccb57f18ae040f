package fuzz

import m "fairlead/testenv/refmodel"

// echo makes a ping, mostly from the sender of t, and mostly of a service address.
func (g *generator) echo(t m.Tuple) []byte {
	r, w := g.r, g.w
	from, to := t.Src, pick(r, w.vips)
	switch r.IntN(10) {
	case 0:
		from = pick(r, w.spoofed)
	case 1:
		from = to
	case 2:
		to = t.Dst
	}
	frame := append(w.ethernet(), make([]byte, w.header+icmpLen+g.payload(t, w.header+icmpLen))...)
	for i := ethLen; i < len(frame); i++ {
		frame[i] = byte(r.Uint32())
	}
	about := m.Tuple{Src: from, Dst: to, Proto: w.icmp}
	w.write(r, frame[ethLen:], about)
	if oneIn(r, 8) {
		frame[ethLen+w.ttl] = byte(r.IntN(3))
	}
	icmp := frame[w.l4At():]
	icmp[0], icmp[1] = w.echoes[0], 0
	if oneIn(r, 8) {
		icmp[0], icmp[1] = pick(r, w.echoes), byte(r.IntN(2))
	}
	w.sumICMP(icmp, about)
	if oneIn(r, 6) { // what becomes 0 or 0xffff, too
		be.PutUint16(icmp[2:], pick(r, []uint16{0, 0xffff, 1, 0xfffe, 0xf7ff, 0xf7fe, 0x0800, 0xfeff, 0xfefe, 0x0100}))
	}
	if oneIn(r, 8) { // hardly a header
		w.setTotal(frame[ethLen:], w.header+6+r.IntN(4))
	}
	return frame
}
