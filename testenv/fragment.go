package testenv

import "encoding/binary"

// Fragment returns the fragment of an untagged IPv4 frame without options that
// has the bytes from (a multiple of 8) to to behind the IP header, or all that
// follow, to being 0.
func Fragment(frame []byte, from, to int) []byte {
	const payload = ethLen + ipv4Len
	field := uint16(from / 8)
	if to == 0 {
		to = len(frame) - payload
	} else {
		field |= 0x2000
	}
	out := append(append([]byte(nil), frame[:payload]...), frame[payload+from:payload+to]...)
	ip := out[ethLen:payload]
	binary.BigEndian.PutUint16(ip[2:], uint16(ipv4Len+to-from))
	binary.BigEndian.PutUint16(ip[6:], field)
	ip[10], ip[11] = 0, 0
	binary.BigEndian.PutUint16(ip[10:], ^Sum(ip, 0))
	return out
}
