package testenv

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
)

// Offsets and lengths of an untagged IPv4 frame without options.
const (
	ethLen  = 14
	ipv4Len = 20
	tcpLen  = 20
	udpLen  = 8

	protoICMP = 1
	protoTCP  = 6
	protoUDP  = 17
)

// TCP flags of a [FrameSpec].
const (
	FIN = 1 << iota
	SYN
	RST
	PSH
	ACK
)

// A FrameSpec says what [TCPFrame] and [UDPFrame] build: an untagged Ethernet
// frame with an IPv4 packet without options, or an IPv6 packet without extension
// headers. Zero values are fine but for the addresses.
type FrameSpec struct {
	// SrcMAC and DstMAC default to [MAC] of the addresses; of IPv6 there are no
	// defaults. A frame for a service address needs the balancer's: MAC of its
	// address on the cable.
	SrcMAC, DstMAC net.HardwareAddr
	Src, Dst       netip.AddrPort
	TTL            uint8 // 0 means 64
	TOS            uint8
	// ID and Fragment, flags and offset, are IPv4's.
	ID       uint16
	Fragment uint16
	Payload  []byte

	// For TCP only.
	Flags    uint8
	Seq, Ack uint32
	Window   uint16 // 0 means 65535
	// Options are TCP options, padded to four bytes by the caller.
	Options []byte

	// NoChecksum leaves the UDP checksum 0: none.
	NoChecksum bool
}

// TCPFrame returns a frame with a TCP segment and right checksums.
func TCPFrame(f FrameSpec) []byte {
	header := tcpLen + len(f.Options)
	b := f.packet(protoTCP, header+len(f.Payload))
	l4 := b[len(b)-header-len(f.Payload):]
	window := f.Window
	if window == 0 {
		window = 65535
	}
	binary.BigEndian.PutUint16(l4[0:], f.Src.Port())
	binary.BigEndian.PutUint16(l4[2:], f.Dst.Port())
	binary.BigEndian.PutUint32(l4[4:], f.Seq)
	binary.BigEndian.PutUint32(l4[8:], f.Ack)
	l4[12] = byte(header / 4 << 4)
	l4[13] = f.Flags
	binary.BigEndian.PutUint16(l4[14:], window)
	copy(l4[tcpLen:], f.Options)
	copy(l4[header:], f.Payload)
	binary.BigEndian.PutUint16(l4[16:], ^checksumL4(b[ethLen:], l4))
	return b
}

// UDPFrame returns a frame with a UDP datagram and right checksums.
func UDPFrame(f FrameSpec) []byte {
	b := f.packet(protoUDP, udpLen+len(f.Payload))
	l4 := b[len(b)-udpLen-len(f.Payload):]
	binary.BigEndian.PutUint16(l4[0:], f.Src.Port())
	binary.BigEndian.PutUint16(l4[2:], f.Dst.Port())
	binary.BigEndian.PutUint16(l4[4:], uint16(len(l4)))
	copy(l4[udpLen:], f.Payload)
	if f.NoChecksum {
		return b
	}
	sum := ^checksumL4(b[ethLen:], l4)
	if sum == 0 {
		sum = 0xffff // 0 would say that there is none
	}
	binary.BigEndian.PutUint16(l4[6:], sum)
	return b
}

// packet returns a frame with Ethernet and IP headers and room for n bytes.
func (f FrameSpec) packet(proto uint8, n int) []byte {
	if f.Src.Addr().Is4() {
		return f.ipv4(proto, n)
	}
	return f.ipv6(proto, n)
}

// ipv4 returns a frame with Ethernet and IPv4 headers and room for n bytes.
func (f FrameSpec) ipv4(proto uint8, n int) []byte {
	b := make([]byte, ethLen+ipv4Len+n)
	src, dst := f.SrcMAC, f.DstMAC
	if src == nil {
		src = MAC(f.Src.Addr())
	}
	if dst == nil {
		dst = MAC(f.Dst.Addr())
	}
	copy(b[0:], dst)
	copy(b[6:], src)
	binary.BigEndian.PutUint16(b[12:], 0x0800)
	ip := b[ethLen : ethLen+ipv4Len]
	ip[0], ip[1] = 0x45, f.TOS
	binary.BigEndian.PutUint16(ip[2:], uint16(ipv4Len+n))
	binary.BigEndian.PutUint16(ip[4:], f.ID)
	binary.BigEndian.PutUint16(ip[6:], f.Fragment)
	ip[8], ip[9] = f.TTL, proto
	if f.TTL == 0 {
		ip[8] = 64
	}
	from, to := f.Src.Addr().As4(), f.Dst.Addr().As4()
	copy(ip[12:], from[:])
	copy(ip[16:], to[:])
	binary.BigEndian.PutUint16(ip[10:], ^Sum(ip, 0))
	return b
}

