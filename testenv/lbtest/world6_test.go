package lbtest

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
	"slices"
	"testing"

	"fairlead/loader"
	"fairlead/testenv"
)

// The addresses of the tables' world of IPv6.
var (
	client6    = netip.MustParseAddrPort("[2001:db8:1::7]:40000")
	neighbour6 = netip.MustParseAddrPort("[2001:db8:1::8]:40000") // of the client's network
	web6       = netip.MustParseAddrPort("[2001:db8:2::10]:80")   // service 1, TCP
	dns6       = netip.MustParseAddrPort("[2001:db8:2::10]:53")   // service 2, UDP
	remote6    = netip.MustParseAddrPort("[2001:db8:2::11]:80")   // not on this host
	other6     = netip.MustParseAddrPort("[2001:db8:2::99]:80")   // nobody's
	webBack6   = netip.MustParseAddrPort("[2001:db8:3::2]:8080")
	dnsBack6   = netip.MustParseAddrPort("[2001:db8:3::4]:5353")
	own6       = netip.MustParseAddrPort("[2001:db8:4::1]:20000") // a source of our own
	hop6       = netip.MustParseAddrPort("[2001:db8:5::9]:0")     // a router somewhere
)

// Where keys stand in the flow table of IPv6, besides hashA and hashB.
const (
	hashC = 0xa0761d6478bd642f
	hashD = 0xe7037ed1a0b428db
	hashE = 0x8ebc6af09c88c6e3
)

func newWorld6(tb testing.TB, fault uint32) *world {
	tb.Helper()
	return &world{tb: tb, Datapath: Load6(tb, sizes(ipv6), fault)}
}

// settle6 is settle for the world of IPv6.
func (w *world) settle6() {
	w.tb.Helper()
	w.service(1, web6, tcp, func(s *loader.Service) { s.Slots, s.SlotsAll = 0<<32|1, 0<<32|1 })
	w.service(2, dns6, udp, func(s *loader.Service) { s.Slots, s.SlotsAll = 1<<32|1, 1<<32|1 })
	w.service(4, remote6, tcp, func(s *loader.Service) { s.Flags = 0; s.Slots = 0<<32 | 1 })
	w.backend(2, webBack6, 1, func(*loader.Backend) {})
	w.backend(4, dnsBack6, 2, func(*loader.Backend) {})
	for i, row := range []uint32{2, 4} {
		w.put(loader.LBMapSlots, uint32(i), row)
	}
	w.route(webBack6, RouteFound, uplink)
	w.route(dnsBack6, RouteFound, uplink)
	w.route(client6, RouteFound, Ingress)
	w.route(neighbour6, RouteFound, Ingress)
}

// mac is testenv.MAC for addresses of both families.
func mac(a netip.Addr) []byte {
	if a.Is4() {
		return testenv.MAC(a)
	}
	b := a.As16()
	return []byte{0x02, 0x06, b[4], b[5], b[14], b[15]}
}

func flowKey6(proto uint8, src, dst netip.AddrPort) loader.FlowKey6 {
	return loader.FlowKey6{
		Saddr: loader.AddressOf(src.Addr()), Daddr: loader.AddressOf(dst.Addr()),
		Sport: port16(src.Port()), Dport: port16(dst.Port()), Proto: proto,
	}
}

// spotOf6 is rule 10.6, in words of its own.
func spotOf6(k loader.FlowKey6) spot {
	half := func(a loader.Address, i int) uint64 {
		return bits.ReverseBytes64(uint64(a.Word[i]) | uint64(a.Word[i+1])<<32)
	}
	g := half(k.Saddr, 0)*hashA + half(k.Saddr, 2)*hashB + half(k.Daddr, 0)*hashC + half(k.Daddr, 2)*hashD +
		(uint64(k.Sport)|uint64(k.Dport)<<16|uint64(k.Proto)<<32)*hashE
	h := (g ^ g>>32) * hashB
	tag := uint16(h >> 16)
	first := uint32(h >> (65 - bits.Len32(buckets)))
	return spot{first, (first + uint32(tag|1)) % buckets, tag}
}

// putFlow6 makes an entry of a flow table that has none with its key yet, or has
// it in its first bucket.
func (w *world) putFlow6(f loader.Flow6, stamp loader.Stamp) {
	w.tb.Helper()
	s := spotOf6(f.Key)
	var b loader.LB6Bucket
	w.must(w.Maps[loader.LB6MapFlows6].Lookup(s.first, &b))
	at := slices.IndexFunc(b.Places[:], func(have loader.Flow6) bool { return have.Key == f.Key })
	if at < 0 {
		at = slices.IndexFunc(b.Places[:], func(have loader.Flow6) bool { return have == loader.Flow6{} })
	}
	f.Bucket, f.Place, stamp.Tag = s.first, uint8(at), s.tag
	b.Places[at], b.Stamps[at] = f, stamp
	w.put(loader.LB6MapFlows6, s.first, &b)
}

