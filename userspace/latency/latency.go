// Package latency counts how long something took, and tells what was usual over
// the past five minutes.
//
// A [Recorder] takes no lock: whoever records adds to a few counters. It has no
// clock of its own, and neither knows nor asks what it measures.
package latency

import (
	"math"
	"math/bits"
	"sync/atomic"
	"time"
)

// The past is that of Windows windows, the one that is not over yet included: what
// [Recorder.Recent] tells is of the last 290 to 300 seconds.
const (
	Window  = 10 * time.Second
	Windows = 30
)

// Bounds are those of the buckets of [Totals], each with its upper one.
var Bounds = ends[firstBound : firstBound+13]

// Durations fall into parts, of which ends has the upper bounds: 1, 2.5 and 5 of each
// power of ten. A part has as many cells of the same width, so the middle of a cell
// is within 1.5 % of whatever is in it, from a microsecond on. What is longer than
// the longest is taken for that.
const (
	partCells  = 50
	firstBound = 9 // of Bounds: a millisecond
)

var ends = func() (all [30]time.Duration) {
	for i := range all {
		all[i] = time.Microsecond * [...]time.Duration{10, 25, 50}[i%3] / 10
		for range i / 3 {
			all[i] *= 10
		}
	}
	return all
}()

// A scale is what a part's cells are found by: begin is where the part begins.
type scale struct {
	begin, perCell float64
	end            int64
}

var scales = func() (all [len(ends)]scale) {
	begin := time.Duration(0)
	for i, end := range ends {
		all[i] = scale{float64(begin), partCells / float64(end-begin), int64(end)}
		begin = end
	}
	return all
}()

// firstPart is where to look for durations of so many bits.
var firstPart = func() (all [65]uint8) {
	for n := range all {
		for int(all[n]) < len(ends)-1 && bits.Len64(uint64(ends[all[n]])) < n {
			all[n]++
		}
	}
	return all
}()

// A part is made when something of it is recorded first: what an idle Recorder takes
// are pointers, and what a busy one takes is for the parts that it meets.
type part [partCells]atomic.Uint64

// A spectrum counts by cells. The zero value is empty.
type spectrum [len(ends)]atomic.Pointer[part]

// counts are what is in the cells of a spectrum.
type counts [len(ends)][partCells]uint64

// A window is what was recorded in one window of time.
type window struct {
	number int64 // since epoch
	spectrum
}

// A Recorder counts durations. The zero value is empty, and it is safe for
// concurrent use. It must not be copied.
type Recorder struct {
	all    spectrum
	recent [Windows]atomic.Pointer[window] // by the window's number
	sum    atomic.Int64
}

// Totals count all durations since the Recorder was made.
type Totals struct {
	// Counts are by bucket of [Bounds], the last for more than all of them. They
	// may be nil if there is none.
	Counts []uint64
	Sum    time.Duration
	// Cells count the same finely: those that hold any, in order.
	Cells []Cell
}

// A Cell is how many durations were within 1.5 % of its Middle.
type Cell struct {
	Middle time.Duration
	Count  uint64
}

// A Summary is what was usual over the past five minutes: the durations that a
// half, 95 and 99 of 100 did not exceed, each within 1.5 %. All are 0 if there was
// none.
type Summary struct {
	Count            uint64
	Median, P95, P99 time.Duration
}

// epoch is when windows begin to be numbered.
var epoch = time.Now()

func windowAt(now time.Time) int64 { return int64(now.Sub(epoch) / Window) }

// Record adds something that took d and ended now.
func (r *Recorder) Record(d time.Duration, now time.Time) {
	p, cell := place(d)
	r.all.add(p, cell)
	r.window(windowAt(now)).add(p, cell)
	r.sum.Add(int64(d))
}

// window returns the one of a number, or the one that is in its place by now.
func (r *Recorder) window(number int64) *window {
	slot := &r.recent[uint64(number)%Windows]
	w := slot.Load()
	if w != nil && w.number >= number {
		return w
	}
	fresh := &window{number: number}
	if slot.CompareAndSwap(w, fresh) {
		return fresh
	}
	return slot.Load() // somebody was quicker
}

// Totals returns all that was recorded.
func (r *Recorder) Totals() Totals {
	all := Totals{Sum: time.Duration(r.sum.Load())}
	var n counts
	r.all.addTo(&n)
	all.Counts = make([]uint64, len(Bounds)+1)
	for p := range n {
		bucket := min(max(p-firstBound, 0), len(Bounds))
		for cell, c := range n[p] {
			if c > 0 {
				all.Counts[bucket] += c
				all.Cells = append(all.Cells, Cell{middleOf(p, cell), c})
			}
		}
	}
	return all
}

// Count returns how many durations were recorded.
func (r *Recorder) Count() (all uint64) {
	var n counts
	r.all.addTo(&n)
	for p := range n {
		for _, c := range n[p] {
			all += c
		}
	}
	return all
}

// Recent returns what was usual over the five minutes before now.
func (r *Recorder) Recent(now time.Time) Summary {
	var n counts
	last := windowAt(now)
	for i := range r.recent {
		if w := r.recent[i].Load(); w != nil && w.number > last-Windows && w.number <= last {
			w.addTo(&n)
		}
	}
	var s Summary
	for p := range n {
		for _, c := range n[p] {
			s.Count += c
		}
	}
	if s.Count > 0 {
		s.Median, s.P95, s.P99 = n.quantile(s.Count, 0.5), n.quantile(s.Count, 0.95), n.quantile(s.Count, 0.99)
	}
	return s
}

// quantile returns what a part q of all, which are so many, did not exceed.
func (n *counts) quantile(all uint64, q float64) time.Duration {
	rank := max(1, uint64(math.Ceil(q*float64(all))))
	for p := range n {
		for cell, c := range n[p] {
			if c >= rank {
				return middleOf(p, cell)
			}
			rank -= c
		}
	}
	return ends[len(ends)-1]
}

func (s *spectrum) add(p, cell int) {
	at := s[p].Load()
	if at == nil {
		s[p].CompareAndSwap(nil, &part{})
		at = s[p].Load()
	}
	at[cell].Add(1)
}

func (s *spectrum) addTo(n *counts) {
	for p := range s {
		if at := s[p].Load(); at != nil {
			for cell := range at {
				n[p][cell] += at[cell].Load()
			}
		}
	}
}

// place returns where a duration is counted.
func place(d time.Duration) (p, cell int) {
	p = int(firstPart[bits.Len64(uint64(max(d, 0)))])
	for int64(d) > scales[p].end && p < len(scales)-1 {
		p++
	}
	s := &scales[p]
	// What ends a cell belongs to it, as it does to a bucket.
	return p, min(max(int((float64(d)-1-s.begin)*s.perCell), 0), partCells-1)
}

func middleOf(p, cell int) time.Duration {
	s := &scales[p]
	return time.Duration(math.Round(s.begin + (float64(cell)+0.5)/s.perCell))
}
