package kernel

import (
	"net/netip"
	"slices"

	"fairlead/userspace/model"
)

// KeepLeaving adds to the services of state that drain the backends that they
// had, and that it lacks, as Leaving.
func KeepLeaving(state *model.State, had func(*model.Service) []netip.AddrPort) {
	for i := range state.Services {
		s := &state.Services[i]
		if s.Drain == 0 {
			continue
		}
		for _, addr := range had(s) {
			if !slices.ContainsFunc(s.Backends, func(b model.Backend) bool { return b.Address == addr }) {
				s.Backends = append(slices.Clip(s.Backends), model.Backend{Address: addr, Leaving: true})
			}
		}
	}
}
