package fuzz

import (
	"maps"
	"slices"
)

func (s state) equal(t state) bool {
	return maps.Equal(s.Flows, t.Flows) && slices.Equal(s.Turns, t.Turns) && slices.Equal(s.Verdicts, t.Verdicts) &&
		slices.Equal(s.ServiceCounters, t.ServiceCounters) && slices.Equal(s.BackendCounters, t.BackendCounters) &&
		s.Replies == t.Replies && slices.Equal(s.Faults, t.Faults)
}
