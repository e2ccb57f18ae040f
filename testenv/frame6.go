package testenv

import (
	"encoding/binary"
	"fmt"
)

// ipv6Len is an IPv6 header's length without extension headers.
const ipv6Len = 40

// ipv6 is ipv4 for addresses of IPv6.
func (f FrameSpec) ipv6(proto uint8, n int) []byte {
	b := make([]byte, ethLen+ipv6Len+n)
	copy(b[0:], f.DstMAC)
	copy(b[6:], f.SrcMAC)
	binary.BigEndian.PutUint16(b[12:], 0x86dd)
	ip := b[ethLen : ethLen+ipv6Len]
	ip[0], ip[1] = 6<<4|f.TOS>>4, f.TOS<<4
	binary.BigEndian.PutUint16(ip[4:], uint16(n))
	ip[6], ip[7] = proto, f.TTL
	if f.TTL == 0 {
		ip[7] = 64
	}
	copy(ip[8:], f.Src.Addr().AsSlice())
	copy(ip[24:], f.Dst.Addr().AsSlice())
	return b
}

// verifyIPv6 is VerifyFrame for what follows the Ethernet header.
func verifyIPv6(ip []byte) error {
	if len(ip) < ipv6Len || ip[0]>>4 != 6 {
		return fmt.Errorf("verify IPv6: %w", errTruncated)
	}
	end := ipv6Len + int(binary.BigEndian.Uint16(ip[4:]))
	if end > len(ip) {
		return fmt.Errorf("verify IPv6: length %d of %d: %w", end, len(ip), errTruncated)
	}
	return verifyL4(ip[:ipv6Len], ip[ipv6Len:end])
}

// Fragment6 is [Fragment] for an IPv6 frame, all of whose extension headers are
// cut up, too.
func Fragment6(frame []byte, id uint32, from, to int) []byte {
	const payload = ethLen + ipv6Len
	field := uint16(from)
	if to == 0 {
		to = len(frame) - payload
	} else {
		field |= 1
	}
	out := append([]byte(nil), frame[:payload]...)
	out = binary.BigEndian.AppendUint16(append(out, frame[20], 0), field)
	out = binary.BigEndian.AppendUint32(out, id)
	out = append(out, frame[payload+from:payload+to]...)
	binary.BigEndian.PutUint16(out[18:], uint16(len(out)-payload))
	out[20] = 44
	return out
}
