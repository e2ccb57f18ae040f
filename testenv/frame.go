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
// frame with an IPv4 packet without options. Zero values are fine but for the
// addresses.
type FrameSpec struct {
	// SrcMAC and DstMAC default to [MAC] of the addresses. A frame for a
	// service address needs the balancer's: MAC of its address on the cable.
	SrcMAC, DstMAC net.HardwareAddr
	Src, Dst       netip.AddrPort
	TTL            uint8 // 0 means 64
	TOS            uint8
	ID             uint16
	// Fragment is the fragment field: flags and offset.
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
	b := f.ipv4(protoTCP, header+len(f.Payload))
	l4 := b[ethLen+ipv4Len:]
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
	binary.BigEndian.PutUint16(l4[16:], ^checksumL4(b[ethLen:ethLen+ipv4Len], l4))
	return b
}

// UDPFrame returns a frame with a UDP datagram and right checksums.
func UDPFrame(f FrameSpec) []byte {
	b := f.ipv4(protoUDP, udpLen+len(f.Payload))
	l4 := b[ethLen+ipv4Len:]
	binary.BigEndian.PutUint16(l4[0:], f.Src.Port())
	binary.BigEndian.PutUint16(l4[2:], f.Dst.Port())
	binary.BigEndian.PutUint16(l4[4:], uint16(len(l4)))
	copy(l4[udpLen:], f.Payload)
	if f.NoChecksum {
		return b
	}
	sum := ^checksumL4(b[ethLen:ethLen+ipv4Len], l4)
	if sum == 0 {
		sum = 0xffff // 0 would say that there is none
	}
	binary.BigEndian.PutUint16(l4[6:], sum)
	return b
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

// checksumL4 sums l4 with the pseudo header of ip.
func checksumL4(ip, l4 []byte) uint16 {
	pseudo := binary.BigEndian.AppendUint16([]byte{0, ip[9]}, uint16(len(l4)))
	return Sum(l4, Sum(pseudo, Sum(ip[12:20], 0)))
}

var errTruncated = errors.New("truncated")

// VerifyFrame checks lengths and checksums of a frame: up to two VLAN tags,
// IPv4, then TCP, UDP or ICMP. Lengths are those of the IP header, a padded
// frame is fine. Of a fragment only the IP header is checked. What it cannot
// check is an error.
func VerifyFrame(frame []byte) error {
	ip, err := ipv4Of(frame)
	if err != nil {
		return err
	}
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

// ipv4Of returns the IPv4 packet of a frame, without padding.
func ipv4Of(frame []byte) ([]byte, error) {
	at := 12
	for range 2 {
		if len(frame) < at+2 {
			return nil, fmt.Errorf("verify Ethernet: %w", errTruncated)
		}
		if t := binary.BigEndian.Uint16(frame[at:]); t != 0x8100 && t != 0x88a8 {
			break
		}
		at += 4
	}
	if len(frame) < at+2+ipv4Len {
		return nil, fmt.Errorf("verify Ethernet: %w", errTruncated)
	}
	ip := frame[at+2:]
	if t := binary.BigEndian.Uint16(frame[at:]); t != 0x0800 || ip[0]>>4 != 4 {
		return nil, fmt.Errorf("verify Ethernet: type %#04x, IP version %d: not IPv4", t, ip[0]>>4)
	}
	total := int(binary.BigEndian.Uint16(ip[2:]))
	if total < ipv4Len || total > len(ip) {
		return nil, fmt.Errorf("verify IPv4: total length %d of %d: %w", total, len(ip), errTruncated)
	}
	return ip[:total], nil
}

func verifyL4(ip, l4 []byte) error {
	switch ip[9] {
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
		return fmt.Errorf("verify IPv4: protocol %d is not known", ip[9])
	}
	return nil
}
