package loader

import (
	"encoding/binary"
	"net/netip"
)

// Address is an address of either family, as maps of both have it: those of
// IPv4 are mapped into IPv6. The zero Address is none.
type Address = LBAddress

// AddressOf returns an address as the maps have it.
func AddressOf(a netip.Addr) Address {
	bytes := a.As16()
	var to Address
	for i := range to.Word {
		to.Word[i] = binary.NativeEndian.Uint32(bytes[4*i:])
	}
	return to
}

// mapped returns an IPv4 address that one of its own maps has as maps of both
// families have it.
func mapped(addr uint32) Address {
	return Address{Word: [4]uint32{2: 0xffff0000, 3: addr}} // both in network byte order
}

// Addr is the reverse of [AddressOf]; [netip.IPv6Unspecified] for none.
func (a LBAddress) Addr() netip.Addr {
	var bytes [16]byte
	for i, word := range a.Word {
		binary.NativeEndian.PutUint32(bytes[4*i:], word)
	}
	return netip.AddrFrom16(bytes).Unmap()
}
