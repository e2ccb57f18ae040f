package refmodel

import "net/netip"

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
	farGrowth = 20   // from an IPv4 header to one of IPv6
	dfAbove   = 1260 // what every link takes of IPv6, in IPv4
)

// cross is rule 13: the packet leaves in the other family.
func (m *Model) cross(p *packet, f *Flow) Result {
	rest := append([]byte(nil), p.frame[p.l4:]...)
	size := p.total - (p.l4 - ethLen) // of rest there may be more: padding
	udp := p.tuple.Proto == UDP
	if p.part == firstPart || p.wide && udp && be.Uint16(rest[6:]) == 0 {
		return verdict(DropFamily)
	}
	far, mtu := &ipv6, f.FarMTU-farGrowth
	if !p.wide {
		far, mtu = &ipv4, max(uint16(min(int(f.FarMTU)+farGrowth, 0xffff)), ipv6.leastMTU)
	}
	if far.header+size > int(f.FarMTU) {
		return m.tooBig(p, mtu)
	}
	delta, _ := Delta(p.tuple, f.Leave)
	be.PutUint16(rest[0:], f.Leave.SPort)
	be.PutUint16(rest[2:], f.Leave.DPort)
	sum := rest[6:8]
	if !udp {
		sum = rest[16:18]
	}
	if old := be.Uint16(sum); old != 0 || !udp {
		be.PutUint16(sum, change(delta).apply(old))
		if udp && be.Uint16(sum) == 0 {
			be.PutUint16(sum, 0xffff)
		}
	}
	out := append(make([]byte, ethLen+far.header), rest...)
	be.PutUint16(out[12:], far.kind)
	m.farHeader(out[ethLen:], p, f, far, far.header+size)
	return m.depart(p, f, out)
}

// farHeader writes the header that a packet gets in the other family, in which
// it has so many bytes (RFC 7915).
func (m *Model) farHeader(ip []byte, p *packet, f *Flow, far *family, total int) {
	ip[far.ttl] = p.ttl - 1
	far.write(ip, f.Leave.Src, f.Leave.Dst)
	if far == &ipv6 {
		be.PutUint16(ip, 6<<12|uint16(p.tos)<<4)
		be.PutUint16(ip[4:], uint16(total-far.header))
		ip[6] = p.tuple.Proto
		return
	}
	ip[0], ip[1], ip[9] = 4<<4|5, p.tos, p.tuple.Proto
	be.PutUint16(ip[2:], uint16(total))
	if total > dfAbove {
		be.PutUint16(ip[6:], 0x4000)
	} else {
		be.PutUint16(ip[4:], m.Random)
	}
	be.PutUint16(ip[10:], Checksum(ip[:far.header]))
}
