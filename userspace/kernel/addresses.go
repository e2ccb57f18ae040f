package kernel

import (
	"net/netip"

	"fairlead/userspace/model"
)

// addresses returns the service addresses of a state, each once.
func addresses(state *model.State) []netip.Addr {
	seen := map[netip.Addr]bool{}
	var all []netip.Addr
	for i := range state.Services {
		if a := state.Services[i].Listen.Addr(); !seen[a] {
			seen[a] = true
			all = append(all, a)
		}
	}
	return all
}

// mixedBackends returns the backends of services between families.
func mixedBackends(state *model.State) []netip.Addr {
	s := model.State{}
	for i := range state.Services {
		if state.Services[i].Mixed() {
			s.Services = append(s.Services, state.Services[i])
		}
	}
	return backendAddresses(&s)
}

// backendAddresses returns the addresses of all backends, each once.
func backendAddresses(state *model.State) []netip.Addr {
	seen := map[netip.Addr]bool{}
	var all []netip.Addr
	for i := range state.Services {
		for _, b := range state.Services[i].Backends {
			if a := b.Address.Addr(); !seen[a] {
				seen[a] = true
				all = append(all, a)
			}
		}
	}
	return all
}
