package balance

import "fairlead/userspace/model"

// Slots returns the slot table of a service whose backends have these weights
// by now, as indexes of its backends: what the kernel and the proxies choose
// from. Who has a weight of 0 is not in it.
//
// It is [Maglev]'s for the methods that hash, has every backend once for
// [model.LeastConnections], and is [RoundRobin]'s for all others.
func Slots(s *model.Service, weights []int) []uint32 {
	switch b := &s.Balance; {
	case b.Method.Hashes():
		members := make([]Member, len(weights))
		for i, w := range weights {
			members[i] = Member{Address: s.Backends[i].Address, Weight: w}
		}
		return Maglev(members, b.Slots(), b.Seed)
	case b.Method == model.LeastConnections:
		slots := make([]uint32, 0, len(weights))
		for i, w := range weights {
			if w > 0 {
				slots = append(slots, uint32(i))
			}
		}
		return slots
	}
	return RoundRobin(weights)
}

// MostSlots returns how many slots the table of a service has at most, whoever
// is down and whatever the shares.
func MostSlots(s *model.Service) int {
	if s.Balance.Method.Hashes() {
		return s.Balance.Slots()
	}
	n := len(Slots(s, Weights(s.Backends, nil)))
	if s.Balance.Method != model.LeastConnections && (s.SlowStart > 0 || s.Balance.Method == model.ResponseTime) {
		n = min(Whole*n, max(maxSlots, n))
	}
	return n
}
