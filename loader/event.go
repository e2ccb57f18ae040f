package loader

import (
	"fmt"
	"math/bits"
	"runtime"
	"time"
)

// EventCounts are events of flows that the kernel has written, and those that it had no
// room for, since the maps were made.
type EventCounts struct {
	Begun, Ended, BegunLost, EndedLost uint64
}

// ReadEventCounts returns them.
func (m *Maps) ReadEventCounts() (EventCounts, error) {
	var sums [LBEventCountEVENTS_MAX]uint64
	err := wrap(sumRows(m.EventCounts, sums[:]), "read counts of events")
	return EventCounts{
		sums[LBEventCountEVENTS_BEGUN], sums[LBEventCountEVENTS_ENDED],
		sums[LBEventCountEVENTS_BEGUN_LOST], sums[LBEventCountEVENTS_ENDED_LOST],
	}, err
}

// ReadEventSample returns of how many flows one is told of by events; 0: none.
func (m *Maps) ReadEventSample() (n uint32, err error) {
	return n, wrap(m.EventSample.Lookup(uint32(0), &n), "read sample of events")
}

// SetEventSample sets that, unless it is so.
func (m *Maps) SetEventSample(n uint32) error {
	if have, err := m.ReadEventSample(); err != nil || have == n {
		return err
	}
	if err := m.EventSample.Put(uint32(0), n); err != nil {
		return fmt.Errorf("set sample of events: %w", err)
	}
	return nil
}

// When returns the time of an event, by the clock of this machine.
func (e *LBEvent) When() time.Time {
	return time.Now().Add(-time.Duration(int64(monotonic() - e.Time)))
}

// Sampled reports whether the flow of a forward entry is one of those that events tell
// of when they tell of one in so many: docs/datapath.md, rule 15.
func (v *ControlView) Sampled(e *Entry, sample uint32) bool {
	return sample != 0 && v.hash(e)%uint64(sample) == 0
}

// hash returns the hash of an entry's key: rules 8 and 10.6.
func (v *ControlView) hash(e *Entry) uint64 {
	defer runtime.KeepAlive(v)
	c, k := v.c, &e.Key
	ports := uint64(k.Sport) | uint64(k.Dport)<<16 | uint64(k.Proto)<<32
	g := (uint64(k.Saddr.Word[3])|uint64(k.Daddr.Word[3])<<32)*c.HashA + ports*c.HashB
	if e.wide {
		src, dst := &k.Saddr.Word, &k.Daddr.Word
		g = half(src[0], src[1])*c.HashA + half(src[2], src[3])*c.HashB + half(dst[0], dst[1])*c.HashC + half(dst[2], dst[3])*c.HashD + ports*c.HashE
	}
	return (g ^ g>>32) * c.HashB
}

// half returns two words of an address as the integer that they are on the wire.
func half(a, b uint32) uint64 { return bits.ReverseBytes64(uint64(a) | uint64(b)<<32) }