// A header is an extension header: its kind and what follows its first byte.
type header struct {
	kind byte
	rest []byte
}

// Extension headers.
var (
	hopByHop    = header{0, []byte{0, 1, 4, 0, 0, 0, 0}}
	destination = header{60, []byte{0, 1, 4, 0, 0, 0, 0}}
	routed      = header{43, []byte{0, 4, 0, 0, 0, 0, 0}}
	routing     = header{43, []byte{0, 4, 1, 0, 0, 0, 0}} // with a segment left
	atomic      = header{44, []byte{0, 0, 0, 1, 2, 3, 4}}
	firstPart   = header{44, []byte{0, 0, 1, 1, 2, 3, 4}}
)

// sized is options of so many bytes, a multiple of 8.
func sized(n int) header {
	rest := make([]byte, n-1)
	rest[0], rest[1], rest[2] = byte(n/8-1), 1, byte(n-4)
	return header{60, rest}
}

// extend puts extension headers into a frame.
func extend(frame []byte, headers ...header) []byte {
	next := frame[20]
	var all []byte
	for i, h := range headers {
		follows := next
		if i+1 < len(headers) {
			follows = headers[i+1].kind
		}
		all = append(append(all, follows), h.rest...)
	}
	out := slices.Insert(slices.Clone(frame), 54, all...)
	out[20] = headers[0].kind
	binary.BigEndian.PutUint16(out[18:], binary.BigEndian.Uint16(out[18:])+uint16(len(all)))
	return out
}

// packet6 is a frame with an IPv6 packet, whose checksum is at an offset of l4.
func packet6(src, dst netip.AddrPort, proto byte, l4 []byte, check int) []byte {
	f := append(slices.Clone(mac(dst.Addr())), mac(src.Addr())...)
	f = append(f, 0x86, 0xdd, 0x60, 0, 0, 0)
	f = binary.BigEndian.AppendUint16(f, uint16(len(l4)))
	f = append(f, proto, 64)
	f = append(append(f, src.Addr().AsSlice()...), dst.Addr().AsSlice()...)
	f = append(f, l4...)
	f[54+check], f[54+check+1] = 0, 0
	pseudo := binary.BigEndian.AppendUint16([]byte{0, proto}, uint16(len(l4)))
	sum := ^testenv.Sum(f[22:], testenv.Sum(pseudo, 0))
	binary.BigEndian.PutUint16(f[54+check:], sum)
	return f
}

// segment6 and datagram6 are what a client or a backend sends.
func segment6(src, dst netip.AddrPort, flags uint8) []byte {
	like := segment(netip.AddrPortFrom(client.Addr(), src.Port()), netip.AddrPortFrom(web.Addr(), dst.Port()), flags)
	return packet6(src, dst, tcp, like[34:], 16)
}

func datagram6(src, dst netip.AddrPort) []byte {
	like := datagram(netip.AddrPortFrom(client.Addr(), src.Port()), netip.AddrPortFrom(web.Addr(), dst.Port()))
	return packet6(src, dst, udp, like[34:], 6)
}

// left6 is a frame as it leaves here.
func left6(frame []byte) []byte {
	out := edit(frame, 6, mac(router)...)
	out[21]--
	return out
}

// icmp6 is an ICMPv6 packet that quotes what is left of a frame's IP packet.
func icmp6(src, dst netip.AddrPort, kind byte, quote []byte) []byte {
	return packet6(src, dst, 58, append([]byte{kind, 4, 0, 0, 0, 0, 5, 0}, quote...), 2)
}

// answer6 is the ICMPv6 error of ours that quotes a packet.
func answer6(frame []byte, kind, code byte, longest uint16) []byte {
	src, dst := netip.AddrFrom16([16]byte(frame[22:38])), netip.AddrFrom16([16]byte(frame[38:54]))
	l4 := append([]byte{kind, code, 0, 0, 0, 0, byte(longest >> 8), byte(longest)}, frame[14:62]...)
	return packet6(netip.AddrPortFrom(dst, 0), netip.AddrPortFrom(src, 0), 58, l4, 2)
}

// reset6 is the answer to a segment.
func reset6(src, dst netip.AddrPort, flags uint8, seq, ackSeq uint32) []byte {
	l4 := binary.BigEndian.AppendUint16(nil, dst.Port())
	l4 = binary.BigEndian.AppendUint16(l4, src.Port())
	l4 = binary.BigEndian.AppendUint32(l4, seq)
	l4 = binary.BigEndian.AppendUint32(l4, ackSeq)
	return packet6(dst, src, tcp, append(l4, 5<<4, flags, 0, 0, 0, 0, 0, 0), 16)
}
