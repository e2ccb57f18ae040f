package kernel

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"fairlead/userspace/datapath"
	"fairlead/userspace/host"
	"fairlead/userspace/model"
)

// A Rung says where a service's packets are forwarded.
type Rung struct {
	Proxy bool // in user space
	// Reason says why in user space, or what is wrong with XDP; "" if nothing.
	Reason string
}

// Reconcile makes the maps hold state. down says which backends of a service
// are down, by index; nil keeps what the maps have. It returns the rung of each
// service, in the order of state.
func (k *Kernel) Reconcile(state *model.State, down func(*model.Service) []bool) ([]Rung, error) {
	if err := k.findInterfaces(); err != nil {
		return nil, err
	}
	want, rungs, err := k.wanted(state, down)
	if err != nil {
		return nil, err
	}
	if _, err = k.writer.Reconcile(want); err != nil {
		return nil, err
	}
	k.rungs, k.standby, k.want = rungs, nil, want
	for i := range want.Services {
		k.standby = append(k.standby, want.Services[i].Standby)
	}
	return rungs, nil
}

// Update is [Kernel.Reconcile] of a state that differs from that of the last one in
// the backends of services alone, where these are not between families and without
// full NAT. It looks at nothing else of the host than the routes to new backends.
func (k *Kernel) Update(state *model.State, down func(*model.Service) []bool) ([]Rung, error) {
	want, rungs := *k.want, slices.Clone(k.rungs)
	want.Services = slices.Clone(want.Services)
	var ways host.Routes
	for i := range want.Services {
		s := &want.Services[i]
		moved := !sameAddresses(s.Backends, state.Services[i].Backends)
		s.Service = state.Services[i]
		s.Down, s.Shares = down(&s.Service), k.opts.shares(&s.Service)
		if !moved {
			continue
		}
		var err error
		if rungs[i], err = k.rung(&ways, &s.Service, want.Sources); err != nil {
			return nil, err
		}
		s.Proxy = rungs[i].Proxy
	}
	if _, err := k.writer.Reconcile(&want); err != nil {
		return nil, err
	}
	k.want, k.rungs = &want, rungs
	return rungs, nil
}

func sameAddresses(a, b []model.Backend) bool {
	return slices.EqualFunc(a, b, func(x, y model.Backend) bool { return x.Address == y.Address })
}

// wanted returns what the maps are to hold so that they hold state, while
// k.interfaces are attached.
func (k *Kernel) wanted(state *model.State, down func(*model.Service) []bool) (*datapath.Want, []Rung, error) {
	devices, err := host.Devices(!k.native)
	if err != nil {
		return nil, nil, err
	}
	want := k.writer.Keep(state)
	clear(want.Devices)
	unusable := map[string]string{}
	for _, d := range devices {
		if d.Transmits {
			want.Devices[uint32(d.Ifindex)] = datapath.Device{TX: d.TX}
		} else {
			unusable[d.Name] = d.Why
		}
	}
	k.unusable = unusable
	var ways host.Routes
	if err := setSources(&ways, state, want.Sources); err != nil {
		return nil, nil, err
	}
	rungs, standby := make([]Rung, len(want.Services)), k.standbys(state)
	for i := range want.Services {
		s := &want.Services[i]
		if rungs[i], err = k.rung(&ways, &s.Service, want.Sources); err != nil {
			return nil, nil, err
		}
		s.Proxy = rungs[i].Proxy
		if s.Local, err = ways.IsLocal(s.Listen.Addr()); err != nil {
			return nil, nil, err
		}
		s.Standby = standby[i]
		if down != nil {
			s.Down = down(&s.Service)
		}
		s.Shares = k.opts.shares(&s.Service)
	}
	return want, rungs, nil
}

// Rungs returns what the last [Kernel.Reconcile], or Attach, found.
func (k *Kernel) Rungs() []Rung { return k.rungs }

// rung finds where a service can be forwarded. Without an agent there is only
// one place, so then the reason is a warning.
func (k *Kernel) rung(ways *host.Routes, s *model.Service, sources map[netip.Addr][]netip.Addr) (Rung, error) {
	if s.Forward.UserSpace() {
		return Rung{true, "forward: " + string(s.Forward)}, nil
	}
	if key := s.ByProxyProtocol(); key != "" {
		return Rung{true, key + ": the PROXY protocol is not the kernel's"}, nil
	}
	if why := k.nat.about(s, sources); why != "" {
		return Rung{k.opts.Agent, "full-nat: " + why}, nil
	}
	for _, b := range s.Backends {
		r, err := ways.To(b.Address.Addr())
		if errors.Is(err, host.ErrNoRoute) {
			continue // it may come; until then its packets are dropped and counted
		}
		if err != nil {
			return Rung{}, err
		}
		reason := ""
		if why, ok := k.unusable[r.Interface]; ok {
			reason = why
		} else if !k.interfaces[r.Interface] {
			reason = r.Interface + " is not attached"
		}
		if r.Local {
			reason = "it is this host itself"
		}
		if reason != "" {
			return Rung{k.opts.Agent, fmt.Sprintf("backend %s: %s", b, reason)}, nil
		}
	}
	if err := k.unplaced[s.Listen.Addr()]; err != nil {
		return Rung{Reason: err.Error()}, nil // XDP needs no address on the host, a proxy does
	}
	return Rung{}, nil
}

// Recheck makes flows look up their next hops again: routes or neighbours changed.
func (k *Kernel) Recheck() { k.writer.Recheck() }

// Interfaces returns the names of the attached interfaces, sorted.
func (k *Kernel) Interfaces() []string { return slices.Sorted(maps.Keys(k.interfaces)) }

// Native reports whether some interface is attached in native mode.
func (k *Kernel) Native() bool { return k.native }
