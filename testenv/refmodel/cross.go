package refmodel

import (
	"encoding/binary"
	"net/netip"
)

// wideAddr is an address as the wide programs have it.
func wideAddr(a Addr) Addr { return netip.AddrFrom16(a.As16()) }

// widen makes a packet one of fairlead46, if it is of IPv4.
func (p *packet) widen() {
	if p.family == &ipv4 {
		p.wide = true
		p.tuple.Src, p.tuple.Dst = wideAddr(p.tuple.Src), wideAddr(p.tuple.Dst)
	}
}

// addrs are the addresses of a header, as the packet's program has them.
func (p *packet) addrs(ip []byte) (src, dst Addr) {
	src, dst = p.family.addrs(ip)
	if p.wide {
		return wideAddr(src), wideAddr(dst)
	}
	return src, dst
}

// mixed says that source and destination are of two families.
func (t Tuple) mixed() bool { return t.Src.Is4In6() != t.Dst.Is4In6() }

// mixed says that packets leave in the other family than they come in.
func (f *Flow) mixed() bool { return f.Key.Dst.Is4In6() != f.Leave.Dst.Is4In6() }

// Leads gives the entry, whose tuples are known, its way out.
func (f *Flow) Leads(hop Hop) {
	f.Hop, f.FarMTU = hop, 0
	if f.mixed() {
		f.FarMTU, f.Hop.MTU = hop.MTU, 0
	}
}

const (
	farGrowth     = 20   // from an IPv4 header to one of IPv6
	dfAbove       = 1260 // what every link takes of IPv6, in IPv4
	longestSummed = 1500 // a packet of which a checksum is made
)

// far is the other family, and the length of the headers that a packet gets in it.
func (p *packet) far() (f *family, headers int) {
	switch {
	case !p.wide:
		return &ipv4, ipv4.header
	case p.part != wholePart:
		return &ipv6, ipv6.header + fragmentLen
	}
	return &ipv6, ipv6.header
}

// cross is rule 13: the packet leaves in the other family.
func (m *Model) cross(p *packet, f *Flow) Result {
	if p.hides || p.unsummed() && (p.part == firstPart || p.total > longestSummed) {
		return verdict(DropFamily)
	}
	_, headers := p.far()
	mtu := f.FarMTU - uint16(headers-ipv4.header)
	if !p.wide {
		mtu = max(uint16(min(int(f.FarMTU)+farGrowth, 0xffff)), ipv6.leastMTU)
	}
	if headers+p.size() > int(f.FarMTU) {
		return m.tooBig(p, mtu)
	}
	rest := append([]byte(nil), p.frame[p.l4:]...)
	p.leave(rest, f)
	return m.departFar(p, f, rest)
}

// crossLater is cross for a fragment that has no ports.
func (m *Model) crossLater(p *packet, f *Flow) Result {
	if _, headers := p.far(); headers+p.size() > int(f.FarMTU) {
		return verdict(DropTooBig)
	}
	return m.departFar(p, f, p.frame[p.l4:])
}

// size is how much follows the headers of IP, padding left out.
func (p *packet) size() int { return p.total - (p.l4 - ethLen) }

// unsummed says that the packet is a datagram of IPv4 without a checksum.
func (p *packet) unsummed() bool {
	return p.wide && p.tuple.Proto == UDP && be.Uint16(p.frame[p.l4+6:]) == 0
}

// leave gives TCP or UDP the ports that it leaves with, and its checksum.
func (p *packet) leave(l4 []byte, f *Flow) {
	udp := p.tuple.Proto == UDP
	sum := l4[6:8]
	if !udp {
		sum = l4[16:18]
	}
	be.PutUint16(l4[0:], f.Leave.SPort)
	be.PutUint16(l4[2:], f.Leave.DPort)
	switch old := be.Uint16(sum); {
	case p.unsummed():
		n := int(be.Uint16(l4[4:]))
		be.PutUint16(sum, Checksum(PseudoHeader(f.Leave.Src, f.Leave.Dst, UDP, n), l4[:n]))
	case udp && old == 0:
		return
	default:
		delta, _ := Delta(p.tuple, f.Leave)
		be.PutUint16(sum, change(delta).apply(old))
	}
	if udp && be.Uint16(sum) == 0 {
		be.PutUint16(sum, 0xffff)
	}
}