// Sum adds b, as big-endian 16-bit words, to a ones' complement sum (RFC 1071).
// The checksum is its complement; over data with its checksum it is 0xffff.
func Sum(b []byte, start uint16) uint16 {
	sum := uint64(start)
	for ; len(b) >= 2; b = b[2:] {
		sum += uint64(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		sum += uint64(b[0]) << 8
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}

// covered returns what a pseudo header has of ip.
func covered(ip []byte) (proto uint8, addrs []byte) {
	if ip[0]>>4 == 6 {
		return ip[6], ip[8:40]
	}
	return ip[9], ip[12:20]
}

// checksumL4 sums l4 with the pseudo header of ip.
func checksumL4(ip, l4 []byte) uint16 {
	proto, addrs := covered(ip)
	pseudo := binary.BigEndian.AppendUint16([]byte{0, proto}, uint16(len(l4)))
	return Sum(l4, Sum(pseudo, Sum(addrs, 0)))
}

var errTruncated = errors.New("truncated")

// VerifyFrame checks lengths and checksums of a frame: up to two VLAN tags,
// IPv4 or IPv6 without extension headers, then TCP, UDP or ICMP (not
// ICMPv6). Lengths are those of the IP header, a padded frame is fine. Of a
// fragment only the IP header is checked. What it cannot check is an error.
func VerifyFrame(frame []byte) error {
	kind, ip, err := untagged(frame)
	if err != nil {
		return err
	}
	switch kind {
	case 0x0800:
		return verifyIPv4(ip)
	case 0x86dd:
		return verifyIPv6(ip)
	}
	return fmt.Errorf("verify Ethernet: type %#04x is neither IPv4 nor IPv6", kind)
}

// verifyIPv4 is VerifyFrame for what follows the Ethernet header.
func verifyIPv4(ip []byte) error {
	if len(ip) < ipv4Len || ip[0]>>4 != 4 {
		return fmt.Errorf("verify IPv4: %w", errTruncated)
	}
	total := int(binary.BigEndian.Uint16(ip[2:]))
	if total < ipv4Len || total > len(ip) {
		return fmt.Errorf("verify IPv4: total length %d of %d: %w", total, len(ip), errTruncated)
	}
	ip = ip[:total]
	header := int(ip[0]&0xf) * 4
	if header < ipv4Len || header > len(ip) {
		return fmt.Errorf("verify IPv4: header length %d of %d: %w", header, len(ip), errTruncated)
	}
	if sum := Sum(ip[:header], 0); sum != 0xffff {
		return fmt.Errorf("verify IPv4: bad checksum %#04x", binary.BigEndian.Uint16(ip[10:]))
	}
	if binary.BigEndian.Uint16(ip[6:])&0x3fff != 0 {
		return nil
	}
	return verifyL4(ip[:ipv4Len], ip[header:])
}

// untagged returns the type of a frame, and what follows that.
func untagged(frame []byte) (kind uint16, rest []byte, err error) {
	at := 12
	for range 3 {
		if len(frame) < at+2 {
			return 0, nil, fmt.Errorf("verify Ethernet: %w", errTruncated)
		}
		kind, rest = binary.BigEndian.Uint16(frame[at:]), frame[at+2:]
		if kind != 0x8100 && kind != 0x88a8 {
			break
		}
		at += 4
	}
	return kind, rest, nil
}

func verifyL4(ip, l4 []byte) error {
	proto, _ := covered(ip)
	switch proto {
	case protoTCP:
		if len(l4) < tcpLen || int(l4[12]>>4)*4 < tcpLen || int(l4[12]>>4)*4 > len(l4) {
			return fmt.Errorf("verify TCP: %w", errTruncated)
		}
		if checksumL4(ip, l4) != 0xffff {
			return fmt.Errorf("verify TCP: bad checksum %#04x", binary.BigEndian.Uint16(l4[16:]))
		}
	case protoUDP:
		if len(l4) < udpLen || int(binary.BigEndian.Uint16(l4[4:])) != len(l4) {
			return fmt.Errorf("verify UDP: length field does not match %d bytes", len(l4))
		}
		sum := binary.BigEndian.Uint16(l4[6:])
		if sum != 0 && checksumL4(ip, l4) != 0xffff {
			return fmt.Errorf("verify UDP: bad checksum %#04x", sum)
		}
	case protoICMP:
		if len(l4) < 8 {
			return fmt.Errorf("verify ICMP: %w", errTruncated)
		}
		if Sum(l4, 0) != 0xffff {
			return errors.New("verify ICMP: bad checksum")
		}
	default:
		return fmt.Errorf("verify IP: protocol %d is not known", proto)
	}
	return nil
}
