package fuzz

import (
	"math/rand/v2"
	"net/netip"

	"fairlead/testenv"
	"fairlead/testenv/lbtest"
	m "fairlead/testenv/refmodel"
)

// A family is what worlds and frames of IPv4 and IPv6 have different.
type family struct {
	name  string
	maps  string // what the names of its own maps end in
	codec codec
	load  func(tb testenv.TB, sizes map[string]uint32, fault uint32) *lbtest.Datapath
	kind  uint16 // of Ethernet
	// Of an IP header: its length, and where length, protocol and TTL are.
	header, length, proto, ttl int
	// Of another IP header: where the addresses are, up to its end.
	src, dst int
	mixed    bool // worlds have addresses of both
	icmp     uint8
	errors   []byte // types of ICMP, most of them errors
	echoes   []byte // types of ICMP, the first one asks for an echo
	// Pools of addresses, small so that tuples collide.
	vips, clients, servers, spoofed []m.Addr
	// narrow are addresses of services and backends that the program for IPv4
	// alone has, in worlds between families.
	narrow []m.Addr
	// snats are addresses of our own, and some that are somebody's, so that
	// tuples of flows with and without a disguise collide.
	snats []m.Addr
	// Lengths of networks: of lists of clients, and of limits.
	prefixes, limits []int
}

var ipv4 = family{
	name: "IPv4", codec: codec4{}, load: lbtest.Load, kind: 0x0800, header: 20, length: 2, proto: 9, ttl: 8, src: 12, dst: 16,
	icmp: m.ICMP, errors: []byte{3, 3, 3, 3, 3, 3, 11, 11, 12, 0, 5, 8}, echoes: []byte{8, 0, 13},
	vips:     addrs("203.0.113.10", "203.0.113.11", "10.0.0.1"),
	clients:  addrs("198.51.100.7", "198.51.100.8", "10.1.0.3"),
	servers:  addrs("10.2.1.2", "10.2.1.3", "172.16.255.255"),
	spoofed:  addrs("0.0.0.0", "0.1.2.3", "1.0.0.0", "126.255.255.255", "127.0.0.1", "128.0.0.0", "223.255.255.255", "224.0.0.1", "255.255.255.255", "203.0.113.10", "10.2.1.2"),
	snats:    addrs("10.2.0.1", "10.2.0.2", "10.2.0.3", "198.51.100.7", "203.0.113.10", "0.0.0.0"),
	prefixes: []int{0, 0, 1, 7, 8, 16, 23, 24, 25, 30, 31, 32, 32},
	limits:   []int{0, 8, 24, 32, 32},
}

var ipv6 = family{
	name: "IPv6", maps: "6", codec: codec6{}, load: lbtest.Load6, kind: 0x86dd, header: 40, length: 4, proto: 6, ttl: 7, src: 8, dst: 24,
	icmp: m.ICMPv6, errors: []byte{1, 1, 1, 2, 2, 2, 3, 4, 0, 5, 128, 135}, echoes: []byte{128, 129, 135},
	vips:    addrs("2001:db8:113::10", "2001:db8:113::11", "2001:db8:113:0:8000::10"),
	clients: addrs("2001:db8:51:100::7", "2001:db8:51:101::7", "2001:db8:51:100:0:1:0:7"),
	servers: addrs("2001:db8:2:1::2", "2001:db8:2:1::3", "fd00:0:0:1::ffff"),
	spoofed: addrs("::", "::1", "::2", "::1:0:1", "::fffe:255.255.255.255", "::ffff:10.2.1.2", "::1:ffff:10.2.1.2", "0:0:1::1", "1::1",
		"fe7f:ffff::1", "fe80::1", "febf:ffff::1", "fec0::1", "feff::1", "ff02::1", "2001:db8:113::10", "2001:db8:2:1::2"),
	snats:    addrs("2001:db8:2::1", "2001:db8:2::2", "2001:db8:2:0:1::1", "2001:db8:51:100::7", "2001:db8:113::10", "::"),
	prefixes: []int{0, 0, 1, 31, 32, 47, 48, 56, 63, 64, 65, 96, 127, 128, 128},
	limits:   []int{0, 32, 48, 64, 128},
}

// addrs reads addresses.
func addrs(texts ...string) []m.Addr {
	as := make([]m.Addr, len(texts))
	for i, text := range texts {
		as[i] = netip.MustParseAddr(text)
	}
	return as
}

// l4At is where TCP or UDP begins in a frame without a tag and extensions.
func (f *family) l4At() int { return ethLen + f.header }

// none is the address that is none.
func (f *family) none() m.Addr { return f.addr(make([]byte, f.dst-f.src)) }

// mask has so many bits set.
func (f *family) mask(bits int) m.Addr {
	b := f.none().AsSlice()
	for i := range bits {
		b[i/8] |= 0x80 >> (i % 8)
	}
	return m.AddrFrom(b)
}

// addrs are those of an IP header.
func (f *family) addrs(ip []byte) (src, dst m.Addr) {
	return f.addr(ip[f.src:f.dst]), f.addr(ip[f.dst:f.header])
}

// tuple is that of a packet whose ports follow the header.
func (f *family) tuple(ip []byte) m.Tuple {
	src, dst := f.addrs(ip)
	return m.Tuple{Src: src, Dst: dst, SPort: be.Uint16(ip[f.header:]), DPort: be.Uint16(ip[f.header+2:]), Proto: ip[f.proto]}
}

// setTotal writes the length of a packet: of all with IPv4, of what follows
// the header with IPv6.
func (f *family) setTotal(ip []byte, total int) {
	if f.is6() {
		total -= f.header
	}
	be.PutUint16(ip[f.length:], uint16(total))
}

// write makes the header of a good packet.
func (f *family) write(r *rand.Rand, ip []byte, t m.Tuple) {
	if !f.is6() {
		ip[0] = 0x45
		be.PutUint16(ip[6:], pick(r, []uint16{0, 0x4000, 0x4000, 0x8000}))
	} else {
		ip[0] = 0x60 | ip[0]&0x0f
	}
	f.setTotal(ip, len(ip))
	ip[f.ttl] = pick(r, []byte{64, 64, 255, 2})
	ip[f.proto] = t.Proto
	copy(ip[f.src:], f.bytes(t.Src))
	copy(ip[f.dst:], f.bytes(t.Dst))
	if !f.is6() {
		be.PutUint16(ip[10:], 0)
		be.PutUint16(ip[10:], m.Checksum(ip[:20]))
	}
}

// ethernet is the header of a frame.
func (f *family) ethernet() []byte {
	return be.AppendUint16([]byte{2, 0, 0, 9, 0, 1, 2, 0, 0, 9, 0, 2}, f.kind)
}

// sumICMP writes the checksum of ICMP in a packet between these addresses.
func (f *family) sumICMP(icmp []byte, t m.Tuple) {
	be.PutUint16(icmp[2:], 0)
	if f.is6() {
		be.PutUint16(icmp[2:], l4Sum(t, icmp))
	} else {
		be.PutUint16(icmp[2:], m.Checksum(icmp))
	}
}
