package fuzz

import (
	"math/bits"
	"math/rand/v2"

	m "fairlead/testenv/refmodel"
)

// setBalance gives a service another way to choose a backend, rarely one that
// there is not.
func (w *world) setBalance(r *rand.Rand, s *m.Service) {
	s.Balance = uint8(r.IntN(4))
	if oneIn(r, 16) {
		s.Balance = 255
	}
	s.Seed = pick(r, []uint64{0, 7, r.Uint64()})
	s.SourceMask = w.mask(pick(r, w.limits))
}

// nextRandom is env_random of bpf/test/env.h.
func (w *world) nextRandom() uint32 {
	w.random = w.random*1664525 + 1013904223
	return bits.RotateLeft32(w.random, 16)
}
