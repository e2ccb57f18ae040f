package lbtest

import (
	"encoding/binary"
	"net/netip"

	"fairlead/loader"
)

// clientHash is the hash of a client, in words of its own.
func clientHash(seed uint64, proto uint8, src, dst netip.AddrPort) uint64 {
	a, b := src.Addr().As16(), dst.Addr().As16()
	bytes := append(a[:], b[:]...)
	bytes = append(bytes, 0, 0, 0, proto)
	bytes = binary.BigEndian.AppendUint16(bytes, src.Port())
	bytes = binary.BigEndian.AppendUint16(bytes, dst.Port())
	h := seed
	for ; len(bytes) > 0; bytes = bytes[8:] {
		h = finalize(h ^ binary.BigEndian.Uint64(bytes))
	}
	return h
}

func finalize(x uint64) uint64 {
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}

// balanced gives the web service eight slots, of both backends in turn, and
// another way to choose among them.
func balanced(how loader.LBBalance, edit func(*loader.Service)) func(*world) {
	return func(w *world) {
		w.tb.Helper()
		for i := range uint32(8) {
			w.put(loader.LBMapSlots, 8+i, 2+i%2)
		}
		w.service(1, web, tcp, func(s *loader.Service) {
			s.Slots, s.SlotsAll = 8<<32|8, 8<<32|8
			s.Balance = uint8(how)
			s.SourceMask = loader.AddressOf(netip.MustParseAddr("255.255.255.0"))
			edit(s)
		})
	}
}

// takes is a SYN of somebody whose flow gets the backend of a slot.
func takes(name string, from netip.AddrPort, slot uint64, given ...func(*world)) row {
	backend, counts := back1, made("2", 48)
	if slot%2 == 1 {
		backend, counts = back2, made("3", 48)
	}
	known := func(w *world) {
		w.tb.Helper()
		w.route(from, RouteFound, Ingress)
	}
	return row{name: name, given: then(append(given, known)...), want: loader.LBVerdictFORWARD_REDIRECT,
		frame: segment(from, web, syn), out: leaving(from, backend, syn), egress: uplink, counts: counts}
}

// at is an address of the client's kind with other last bytes, and a port.
func at(third, fourth byte, port uint16) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, third, fourth}), port)
}

// random says what the next random numbers are: their lowest bits.
func random(bits ...uint32) func(*world) {
	return func(w *world) {
		w.tb.Helper()
		is := func(state uint32) bool {
			for _, bit := range bits {
				if state = state*1664525 + 1013904223; state>>16&1 != bit {
					return false
				}
			}
			return true
		}
		state := uint32(0)
		for !is(state) {
			state++
		}
		w.must(w.SetRandom(state))
	}
}

// turn says whose turn it is at the web service.
func turn(n uint64) func(*world) {
	return func(w *world) {
		w.tb.Helper()
		w.put(loader.LBMapTurns, uint32(1), n)
	}
}

// balanceRows are about ways to choose a backend that look at no other flow.
func balanceRows() []row {
	const hash, source = loader.LBBalanceBALANCE_HASH, loader.LBBalanceBALANCE_SOURCE_HASH
	seeded := func(seed uint64) func(*loader.Service) {
		return func(s *loader.Service) { s.Seed = seed }
	}
	rows := []row{
		takes("an even random number", client, 0, balanced(loader.LBBalanceBALANCE_RANDOM, unchanged), random(0)),
		takes("an odd random number", client, 1, balanced(loader.LBBalanceBALANCE_RANDOM, unchanged), random(1)),
		takes("a random number takes no turn", client, 1, balanced(loader.LBBalanceBALANCE_RANDOM, unchanged),
			random(0), opens(1), balanced(loader.LBBalanceBALANCE_ROUND_ROBIN, unchanged),
			turn(1)),
		takes("a way to choose that there is not is to take turns", client, 0, balanced(99, unchanged), random(1)),
	}
	for i := range uint16(4) {
		from, seed := at(100, 1, 40000+i), uint64(i/2)*0x123456789abcdef
		first := clientHash(seed, tcp, from, web)
		net := clientHash(seed, tcp, at(100+byte(i), 0, 0), web)
		name := from.String()
		rows = append(rows,
			takes("the hash of "+name, from, first%8, balanced(hash, seeded(seed))),
			takes("the hash of the network of "+name, at(100+byte(i), byte(i), 40000), net%8, balanced(source, seeded(seed))))
		down := func(w *world) {
			w.tb.Helper()
			w.put(loader.LBMapSlots, uint32(8+first%8), uint32(slotUnset))
		}
		if next := finalize(first + 1); next%8 != first%8 {
			rows = append(rows, takes("the slot after that of "+name, from, next%8, balanced(hash, seeded(seed)), down))
		}
	}
	return rows
}
