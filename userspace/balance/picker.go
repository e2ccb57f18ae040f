package balance

import "sync/atomic"

// A Picker takes turns over a table of slots. It may be used by any number of
// goroutines at once; together they see every slot in turn.
type Picker struct {
	slots []uint32
	next  atomic.Uint64
}

// NewPicker returns a picker over slots, which must not change any more.
func NewPicker(slots []uint32) *Picker { return &Picker{slots: slots} }

// Pick returns the index in the next slot that skip does not want skipped, or
// false if there is none. A nil skip skips nothing. Skipped slots have had
// their turn: what they would have got is shared by all others, not taken by
// the one behind them. Skip may be called more than once for an index.
func (p *Picker) Pick(skip func(i uint32) bool) (uint32, bool) {
	for {
		next := p.next.Load()
		i, turns, ok := p.find(next, skip)
		if !ok {
			return 0, false
		}
		if p.next.CompareAndSwap(next, next+turns) {
			return i, true
		}
	}
}

// find looks for an index from turn next on, and says how many turns it took.
func (p *Picker) find(next uint64, skip func(i uint32) bool) (i uint32, turns uint64, ok bool) {
	n := uint64(len(p.slots))
	for turns = range n {
		i = p.slots[(next+turns)%n]
		if skip == nil || !skip(i) {
			return i, turns + 1, true
		}
	}
	return 0, 0, false
}
