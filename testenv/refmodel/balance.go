package refmodel

import "slices"

// boundSlots is how many slots are looked at for a backend that has room.
const boundSlots = 8

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
	if how == BalanceHash && a.s.MaxLoad != 0 {
		return a.bounded()
	}
	if how == BalanceLeast && n > leastSlots {
		how = BalanceP2C
	}
	switch how {
	case BalanceRandom:
		return a.slot(uint64(a.Random()) % n)
	case BalanceHash, BalanceSourceHash:
		return a.slot(a.hashed())
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
	if !first || a.s.Affinity == 0 || !known || !fresh || b.Gen != tie.Gen || b.Weight == 0 || b.Unsure || !a.canServe(b) {
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

// hashed is the number of the next slot of the client in the run.
func (a *attempt) hashed() uint64 {
	h := a.client
	a.client = scatter(h + 1)
	return h % uint64(a.run.Length)
}

// bounded is the first backend of the client's next slots that has room, or the
// best of them.
func (a *attempt) bounded() (row uint32, ok bool) {
	weights := a.s.Weights
	if a.allUp {
		weights = a.s.WeightsAll
	}
	all := uint64(a.ConnectedTo(a.row))
	var seen []uint64
	for range boundSlots {
		number := a.hashed()
		seen = append(seen, number)
		row, ok := a.slot(number)
		if !ok || !a.mayTake(row) {
			continue
		}
		if uint64(a.Connected(row))*100*uint64(weights) < uint64(a.s.MaxLoad)*(all+1)*uint64(a.backend(row).Weight) {
			a.tried = append(a.tried, row)
			return row, true
		}
	}
	return a.best(seen...)
}

// turn is that of who has the run, which is taken.
func (a *attempt) turn() uint64 {
	a.Turns[a.chooser]++
	return a.Turns[a.chooser] - 1
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
		if !there || !a.mayTake(row) {
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

// mayTake says that a backend can serve and was not tried before.
func (a *attempt) mayTake(row uint32) bool {
	return a.canServe(a.backend(row)) && !slices.Contains(a.tried, row)
}

// load is how busy a backend is with half a connection more. Loads are compared
// by weight, crosswise: there are no fractions.
func (a *attempt) load(row, weightOf uint32) uint64 {
	return (2*uint64(a.Connected(row)) + 1) * uint64(a.backend(weightOf).Weight)
}

// canServe says that a backend may get a flow of the service.
func (a *attempt) canServe(b Backend) bool {
	return b.Service == a.row && a.p.serves(b) && (b.State == BackendUp || b.State == BackendDown && a.allUp)
}

// Connected is how many connections the backend in a row has: the forward
// entries that name it and are not over.
func (m *Model) Connected(row uint32) uint32 {
	return m.countFlows(func(f *Flow) bool { return f.Backend == row && f.BackendGen == m.backend(row).Gen })
}

// ConnectedTo is the same of a service.
func (m *Model) ConnectedTo(row uint32) uint32 {
	return m.countFlows(func(f *Flow) bool { return f.Service == row && f.ServiceGen == m.service(row).Gen })
}

// countFlows counts the flows that are not over.
func (m *Model) countFlows(which func(*Flow) bool) (n uint32) {
	for _, table := range []Table{m.Flows, m.Flows6} {
		for _, bucket := range table {
			for _, f := range bucket {
				if f != nil && f.Dir == Forward && !f.over() && which(f) {
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
