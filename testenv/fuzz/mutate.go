package fuzz

import m "fairlead/testenv/refmodel"

// mutate spoils a frame in one way. Checksums are not mended: a wrong one has
// to stay wrong.
func (g *generator) mutate(frame []byte) []byte {
	r, w := g.r, g.w
	if len(frame) < w.l4At()+8 {
		return frame
	}
	ip := frame[ethLen:]
	l4 := frame[g.transport(frame):]
	switch r.IntN(20) {
	case 0: // a bit of the headers
		frame[r.IntN(min(len(frame), w.l4At()+26))] ^= 1 << r.IntN(8)
	case 1: // a byte of the headers behind the addresses of Ethernet
		frame[12+r.IntN(min(len(frame)-12, w.l4At()+14))] = byte(r.Uint32())
	case 2, 3: // cut
		frame = frame[:ethLen+r.IntN(len(frame)-ethLen+1)]
	case 4, 5: // padding
		frame = append(frame, make([]byte, r.IntN(30))...)
		frame[len(frame)-1] = 0xaa
	case 6: // one tag to three
		for range 1 + r.IntN(3) {
			frame = tag(frame, pick(r, []uint16{0x8100, 0x88a8}))
		}
	case 7: // version and header length
		ip[0] = ip[0]&0xf0 | byte(r.IntN(16))
		if oneIn(r, 4) {
			ip[0] = byte(r.Uint32())
		}
	case 8: // fragments, or what stands after the addresses is an extension
		if !w.is6() {
			be.PutUint16(ip[6:], pick(r, []uint16{0x2000, 0x2001, 1, 0x1fff, 0x6000, 0xe000}))
		} else {
			ip[w.proto] = pick(r, []byte{m.HopByHop, m.Routing, m.Fragment, m.Destination})
		}
	case 9:
		ip[w.proto] = pick(r, []byte{w.icmp, w.icmp, w.icmp, w.other().icmp, 47, 0, m.TCP, m.UDP, m.NoHeader, 51})
	case 10: // length around what the headers need
		headers := len(frame) - len(l4) - ethLen
		w.setTotal(ip, headers+pick(r, []int{-20, -8, -1, 0, 7, 8, 9, 19, 20, 21}))
	case 11: // length around the true one
		be.PutUint16(ip[w.length:], be.Uint16(ip[w.length:])-1+uint16(r.IntN(3)))
	case 12: // data offset, or the length of UDP
		l4[5] = byte(r.IntN(40))
		if len(l4) > 12 {
			l4[12] = byte(r.IntN(16) << 4)
		}
	case 13: // length of UDP
		be.PutUint16(l4[4:], pick(r, []uint16{0, 7, 8, 9, uint16(len(l4) - 1), uint16(len(l4) + 1), 65535}))
	case 14:
		ip[w.ttl] = byte(r.IntN(3))
	case 15: // source
		copy(ip[w.src:], w.bytes(pick(r, w.spoofed)))
	case 16:
		frame[0] |= byte(r.IntN(2)) // the group bit
	default:
		g.checksum(frame)
	}
	return frame
}

// transport is where TCP or UDP begins, or would without extension headers.
func (g *generator) transport(frame []byte) int {
	if _, l4, ok := g.w.read(frame); ok {
		return l4
	}
	return g.w.l4At()
}

func tag(frame []byte, kind uint16) []byte {
	out := append([]byte{}, frame[:12]...)
	out = be.AppendUint16(out, kind)
	out = be.AppendUint16(out, 7)
	return append(out, frame[12:]...)
}

// checksum sets one to an edge of its arithmetic.
func (g *generator) checksum(frame []byte) {
	edges := []uint16{0, 0xffff, 1, 0xfffe}
	t, l4, ok := g.w.read(frame)
	if !ok {
		return
	}
	if f := g.w.Find(t); f != nil {
		l4, ip := m.Delta(t, f.Leave)
		edges = append(edges, l4, l4, ^l4, ip, ^ip)
	}
	at := ethLen + 10 // of the IPv4 header
	switch {
	case t.Proto == m.UDP && !oneIn(g.r, 4):
		at = l4 + 6
	case t.Proto == m.TCP && !oneIn(g.r, 4) && len(frame) >= l4+18:
		at = l4 + 16
	}
	be.PutUint16(frame[at:], pick(g.r, edges))
}
