package lbtest

import "encoding/binary"

// Cookie is the cookie that the test build makes of a SYN's headers, as
// bpf/test/env.h has it.
func Cookie(ip, tcp []byte) uint32 {
	sum := uint32(0)
	for _, b := range tcp[20:] {
		sum += uint32(b)
	}
	return cookieOf(ip, tcp, binary.BigEndian.Uint32(tcp[4:])) | sum&3
}

// IsCookie says that a segment acknowledges a cookie.
func IsCookie(ip, tcp []byte) bool {
	be := binary.BigEndian
	return (be.Uint32(tcp[8:])-1)&^3 == cookieOf(ip, tcp, be.Uint32(tcp[4:])-1)
}

// cookieOf is the cookie for a SYN of this number, but for the last two bits.
func cookieOf(ip, tcp []byte, seq uint32) uint32 {
	be := binary.BigEndian
	at, words := 12, 1 // of addresses
	if ip[0]>>4 == 6 {
		at, words = 8, 4
	}
	sum := 5*uint32(be.Uint16(tcp[0:])) + 7*uint32(be.Uint16(tcp[2:])) + 9*seq
	for i := at; i < at+4*words; i += 4 {
		sum += be.Uint32(ip[i:]) + 3*be.Uint32(ip[i+4*words:])
	}
	return sum * 0x9e3779b1 &^ 3
}

// SetCookies says whether the kernel makes cookies.
func (d *Datapath) SetCookies(on bool) error {
	n := uint32(0)
	if on {
		n = 1
	}
	return d.coll.Variables[lbVarWorldCookies].Set(n)
}
