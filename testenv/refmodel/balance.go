package refmodel

// next is the number of the next slot in the run, as the service has it.
func (a *attempt) next() uint64 {
	n := uint64(a.run.Length)
	switch a.s.Balance {
	case BalanceRandom:
		return uint64(a.Random()) % n
	case BalanceHash, BalanceSourceHash:
		h := a.client
		a.client = scatter(h + 1)
		return h % n
	}
	turn := a.Turns[a.row]
	a.Turns[a.row]++
	return turn % n
}

// hash is the hash of a client.
func (s Service) hash(client Tuple) uint64 {
	if s.Balance == BalanceSourceHash {
		client.Src, client.SPort = And(client.Src, s.SourceMask), 0
	}
	src, dst := client.Src.As16(), client.Dst.As16()
	h := s.Seed
	for _, part := range []uint64{
		be.Uint64(src[:8]), be.Uint64(src[8:]), be.Uint64(dst[:8]), be.Uint64(dst[8:]),
		uint64(client.Proto)<<32 | uint64(client.SPort)<<16 | uint64(client.DPort),
	} {
		h = scatter(h ^ part)
	}
	return h
}

// scatter is the finalizer of MurmurHash3.
func scatter(x uint64) uint64 {
	for _, factor := range []uint64{0xff51afd7ed558ccd, 0xc4ceb9fe1a85ec53} {
		x = (x ^ x>>33) * factor
	}
	return x ^ x>>33
}
