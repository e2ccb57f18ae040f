package fuzz

import m "fairlead/testenv/refmodel"

// mutate spoils a frame in one way. Checksums are not mended: a wrong one has
// to stay wrong.
func (g *generator) mutate(frame []byte) []byte {
	if len(frame) < l4At+8 {
		return frame
	}
	r := g.r
	total := int(be.Uint16(frame[16:]))
	switch r.IntN(20) {
	case 0: // a bit of the headers
		frame[r.IntN(min(len(frame), 60))] ^= 1 << r.IntN(8)
	case 1: // a byte of the headers behind the addresses of Ethernet
		frame[12+r.IntN(min(len(frame)-12, 48))] = byte(r.Uint32())
	case 2, 3: // cut
		frame = frame[:ethLen+r.IntN(len(frame)-ethLen+1)]
	case 4, 5: // padding
		frame = append(frame, make([]byte, r.IntN(30))...)
		frame[len(frame)-1] = 0xaa
	case 6: // one tag to three
		for range 1 + r.IntN(3) {
			frame = tag(frame, pick(r, []uint16{0x8100, 0x88a8}))
		}
	case 7: // header length
		frame[14] = 0x40 | byte(r.IntN(16))
	case 8: // fragments
		be.PutUint16(frame[20:], pick(r, []uint16{0x2000, 0x2001, 1, 0x1fff, 0x6000, 0xe000}))
	case 9:
		frame[23] = pick(r, []byte{m.ICMP, m.ICMP, m.ICMP, 47, 0, m.TCP, m.UDP})
	case 10: // total length around what the headers need
		be.PutUint16(frame[16:], uint16(20+pick(r, []int{-20, -1, 0, 7, 8, 9, 19, 20, 21})))
	case 11: // total length around the true one
		be.PutUint16(frame[16:], uint16(total-1+r.IntN(3)))
	case 12: // data offset, or the length of UDP
		frame[l4At+5] = byte(r.IntN(40))
		if frame[23] == m.TCP && len(frame) > l4At+12 {
			frame[l4At+12] = byte(r.IntN(16) << 4)
		}
	case 13: // length of UDP
		be.PutUint16(frame[l4At+4:], pick(r, []uint16{0, 7, 8, 9, uint16(total - 21), uint16(total - 19), 65535}))
	case 14:
		frame[22] = byte(r.IntN(3)) // TTL
	case 15: // source
		src := pick(r, spoofed)
		copy(frame[26:], src.AsSlice())
	case 16:
		frame[0] |= byte(r.IntN(2)) // the group bit
	default:
		g.checksum(frame)
	}
	return frame
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
	t := tupleOf(frame)
	if f := g.w.Find(t); f != nil {
		l4, ip := m.Delta(t, f.Leave)
		edges = append(edges, l4, l4, ^l4, ip, ^ip)
	}
	at := 24
	switch {
	case t.Proto == m.UDP && !oneIn(g.r, 4):
		at = l4At + 6
	case t.Proto == m.TCP && !oneIn(g.r, 4) && len(frame) >= l4At+18:
		at = l4At + 16
	}
	be.PutUint16(frame[at:], pick(g.r, edges))
}
