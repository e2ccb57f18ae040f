package refmodel

import "slices"

// leastSlots is the longest run of which BalanceLeast looks at all slots.
const leastSlots = 4096

// choose is the row of backends that a try takes, as the service has it. Not ok
// says that there is none.
func (a *attempt) choose() (row uint32, ok bool) {
	if row, ok := a.tied(); ok {
		return row, true
	}
	n := uint64(a.run.Length)
	how := a.s.Balance
	if how == BalanceLeast && n > leastSlots {
		how = BalanceP2C
	}
	switch how {
	case BalanceRandom:
		return a.slot(uint64(a.Random()) % n)
	case BalanceHash, BalanceSourceHash:
		h := a.client
		a.client = scatter(h + 1)
		return a.slot(h % n)
	case BalanceP2C:
		first := uint64(a.Random()) % n
		return a.best(first, uint64(a.Random())%n)
	case BalanceLeast:
		first := a.turn() % n
		var all []uint64
		for i := range n {
			all = append(all, (first+i)%n)
		}
		return a.best(all...)
	}
	return a.slot(a.turn() % n)
}

// tied is the row of the backend that the client stays with, in the first try.
func (a *attempt) tied() (row uint32, ok bool) {
	tie, known := a.Ties[a.network()]
	first := !a.begun
	a.begun = true
	b := a.backend(tie.Backend)
	fresh := uint64(a.age(tie.Tick)) <= uint64(a.s.Affinity)*uint64(a.Control.Hz)
	if !first || a.s.Affinity == 0 || !known || !fresh || b.Gen != tie.Gen || b.Weight == 0 || !a.canServe(b) {
		return 0, false
	}
	a.tried = append(a.tried, tie.Backend)
	return tie.Backend, true
}

// tie lets the client stay with the backend of a flow.
func (a *attempt) tie(f *Flow) {
	if a.s.Affinity != 0 {
		a.Ties[a.network()] = Tie{Backend: f.Backend, Gen: f.BackendGen, Tick: a.Now}
	}
}

// network is the client's.
func (a *attempt) network() Source {
	return Source{Service: a.row, Net: And(a.p.tuple.Src, a.s.SourceMask)}
}

// turn is the service's, which is taken.
func (a *attempt) turn() uint64 {
	a.Turns[a.row]++
	return a.Turns[a.row] - 1
}

// slot is the row of backends in a slot of the run.
func (a *attempt) slot(number uint64) (row uint32, ok bool) {
	at := uint64(a.run.Offset) + number
	if at >= uint64(len(a.Slots)) {
		return 0, false
	}
	return a.Slots[at], true
}

// best is the backend with the fewest connections for its weight, in any of
// these slots of the run, that was not tried before.
func (a *attempt) best(numbers ...uint64) (best uint32, ok bool) {
	for _, number := range numbers {
		row, there := a.slot(number)
		if !there || !a.canServe(a.backend(row)) || slices.Contains(a.tried, row) {
			continue
		}
		if !ok || a.load(row, best) < a.load(best, row) {
			best, ok = row, true
		}
	}
	if ok {
		a.tried = append(a.tried, best)
	}
	return best, ok
}

// load is what a backend would have with one connection more. Loads are compared
// by weight, crosswise: there are no fractions.
func (a *attempt) load(row, weightOf uint32) uint64 {
	return (uint64(a.Connected(row)) + 1) * uint64(a.backend(weightOf).Weight)
}

// canServe says that a backend may get a flow of the service.
func (a *attempt) canServe(b Backend) bool {
	return b.Service == a.row && (b.State == BackendUp || b.State == BackendDown && a.allUp)
}

// Connected is how many connections the backend in a row has: the forward
// entries that name it and are not over.
func (m *Model) Connected(row uint32) uint32 {
	n := uint32(0)
	for _, table := range []Table{m.Flows, m.Flows6} {
		for _, bucket := range table {
			for _, f := range bucket {
				if f != nil && f.Dir == Forward && !f.over() && f.Backend == row && f.BackendGen == m.backend(row).Gen {
					n++
				}
			}
		}
	}
	return n
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
