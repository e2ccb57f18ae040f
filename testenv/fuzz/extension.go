package fuzz

import (
	"slices"

	m "fairlead/testenv/refmodel"
)

// extend puts extension headers into a plain IPv6 frame: mostly ones that are
// stepped over.
func (g *generator) extend(frame []byte) []byte {
	r := g.r
	n := 1 + r.IntN(3)
	if oneIn(r, 6) {
		n = 5 + r.IntN(3)
	}
	kinds := make([]byte, n)
	for i := range kinds {
		kinds[i] = pick(r, []byte{m.Routing, m.Fragment, m.Destination, m.Destination})
	}
	if oneIn(r, 3) || oneIn(r, 30) {
		kinds[0] = m.HopByHop
	}
	if oneIn(r, 20) {
		kinds[r.IntN(n)] = m.HopByHop
	}
	var headers []byte
	for i, kind := range kinds {
		next := frame[ethLen+ipv6.proto]
		if i+1 < n {
			next = kinds[i+1]
		}
		headers = append(headers, g.extension(kind, next)...)
	}
	if oneIn(r, 8) { // around the most that is read
		headers = g.stretch(kinds, headers, 248+8*r.IntN(3))
	}
	frame = slices.Insert(frame, ipv6.l4At(), headers...)
	frame[ethLen+ipv6.proto] = kinds[0]
	ipv6.setTotal(frame[ethLen:], len(frame)-ethLen)
	return frame
}

// extension is one header.
func (g *generator) extension(kind, next byte) []byte {
	r := g.r
	header := make([]byte, 8*pick(r, []int{1, 1, 1, 2, 3, 5}))
	if kind == m.Fragment {
		header = header[:8]
	}
	for i := range header {
		header[i] = byte(r.Uint32())
	}
	header[0], header[1] = next, byte(len(header)/8-1)
	switch kind {
	case m.Routing:
		header[3] = 0
		if oneIn(r, 20) {
			header[3] = pick(r, []byte{1, 2, 128, 255})
		}
	case m.Fragment:
		header[1] = byte(r.Uint32()) // reserved
		be.PutUint16(header[2:], pick(r, []uint16{0, 0, 0, 2, 4, 6}))
		if oneIn(r, 8) {
			be.PutUint16(header[2:], pick(r, []uint16{1, 1, 8, 0x8000, 0xfff8, 0xfff9, 9}))
		}
	}
	return header
}

// stretch makes the last header that may be long so long that all have a length
// together, if they have less.
func (g *generator) stretch(kinds, headers []byte, length int) []byte {
	at, longest := 0, -1
	for _, kind := range kinds {
		if kind != m.Fragment {
			longest = at
			at += 8 * int(headers[at+1])
		}
		at += 8
	}
	more := length - len(headers)
	if longest < 0 || more <= 0 {
		return headers
	}
	end := longest + 8 + 8*int(headers[longest+1])
	headers[longest+1] += byte(more / 8)
	return slices.Insert(headers, end, make([]byte, more)...)
}
