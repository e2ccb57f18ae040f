package datapath

import (
	"testing"

	"fairlead/loader"
)

// TestAge: while a table is read, its flows have packets, and ticks wrap.
func TestAge(t *testing.T) {
	for _, row := range []struct{ now, tick, want uint32 }{
		{1000, 990, 10},
		{1000, 1000, 0},
		{1000, 5000, 0},
		{5, 1<<32 - 5, 10},
		{1<<32 - 5, 700, 0},
	} {
		at := moment{now: row.now, era: 1, hz: 250}
		if got := at.age(row.tick); got != row.want {
			t.Errorf("at %d, %d is %d ticks old, want %d", row.now, row.tick, got, row.want)
		}
	}
	at := moment{now: 1000, era: 1, hz: 250}
	busy := loader.Entry{Flow6: loader.Flow6{Idle: 500}, Stamp: loader.Stamp{Seen: 2000, Era: 1}}
	if at.expired(&busy) {
		t.Error("a flow that had a packet after the clock was read has expired")
	}
}