// departFar sends out what follows the headers of IP, behind new ones.
func (m *Model) departFar(p *packet, f *Flow, rest []byte) Result {
	far, headers := p.far()
	out := append(make([]byte, ethLen+headers), rest...)
	be.PutUint16(out[12:], far.kind)
	m.farHeader(out[ethLen:], p, f, far, p.tuple.Proto, headers+p.size())
	return m.depart(p, f, out)
}

// farHeader writes the header that a packet gets in the other family, in which
// it has so many bytes (RFC 7915).
func (m *Model) farHeader(ip []byte, p *packet, f *Flow, far *family, proto uint8, total int) {
	far.say(ip, p.tos, proto, p.ttl-1, total)
	far.write(ip, f.Leave.Src, f.Leave.Dst)
	switch {
	case far == &ipv6 && p.part != wholePart:
		ip[6] = Fragment
		fragment := append(ip[:far.header], proto, 0)
		fragment = be.AppendUint16(fragment, p.place)
		be.AppendUint32(fragment, p.id>>16)
		return
	case far == &ipv6:
		return
	case p.part != wholePart:
		be.PutUint16(ip[4:], uint16(p.id))
		be.PutUint16(ip[6:], p.place>>3|p.place<<13&0x2000)
	case total <= dfAbove:
		be.PutUint16(ip[6:], 0)
		binary.LittleEndian.PutUint16(ip[4:], uint16(m.Random()))
	}
	be.PutUint16(ip[10:], Checksum(ip[:far.header]))
}

// say writes a header, but for addresses and checksum; IPv4 has DF.
func (f *family) say(ip []byte, tos, proto, ttl uint8, total int) {
	ip[f.ttl] = ttl
	if f == &ipv6 {
		be.PutUint16(ip, 6<<12|uint16(tos)<<4)
		be.PutUint16(ip[4:], uint16(total-f.header))
		ip[6] = proto
		return
	}
	ip[0], ip[1], ip[9] = 4<<4|5, tos, proto
	be.PutUint16(ip[2:], uint16(total))
	be.PutUint16(ip[6:], 0x4000)
}

// farICMP is the type, code and MTU that an error gets in the other family.
func (p *packet) farICMP() (kind [2]byte, mtu uint32, ok bool) {
	icmp := p.frame[p.l4:]
	var table map[[2]byte][2]byte
	switch kind = [2]byte(icmp); {
	case p.wide && kind == ipv4.tooBig:
		return ipv6.tooBig, max(uint32(be.Uint16(icmp[6:]))+farGrowth, 1280), true
	case p.wide && kind[0] == icmpTimeExceeded:
		return [2]byte{icmp6TimeExceeded, kind[1]}, 0, true
	case p.wide:
		table = errors46
	case kind[0] == icmp6TooBig:
		told := be.Uint32(icmp[4:])
		return ipv4.tooBig, min(max(told, 1280), 0xffff) - farGrowth, true
	case kind[0] == icmp6TimeExceeded:
		return [2]byte{icmpTimeExceeded, kind[1]}, 0, true
	default:
		table = errors64
	}
	if kind[0] == p.family.problem && kind != ipv6Unknown {
		return p.farProblem(kind[1], be.Uint32(icmp[4:]))
	}
	if kind, ok = table[kind]; kind == ipv6Unknown {
		return kind, 6, ok
	}
	return kind, 0, ok
}

// farProblem is farICMP for a parameter problem.
func (p *packet) farProblem(code uint8, rest uint32) (kind [2]byte, told uint32, ok bool) {
	if p.wide {
		told, ok = places46[rest>>24]
		return [2]byte{icmp6ParameterProblem, 0}, told, ok && (code == 0 || code == 2)
	}
	told, ok = places64[rest]
	return [2]byte{icmpParameterProblem, 0}, told << 24, ok && code == 0
}

