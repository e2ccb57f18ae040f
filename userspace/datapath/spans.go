package datapath

import "slices"

// A span is a stretch of a map.
type span struct{ at, n uint32 }

// tableSpan returns where a service's table lies, as its row names it.
func tableSpan(table uint64) span { return span{uint32(table >> 32), uint32(table)} }

// freeSpans returns the stretches of the slots map that no service uses, beside
// those in limbo.
func freeSpans(r *rows, limbo []span) []span {
	taken := slices.Grow(slices.Clone(limbo), len(r.services))
	for i := range r.services {
		s := &r.services[i]
		for k, t := range [...]uint64{s.Slots, s.SlotsAll} {
			if s.State != serviceNone && t&0xffffffff != 0 && (k == 0 || t != s.Slots) {
				taken = append(taken, tableSpan(t))
			}
		}
	}
	return gaps(taken, uint32(len(r.slots)))
}

// gaps returns what is free of a map of n entries, beside what is taken.
func gaps(taken []span, n uint32) []span {
	slices.SortFunc(taken, func(a, b span) int { return int(a.at) - int(b.at) })
	var free []span
	next := uint32(0)
	for _, t := range taken {
		if t.at > next {
			free = append(free, span{next, t.at - next})
		}
		next = max(next, t.at+t.n)
	}
	if n > next {
		free = append(free, span{next, n - next})
	}
	return free
}

// cut takes n entries off the smallest of the free spans that have so many, so
// that large ones stay whole.
func cut(free []span, n uint32) (at uint32, ok bool) {
	var best *span
	for i := range free {
		if s := &free[i]; s.n >= n && (best == nil || s.n < best.n) {
			best = s
		}
	}
	if best == nil {
		return 0, false
	}
	at = best.at
	best.at += n
	best.n -= n
	return at, true
}
