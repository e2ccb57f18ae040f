package main

import (
	"fairlead/userspace/balance"
	"fairlead/userspace/kernel"
	"fairlead/userspace/model"
	"fairlead/userspace/view"
)

// toldBy returns what an agent, nil for none, will tell of the backends of state
// when it comes into force.
func toldBy(v *view.View, state *model.State) kernel.Told {
	if v == nil {
		return kernel.Told{}
	}
	of := func(s *model.Service) *view.Service {
		for i := range v.Services {
			if x := &v.Services[i]; x.Listen == s.ListenText() && x.Protocol == s.Protocol {
				return x
			}
		}
		return nil
	}
	return kernel.Told{
		Down: func(s *model.Service) []bool { return downOf(s, state, of) },
		Shares: func(s *model.Service) []int {
			if told := of(s); told != nil {
				return sharesOf(s, told)
			}
			return nil
		},
	}
}

// downOf returns which backends of a service are down once state is in force: one
// that is new there may be known by the same check of another service.
func downOf(s *model.Service, state *model.State, told func(*model.Service) *view.Service) []bool {
	down := make([]bool, len(s.Backends))
	if s.Health.Type == model.CheckNone {
		return down
	}
	for i := range s.Backends {
		b := backendOf(told(s), &s.Backends[i])
		for j := 0; b == nil && j < len(state.Services); j++ {
			if o := &state.Services[j]; sameCheck(s, o, &s.Backends[i]) {
				b = backendOf(told(o), &s.Backends[i])
			}
		}
		down[i] = b != nil && !b.Up
	}
	return down
}

// sameCheck reports whether two services would check a backend in the same way.
func sameCheck(s, o *model.Service, b *model.Backend) bool {
	return s.Health.Equal(o.Health) && (b.Address.Port() != 0 || s.Health.Port != 0 || s.Listen.Port() == o.Listen.Port())
}

// backendOf returns what is told of a backend of a service, nil if it is not.
func backendOf(told *view.Service, b *model.Backend) *view.Backend {
	if told == nil {
		return nil
	}
	for i := range told.Backends {
		if told.Backends[i].Address == b.String() {
			return &told.Backends[i]
		}
	}
	return nil
}

// sharesOf returns how much of its weight each backend of a service has, and how
// much one that is new has first.
func sharesOf(s *model.Service, told *view.Service) []int {
	if s.SlowStart == 0 && s.Balance.Method != model.ResponseTime {
		return nil
	}
	shares := make([]int, len(s.Backends))
	for i := range s.Backends {
		shares[i] = balance.Whole
		if b := backendOf(told, &s.Backends[i]); b != nil {
			shares[i] = balance.Whole * b.Share / 100
		} else if s.SlowStart > 0 {
			shares[i] = balance.Ramp(0, s.SlowStart)
		}
	}
	return shares
}