// ipv6Unknown is the type and code of an unknown next header.
var ipv6Unknown = [2]byte{icmp6ParameterProblem, 1}

// What a place in a header becomes: RFC 7915, figures 3 and 6.
var (
	places46 = map[uint32]uint32{
		0: 0, 1: 1, 2: 4, 3: 4, 8: 7, 9: 6,
		12: 8, 13: 8, 14: 8, 15: 8, 16: 24, 17: 24, 18: 24, 19: 24,
	}
	places64 = places(map[uint32]uint32{0: 0, 1: 1, 4: 2, 5: 2, 6: 9, 7: 8})
)

// places adds those of IPv6's addresses.
func places(of map[uint32]uint32) map[uint32]uint32 {
	for at := range uint32(16) {
		of[8+at], of[24+at] = 12, 16
	}
	return of
}

// What destination unreachable becomes: RFC 7915, 4.2 and 5.2.
var (
	errors46 = map[[2]byte][2]byte{
		{3, 0}: {1, 0}, {3, 1}: {1, 0}, {3, 3}: {1, 4}, {3, 5}: {1, 0}, {3, 6}: {1, 0}, {3, 7}: {1, 0}, {3, 8}: {1, 0},
		{3, 2}: ipv6Unknown, {3, 9}: {1, 1}, {3, 10}: {1, 1}, {3, 11}: {1, 0}, {3, 12}: {1, 0}, {3, 13}: {1, 1}, {3, 15}: {1, 1},
	}
	errors64 = map[[2]byte][2]byte{
		{1, 0}: {3, 1}, {1, 1}: {3, 10}, {1, 2}: {3, 1}, {1, 3}: {3, 1}, {1, 4}: {3, 3}, ipv6Unknown: {3, 2},
	}
)

// crossError is rule 13.7: an error leaves in the other family.
func (m *Model) crossError(p *packet, f *Flow, quoted Tuple) Result {
	quoteAt, l4At := p.quoteAt()
	kind, mtu, ok := p.farICMP()
	if !ok || l4At > quoteAt+p.family.header {
		return verdict(DropFamily)
	}
	far := &ipv6
	if !p.wide {
		far = &ipv4
	}
	total := p.total + 2*(far.header-p.family.header)
	was, sent := p.frame[quoteAt:], f.TwinKey()

	out := make([]byte, ethLen+2*far.header+icmpLen)
	be.PutUint16(out[12:], far.kind)
	m.farHeader(out[ethLen:], p, f, far, far.icmp, total)
	icmp := out[ethLen+far.header:]
	copy(icmp, kind[:])
	be.PutUint32(icmp[4:], mtu)
	ip := icmp[icmpLen:]
	tos, ttl := was[1], was[p.family.ttl]
	if far == &ipv4 {
		tos = uint8(be.Uint16(was) >> 4)
	}
	far.say(ip, tos, quoted.Proto, ttl, p.family.total(was)-p.family.header+far.header)
	far.write(ip, sent.Src, sent.Dst)
	if far == &ipv4 {
		be.PutUint16(ip[10:], Checksum(ip[:far.header]))
	}
	rest := append([]byte(nil), p.frame[l4At:]...)
	n := p.rewriteQuoted(rest, quoted, sent)

	var sum change
	sum.become(p.frame[p.l4:p.l4+2], icmp[:2])
	sum.become(p.frame[p.l4+4:l4At], icmp[4:])
	sum.replace(p.frame[l4At:][:n], rest[:n])
	if far == &ipv6 {
		sum.become(nil, PseudoHeader(f.Leave.Src, f.Leave.Dst, ICMPv6, total-far.header))
	} else {
		sum.become(PseudoHeader(p.tuple.Src, p.tuple.Dst, ICMPv6, p.total-p.family.header), nil)
	}
	be.PutUint16(icmp[2:], sum.apply(be.Uint16(p.frame[p.l4+2:])))
	return m.depart(p, f, append(out, rest...))
}

// become takes note of words that are replaced by others, as many or not.
func (c *change) become(old, new []byte) {
	*c += change(^fold(words(old))) + change(words(new))
}
