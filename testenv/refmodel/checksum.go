package refmodel

// Checksum is the Internet checksum (RFC 1071) of the parts put together. All
// parts but the last must be of even length.
func Checksum(parts ...[]byte) uint16 {
	var sum uint64
	for _, part := range parts {
		sum += words(part)
	}
	return ^fold(sum)
}

// words adds up the 16-bit words of b; an odd last byte is a word's first.
func words(b []byte) uint64 {
	var sum uint64
	for ; len(b) >= 2; b = b[2:] {
		sum += uint64(be.Uint16(b))
	}
	if len(b) == 1 {
		sum += uint64(b[0]) << 8
	}
	return sum
}

func fold(sum uint64) uint16 {
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}

// PseudoHeader is what the checksums of TCP and UDP, and of ICMP over IPv6,
// cover beside the packet (RFC 9293, 3.1; RFC 8200, 8.1).
func PseudoHeader(src, dst Addr, proto uint8, length int) []byte {
	b := append(src.AsSlice(), dst.AsSlice()...)
	if src.Is4() {
		return append(b, 0, proto, byte(length>>8), byte(length))
	}
	b = be.AppendUint32(b, uint32(length))
	return append(b, 0, 0, 0, proto)
}

// A change adds up what RFC 1624, equation 3, adds to a checksum: for each
// word, the complement of the old one and the new one.
type change uint64

// replace takes note of words that become others. The length is even.
func (c *change) replace(old, new []byte) {
	for i := 0; i < len(old); i += 2 {
		*c += change(^be.Uint16(old[i:])) + change(be.Uint16(new[i:]))
	}
}

// apply is the checksum sum after the change.
func (c change) apply(sum uint16) uint16 {
	return ^fold(uint64(^sum) + uint64(c))
}

// Delta is what translation of t into leave adds to the complement of a TCP or
// UDP checksum, and what it adds to that of the IP header, TTL included. Either
// is folded, so that 0 and 0xffff mean the same. IPv6 has no header checksum: 0.
func Delta(t, leave Tuple) (l4, ip uint16) {
	var addrs, ports change
	addrs.replace(t.Src.AsSlice(), leave.Src.AsSlice())
	addrs.replace(t.Dst.AsSlice(), leave.Dst.AsSlice())
	for _, p := range [][2]uint16{{t.SPort, leave.SPort}, {t.DPort, leave.DPort}} {
		ports += change(^p[0]) + change(p[1])
	}
	const ttl = 0xffff - 0x0100 // one less in the first byte of its word
	l4 = fold(uint64(addrs + ports))
	if t.Src.Unmap().Is4() {
		ip = fold(uint64(addrs) + ttl)
	}
	return l4, ip
}
