package main

import (
	"context"
	"net/netip"
	"path/filepath"
	"slices"

	"fairlead/testenv"
	"fairlead/userspace/kernel"
	"fairlead/userspace/model"
)

var (
	vip  = netip.MustParseAddr("203.0.113.10")
	vip6 = netip.MustParseAddr("2001:db8:ff::10")
)

// oneService returns the state with one service over all backends of a rig.
func oneService(r *testenv.Rig, p model.Protocol, port, backendPort uint16) *model.State {
	s := model.Service{
		Name: "bench", Listen: netip.AddrPortFrom(vip, port), LastPort: port, Protocol: p,
		Forward: model.ForwardDNAT, Balance: model.Balance{Method: model.RoundRobin}, OnDown: model.DownReset,
		Health: model.Check{Type: model.CheckNone},
	}
	for _, a := range r.BackendAddrs {
		s.Backends = append(s.Backends, model.Backend{Address: netip.AddrPortFrom(a, backendPort), Weight: 1})
	}
	return &model.State{
		Interfaces: append(append([]string{}, r.ClientLinks...), r.BackendLinks...),
		XDP:        model.XDPNative, Addresses: model.AddressesLeave, OnAgentLoss: model.LossKeep,
		Services: []model.Service{s},
	}
}

// bothFamilies adds the same service of IPv6 to a state of oneService's.
func bothFamilies(state *model.State) *model.State {
	s := state.Services[0]
	s.Name, s.Listen = "bench6", netip.AddrPortFrom(vip6, s.Listen.Port())
	s.Backends = slices.Clone(s.Backends)
	for i, b := range s.Backends {
		s.Backends[i].Address = netip.AddrPortFrom(testenv.Six(b.Address.Addr()), b.Address.Port())
	}
	state.Services = append(state.Services, s)
	return state
}

// attach brings a state into the kernel of a rig's balancer, and out again when
// the part is over.
func attach(ctx context.Context, tb testenv.TB, r *testenv.Rig, state *model.State) (k *kernel.Kernel, dir string) {
	tb.Helper()
	dir = filepath.Join(testenv.BPFFS(tb), "fairlead")
	r.Balancer.Do(tb, func() (err error) {
		k, _, err = kernel.Attach(ctx, state, kernel.Options{Dir: dir})
		return err
	})
	tb.Cleanup(func() {
		k.Close()
		k = nil // which has maps in memory; testing keeps a parallel subtest's cleanups
		r.Balancer.Do(tb, func() error { return kernel.Detach(context.Background(), dir, nil, 0, nil) })
	})
	return k, dir
}
