package loader

import (
	"encoding/binary"
	"net"
	"net/netip"
)

// TCP flags of a [Question].
const (
	TCPFin = 1 << iota
	TCPSyn
	TCPRst
	TCPPsh
	TCPAck
)

// A Question is a packet of which a [Rehearsal] tells what would become.
type Question struct {
	UDP      bool // else it is TCP
	From, To netip.AddrPort
	Flags    uint8 // of TCP
	TTL      uint8
	// Length is that of the IP packet; if it is less than the headers, there is
	// nothing behind them.
	Length uint16
}

// Lengths of headers.
const (
	etherHeader = 14
	ipv4Header  = 20
	ipv6Header  = 40
	tcpHeader   = 20
	udpHeader   = 8
)

// Least returns the length of an IP packet with nothing behind its headers.
func (q Question) Least() int {
	n := ipv4Header
	if q.From.Addr().Is6() {
		n = ipv6Header
	}
	if q.UDP {
		return n + udpHeader
	}
	return n + tcpHeader
}

// frame returns the packet in an Ethernet frame, with right checksums.
func (q Question) frame(dst, src net.HardwareAddr) []byte {
	f := make([]byte, etherHeader+max(int(q.Length), q.Least()))
	copy(f, dst)
	copy(f[6:], src)
	ip := f[etherHeader:]
	proto := uint8(protoTCP)
	if q.UDP {
		proto = protoUDP
	}
	from, to := q.From.Addr().AsSlice(), q.To.Addr().AsSlice()
	var l4 []byte
	if q.From.Addr().Is6() {
		binary.BigEndian.PutUint16(f[12:], 0x86dd)
		ip[0], ip[6], ip[7] = 0x60, proto, q.TTL
		copy(ip[8:], from)
		copy(ip[24:], to)
		l4 = ip[ipv6Header:]
		binary.BigEndian.PutUint16(ip[4:], uint16(len(l4)))
	} else {
		binary.BigEndian.PutUint16(f[12:], 0x0800)
		ip[0], ip[6], ip[8], ip[9] = 0x45, 0x40, q.TTL, proto
		binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
		copy(ip[12:], from)
		copy(ip[16:], to)
		l4 = ip[ipv4Header:]
		binary.BigEndian.PutUint16(ip[10:], ^sum(0, ip[:ipv4Header]))
	}
	q.write(l4)
	pseudo := sum(uint32(proto)+uint32(len(l4)), from, to)
	check, at := ^sum(uint32(pseudo), l4), 16
	if q.UDP {
		at = 6
		if check == 0 {
			check = 0xffff // 0 would say that there is none (RFC 768)
		}
	}
	binary.BigEndian.PutUint16(l4[at:], check)
	return f
}

// Numbers of protocols.
const (
	protoTCP = 6
	protoUDP = 17
)

// write writes the header of TCP or UDP, without its checksum.
func (q Question) write(l4 []byte) {
	binary.BigEndian.PutUint16(l4, q.From.Port())
	binary.BigEndian.PutUint16(l4[2:], q.To.Port())
	if q.UDP {
		binary.BigEndian.PutUint16(l4[4:], uint16(len(l4)))
		return
	}
	l4[12], l4[13] = tcpHeader/4<<4, q.Flags
	binary.BigEndian.PutUint16(l4[14:], 65535)
}

// sum is the Internet checksum (RFC 1071) of parts of even length, but for the last, not inverted.
func sum(n uint32, parts ...[]byte) uint16 {
	for _, p := range parts {
		for i := 0; i+1 < len(p); i += 2 {
			n += uint32(binary.BigEndian.Uint16(p[i:]))
		}
		if len(p)%2 == 1 {
			n += uint32(p[len(p)-1]) << 8
		}
	}
	for n > 0xffff {
		n = n&0xffff + n>>16
	}
	return uint16(n)
}
