// Package balance turns the weights of backends into tables of slots, and
// takes turns over such a table.
//
// A slot holds the index of a backend; how often a backend stands in the table
// is its share. The kernel walks its copy of a table by itself; the proxies in
// user space walk theirs with a [Picker]. The package knows neither backends
// nor their health: who is down is left out of the weights, or skipped.
package balance

import (
	"math"
	"sort"
)

// maxSlots bounds a table whose weights do not have it larger by their number.
const maxSlots = 65536

// RoundRobin returns a table in which index i stands weights[i] times, divided
// by the greatest common divisor of all weights. One walk over the table is
// exact. Indexes with a weight of 0 or less are absent; without any other the
// table is empty.
//
// The turns are interleaved: the order is that of the smooth weighted round
// robin of nginx (commit 52327e0627, 2012), in which each turn adds its weight
// to every entry and takes the total from the winner. Here the entries are
// groups of equal weight, whose members take turns: that is faster for many
// backends and spreads at least as well.
//
// A table has at most 65536 slots, or one per index when there are more of
// them. Weights that ask for more are scaled and rounded, down to no less than
// one slot: nobody vanishes, and who had a large weight is off by at most half
// a slot.
func RoundRobin(weights []int) []uint32 {
	groups, total := group(scale(weights))
	slots := make([]uint32, 0, total)
	for range total {
		slots = append(slots, turn(groups, total))
	}
	return slots
}

// An entry is the indexes of one weight.
type entry struct {
	members []uint32
	next    int // the member whose turn it is
	weight  int // of all members together
	current int
}

// turn returns the index that comes next.
func turn(groups []*entry, total int) uint32 {
	var best *entry
	for _, g := range groups {
		g.current += g.weight
		if best == nil || g.current > best.current {
			best = g
		}
	}
	best.current -= total
	member := best.members[best.next]
	best.next = (best.next + 1) % len(best.members)
	return member
}

// group gathers the indexes of each positive weight, in the order of their
// first members, and returns the sum of all weights.
func group(weights []int) (groups []*entry, total int) {
	byWeight := make(map[int]*entry)
	for i, w := range weights {
		if w <= 0 {
			continue
		}
		g := byWeight[w]
		if g == nil {
			g = &entry{}
			byWeight[w] = g
			groups = append(groups, g)
		}
		g.members = append(g.members, uint32(i))
		g.weight += w
		total += w
	}
	return groups, total
}

// scale divides weights by their greatest common divisor and, if their sum is
// still larger than a table may be, by the least number that makes it fit. The
// rounding is Webster's method of apportionment with at least one slot each.
func scale(weights []int) []int {
	divisor, largest, total := 0, 0, 0
	for _, w := range weights {
		if w > 0 {
			divisor = gcd(divisor, w)
			largest = max(largest, w)
			total += w
		}
	}
	if divisor == 0 {
		return nil
	}
	round := func(w int) int { return w / divisor }
	if total/divisor > maxSlots {
		// Divisors are tried in steps of 1/65536.
		const unit = 65536
		by := func(d int) func(int) int {
			return func(w int) int { return max(1, (w*unit+d/2)/d) }
		}
		round = by(sort.Search(largest*unit, func(d int) bool {
			return d > 0 && sum(weights, by(d)) <= maxSlots
		}))
	}
	scaled := make([]int, len(weights))
	for i, w := range weights {
		if w > 0 {
			scaled[i] = round(w)
		}
	}
	return scaled
}

// Moved returns how many slots of one table another one gives to somebody else,
// where only the share counts, as it does for who takes turns. It is fractional
// where the tables differ in length: a third of three slots that becomes a
// quarter of four has lost a quarter of a slot.
func Moved(before, after []uint32) float64 {
	lost := map[uint32]float64{}
	for _, i := range before {
		lost[i]++
	}
	for _, i := range after {
		lost[i] -= float64(len(before)) / float64(len(after))
	}
	moved := 0.0
	for _, n := range lost {
		moved += max(0, n)
	}
	return math.Round(moved*1e6) / 1e6
}

// sum adds up what round makes of the positive weights.
func sum(weights []int, round func(int) int) int {
	total := 0
	for _, w := range weights {
		if w > 0 {
			total += round(w)
		}
	}
	return total
}

// gcd returns the greatest common divisor of a and b, the other if one is 0.
func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}
