package testenv

import (
	"encoding/binary"
	"net/netip"
)

const ipv6Len = 40

// UDPFrame6 is [UDPFrame] for IPv6, with a right checksum. The MAC addresses
// have to be given.
func UDPFrame6(f FrameSpec) []byte {
	b := append(append(append([]byte(nil), f.DstMAC...), f.SrcMAC...), 0x86, 0xdd, 0x60, 0, 0, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(udpLen+len(f.Payload)))
	b = append(b, protoUDP, 64)
	b = append(append(b, f.Src.Addr().AsSlice()...), f.Dst.Addr().AsSlice()...)
	for _, port := range []netip.AddrPort{f.Src, f.Dst} {
		b = binary.BigEndian.AppendUint16(b, port.Port())
	}
	b = binary.BigEndian.AppendUint16(b, uint16(udpLen+len(f.Payload)))
	b = append(append(b, 0, 0), f.Payload...)
	l4 := b[ethLen+ipv6Len:]
	pseudo := binary.BigEndian.AppendUint16([]byte{0, protoUDP}, uint16(len(l4)))
	sum := ^Sum(b[ethLen+8:], Sum(pseudo, 0))
	if sum == 0 {
		sum = 0xffff // 0 would say that there is none
	}
	binary.BigEndian.PutUint16(l4[6:], sum)
	return b
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
