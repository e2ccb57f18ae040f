package balance

import (
	"net/netip"
	"slices"
)

// A Member is a backend as a Maglev table knows it.
type Member struct {
	Address netip.AddrPort // what it is known by on every balancer
	Weight  int            // 0 or less: it is absent
}

// Maglev returns a table of size slots, a prime, that hardly changes when a
// member comes or goes: the one of Eisenbud et al., Maglev: A Fast and Reliable
// Software Network Load Balancer, NSDI 2016, section 3.4. Without a member of
// positive weight it is empty.
//
// Each member has an order of its own in which it likes the slots, made of its
// address and the seed alone, and they take turns at taking the next one that is
// free. Weights say how often it is a member's turn, and how many slots it gets:
// its share, rounded up or down. Neither the order of members nor anything
// of this host matters, so balancers that have the same members, weights, size
// and seed have the same table.
func Maglev(members []Member, size int, seed uint64) []uint32 {
	takers, most := takersOf(members, size, seed)
	if len(takers) == 0 {
		return []uint32{}
	}
	const free = ^uint32(0)
	slots := make([]uint32, size)
	for i := range slots {
		slots[i] = free
	}
	for left := size; ; {
		for i := range takers {
			t := &takers[i]
			if t.credit += t.weight; t.credit < most || t.quota == 0 {
				continue
			}
			t.credit -= most
			t.quota--
			for slots[t.at] != free {
				t.next(size)
			}
			slots[t.at] = t.index
			if left--; left == 0 {
				return slots
			}
		}
	}
}

// A taker is a member while slots are given away.
type taker struct {
	index          uint32
	weight, credit int // a turn costs the largest weight
	quota          int // slots to get yet
	at, skip       int // the slot that it likes best of those not tried, and the way to the next
}

func (t *taker) next(size int) {
	if t.at += t.skip; t.at >= size {
		t.at -= size
	}
}

// takersOf returns the members that are present, in an order that is the same
// everywhere, and the largest weight.
func takersOf(members []Member, size int, seed uint64) (takers []taker, most int) {
	order := make([]int, 0, len(members))
	for i, m := range members {
		if m.Weight > 0 {
			order = append(order, i)
			most = max(most, m.Weight)
		}
	}
	if len(order) == 0 {
		return nil, 0
	}
	slices.SortFunc(order, func(a, b int) int { return members[a].Address.Compare(members[b].Address) })
	quotas := quotasOf(members, order, size)
	for k, i := range order {
		at := members[i].Address
		h := scatter(mixAddr(seed, at.Addr()) ^ uint64(at.Port()))
		takers = append(takers, taker{
			index: uint32(i), weight: members[i].Weight, quota: quotas[k],
			at: int(uint32(h)) % size, skip: 1 + int(h>>32)%max(size-1, 1),
		})
	}
	return takers, most
}

// quotasOf returns how many slots members get, in an order: their share by weight,
// rounded up for those whose fractions are largest (Hamilton's method), the
// first ones of the same.
func quotasOf(members []Member, order []int, size int) []int {
	total, left := 0, size
	for _, i := range order {
		total += members[i].Weight
	}
	quotas, ranks := make([]int, len(order)), make([]int, len(order))
	for k, i := range order {
		quotas[k] = size * members[i].Weight / total
		left -= quotas[k]
		ranks[k] = k
	}
	fraction := func(k int) int { return size * members[order[k]].Weight % total }
	slices.SortStableFunc(ranks, func(a, b int) int { return fraction(b) - fraction(a) })
	for _, k := range ranks[:left] {
		quotas[k]++
	}
	return quotas
}
