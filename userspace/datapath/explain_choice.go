package datapath

import (
	"fmt"
	"slices"

	"fairlead/loader"
	"fairlead/userspace/balance"
	"fairlead/userspace/model"
)

// A Choice is the search for a backend.
type Choice struct {
	Balance string `json:"balance"`
	// Promise says that the same packet will get the same backend as long as
	// nothing else changes; otherwise another packet may come first.
	Promise bool `json:"promise"`
	Slots   int  `json:"slots"` // length of the slot table; 0: nobody can serve
	// MaxLoad bounds the flows of a backend, in percent of the mean; 0: no bound.
	MaxLoad uint32 `json:"max_load,omitempty"`
	// AllUp says that backends count as up because the agent is lost.
	AllUp bool    `json:"all_up"`
	Tries []Try   `json:"tries"`
	Rest  []Other `json:"not_chosen"`
}

// A Try is one of those backends that are tried in turn.
type Try struct {
	Slot    *int   `json:"slot"`           // nil: chosen by affinity, or as the least busy of several
	Beside  *int   `json:"beside"`         // the slot that p2c compared it with
	Hash    string `json:"hash,omitempty"` // that led to the slot
	Turn    uint64 `json:"turn,omitempty"` // the same
	Backend string `json:"backend"`        // "" if the slot names none
	Verdict string `json:"verdict"`        // what the packet gets by it
	Tied    bool   `json:"tied,omitempty"` // by affinity
	Load
	row uint32
}

// An Other is a backend that was not chosen.
type Other struct {
	Backend string `json:"backend"`
	Why     Why    `json:"why"`
	Zone    string `json:"zone,omitempty"` // of WhyZone
	Load
}

// A Load is what a backend has to do.
type Load struct {
	Connections uint32 `json:"connections"`
	Weight      uint32 `json:"weight"` // that the kernel goes by
}

// Why says why a backend is not chosen.
type Why string

// Reasons. An agent knows which of the last ones [WhyNoWeight] stands for.
const (
	WhyDown       Why = "down"
	WhyClientZone Why = "client_zone"   // other backends are preferred for the client's zone
	WhyNoWeight   Why = "no_weight"     // it is not to have new flows
	WhyOver       Why = "over_max_load" // passed over for its load
	WhyBusier     Why = "busier"        // than the other one that p2c has drawn
	WhyNotChosen  Why = "not_chosen"    // it can serve, but another one is chosen
	WhyDraining   Why = "draining"      // its weight is 0 by the configuration
	WhyLeaving    Why = "leaving"       // the configuration has it no more
	WhyBackup     Why = "backup"        // it waits as a backup
	WhyZone       Why = "zone"          // it waits in another zone, or in none
)

// choice tells how a backend is looked for; connections are those of backends.
func (r *rows) choice(a *loader.Answer, q loader.Question, connections []loader.Connections) *Choice {
	s := &r.services[a.Service]
	c := &Choice{
		Balance: loader.Balance(s.Balance).String(), Slots: int(uint32(a.Run)), MaxLoad: s.MaxLoad, AllUp: a.AllUp != 0,
		Promise: hashes(s) && s.MaxLoad == 0 && s.Affinity == 0, Tries: []Try{}, Rest: []Other{},
	}
	load := func(row uint32) (l Load) {
		if int(row) < len(r.backends) {
			l = Load{connections[row].Of(r.backends[row].Gen), r.backends[row].Weight}
		}
		return l
	}
	tried := map[uint32]bool{}
	for i := range min(int(a.Tries), len(a.Attempts)) {
		t := r.try(a, i, s)
		t.Load = load(t.row)
		tried[t.row] = true
		c.Tries = append(c.Tries, t)
	}
	c.Promise = c.Promise || len(c.Tries) == 1 && c.Tries[0].Tied
	reasons, run := r.lookedAt(a, q, s), r.at(a.Run)
	for i := range r.backends {
		row, b := uint32(i), &r.backends[i]
		if b.State != backendNone && b.Service == a.Service && !tried[row] {
			c.Rest = append(c.Rest, Other{Backend: r.backendText(row), Why: whyNot(b, c.AllUp, len(run) == 0 || slices.Contains(run, row), reasons[row]), Load: load(row)})
		}
	}
	return c
}

// noSlot says that no slot was looked at: NO_SLOT of bpf/told.h.
const noSlot = ^uint32(0)

func (r *rows) try(a *loader.Answer, i int, s *loader.Service) Try {
	at := a.Attempts[i]
	t := Try{Backend: r.backendText(at.Backend), Verdict: loader.Verdict(at.Verdict).String(), row: at.Backend, Tied: at.Slot == noSlot}
	index := func(slot uint32) *int {
		if slot == noSlot {
			return nil
		}
		n := int(slot - uint32(a.Run>>32))
		return &n
	}
	switch method := loader.Balance(s.Balance); {
	case t.Tied || method == loader.LBBalanceBALANCE_LEAST:
		return t
	case hashes(s) && s.MaxLoad != 0 && r.inSlot(at.Slot) != at.Backend:
		return t // the best of some slots, none of which had room
	case hashes(s):
		t.Hash = fmt.Sprintf("%#016x", at.Number)
	case method == loader.LBBalanceBALANCE_P2C:
		t.Beside = index(at.Other)
	case method == loader.LBBalanceBALANCE_ROUND_ROBIN:
		t.Turn = at.Number
	}
	t.Slot = index(at.Slot)
	return t
}

// inSlot returns the row of backends in a slot, or one beyond their end.
func (r *rows) inSlot(slot uint32) uint32 {
	if int(slot) >= len(r.slots) {
		return ^uint32(0)
	}
	return r.slots[slot]
}

// lookedAt returns why rows of backends that slots led to were not taken, where
// their load decides.
func (r *rows) lookedAt(a *loader.Answer, q loader.Question, s *loader.Service) map[uint32]Why {
	reasons := map[uint32]Why{}
	tries := a.Attempts[:min(int(a.Tries), len(a.Attempts))]
	for _, t := range tries {
		if s.Balance == uint8(loader.LBBalanceBALANCE_P2C) && t.Slot != noSlot {
			reasons[r.inSlot(t.Slot)], reasons[r.inSlot(t.Other)] = WhyBusier, WhyBusier
		}
	}
	if !hashes(s) || s.MaxLoad == 0 || uint32(a.Run) == 0 {
		return reasons
	}
	hash := balance.Hash(&model.Service{Protocol: protocolOf(s.Proto), Balance: model.Balance{Seed: s.Seed}}, q.From, q.To)
	for _, t := range tries {
		if t.Slot == noSlot {
			continue // its client stays with a backend, and no hash was used up
		}
		for range boundSlots {
			last := hash == t.Number
			reasons[r.inSlot(uint32(a.Run>>32)+uint32(hash%uint64(uint32(a.Run))))] = WhyOver
			if hash = balance.Rehash(hash); last {
				break
			}
		}
	}
	return reasons
}

// boundSlots is how many slots a try looks at for a backend that has room:
// BOUND_SLOTS of bpf/balance.h.
const boundSlots = 8

// whyNot says why a backend that no try took was not chosen; here says that it has
// slots of those that the client chooses from, found is what the search has found
// out, "" for nothing.
func whyNot(b *loader.Backend, allUp, here bool, found Why) Why {
	switch {
	case b.State == backendDown && !allUp:
		return WhyDown
	case b.Weight == 0:
		return WhyNoWeight
	case !here:
		return WhyClientZone
	case found != "":
		return found
	}
	return WhyNotChosen
}
