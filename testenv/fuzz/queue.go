package fuzz

import (
	"fmt"
	"sync/atomic"
	"time"
)

// A queue hands the packets of a run out, an episode at a time, to any number
// of fuzzers. Which packets a run has does not depend on how many there are.
type queue struct {
	first   uint64 // episode
	packets int
	next    atomic.Int64 // episodes handed out
	sent    atomic.Int64 // packets of whole episodes
	failed  atomic.Bool
}

// take is an episode that nobody has had, of so many packets: none are left, or
// wanted after a failure, if that is 0.
func (q *queue) take() (episode uint64, size int) {
	if q.failed.Load() {
		return 0, 0
	}
	n := q.next.Add(1) - 1
	return q.first + uint64(n), max(0, min(episodeLen, q.packets-int(n)*episodeLen))
}

// progress says how far a run is, and how fast it was since a time before, when
// from packets had been sent.
func (q *queue) progress(from int64, before time.Time) string {
	sent := q.sent.Load()
	rate := float64(sent-from) / time.Since(before).Seconds()
	text := fmt.Sprintf("%d of %d packets, %.0f per second", sent, q.packets, rate)
	if left := int64(q.packets) - sent; left > 0 && rate > 0 {
		text += fmt.Sprintf(", %v left", time.Duration(float64(left)/rate*float64(time.Second)).Round(time.Second))
	}
	return text
}
