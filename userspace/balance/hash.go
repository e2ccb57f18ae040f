package balance

import (
	"encoding/binary"
	"net/netip"

	"fairlead/userspace/model"
)

// Hash returns the hash of a client that makes a flow to local, by which the
// kernel and the proxies choose a slot for it: docs/datapath.md, rule 3, says
// how. Both addresses may be IPv4 ones that are written as IPv6.
func Hash(s *model.Service, client, local netip.AddrPort) uint64 {
	from, rest := client.Addr().Unmap(), uint64(s.Protocol.Number())<<32|uint64(local.Port())
	if s.Balance.Method == model.SourceHash {
		from = network(s, from)
	} else {
		rest |= uint64(client.Port()) << 16
	}
	return scatter(mixAddr(mixAddr(s.Balance.Seed, from), local.Addr()) ^ rest)
}

// Rehash returns the hash for the slot after the one that h is for.
func Rehash(h uint64) uint64 { return scatter(h + 1) }

// network returns the part of a client's address that stands for it.
func network(s *model.Service, client netip.Addr) netip.Addr {
	if s.SourcePrefix == 0 {
		return client
	}
	p, err := client.Prefix(s.SourcePrefix)
	if err != nil {
		return client // of another family than the service
	}
	return p.Addr()
}

// mixAddr mixes an address into h.
func mixAddr(h uint64, a netip.Addr) uint64 {
	b := a.As16()
	h = scatter(h ^ binary.BigEndian.Uint64(b[:8]))
	return scatter(h ^ binary.BigEndian.Uint64(b[8:]))
}

// scatter lets each bit of x change every other one by half a chance: the
// finalizer of MurmurHash3 (Appleby).
func scatter(x uint64) uint64 {
	x = (x ^ x>>33) * 0xff51afd7ed558ccd
	x = (x ^ x>>33) * 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}
