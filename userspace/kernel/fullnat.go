package kernel

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"fairlead/userspace/host"
	"fairlead/userspace/model"
)

// ErrFullNAT says that the host cannot give backends the sources that full-NAT
// services need.
var ErrFullNAT = errors.New("full-nat")

// errNoSource says that the host does not know what to send from.
var errNoSource = errors.New("no source address")

// fullNATBackends returns the backends of full-NAT services that need a source.
func fullNATBackends(state *model.State) []netip.Addr {
	s := model.State{}
	for i := range state.Services {
		if state.Services[i].Forward == model.ForwardFullNAT {
			s.Services = append(s.Services, state.Services[i])
		}
	}
	return backendAddresses(&s)
}

// sourcesOf returns what a backend of a full-NAT service sees. The error wraps
// [host.ErrNoRoute] or errNoSource if the host cannot tell.
func sourcesOf(ways *host.Routes, nat model.FullNAT, backend netip.Addr) ([]netip.Addr, error) {
	given := slices.DeleteFunc(slices.Clone(nat.Addresses), func(a netip.Addr) bool { return a.Is4() != backend.Is4() })
	if len(given) > 0 {
		return given, nil
	}
	source, err := ways.Source(backend)
	if err != nil {
		return nil, err
	}
	if !source.IsValid() {
		return nil, fmt.Errorf("%s: %w", backend, errNoSource)
	}
	return []netip.Addr{source}, nil
}

// sources returns what the backends of full-NAT services are to see, and which
// of them have no source by now.
func sources(ways *host.Routes, state *model.State) (of map[netip.Addr][]netip.Addr, without []netip.Addr, err error) {
	of = map[netip.Addr][]netip.Addr{}
	for _, b := range fullNATBackends(state) {
		s, err := sourcesOf(ways, state.FullNAT, b)
		switch {
		case err == nil:
			of[b] = s
		case errors.Is(err, host.ErrNoRoute), errors.Is(err, errNoSource):
			without = append(without, b)
		default:
			return nil, nil, err
		}
	}
	return of, without, nil
}

// setSources fills in what the backends of full-NAT services see by now. One
// whose route has gone keeps what it saw.
func setSources(ways *host.Routes, state *model.State, seen map[netip.Addr][]netip.Addr) error {
	of, _, err := sources(ways, state)
	maps.Copy(seen, of)
	return err
}

// FullNATFaults returns one line for each thing on this host that keeps full-NAT
// services from working, with what to do.
func FullNATFaults(state *model.State) ([]string, error) {
	faults, without, err := fullNATFaults(state)
	return append(faults, without...), err
}

// fullNATFaults tells what is about addresses and ports from what is about
// backends that have no source.
func fullNATFaults(state *model.State) (faults, without []string, err error) {
	var ways host.Routes
	of, lacking, err := sources(&ways, state)
	if err != nil {
		return nil, nil, err
	}
	for _, b := range lacking {
		without = append(without, fmt.Sprintf("there is no source address towards backend %s: add a route to it, or set full-nat.addresses", b))
	}
	var coming []netip.Addr
	if state.Addresses != model.AddressesLeave {
		coming = addresses(state)
	}
	f, err := findNATFaults(&ways, state, of, coming)
	return f.lines(), without, err
}

// A sender is where flows of a protocol come from.
type sender struct {
	addr     netip.Addr
	protocol model.Protocol
}

// natFaults say why full-NAT services cannot have their sources, and what to do.
type natFaults struct {
	all string // why none can
	of  map[sender]string
}

// findNATFaults looks at the host for a state whose backends have the sources of.
// It counts addresses that are coming as the host's.
func findNATFaults(ways *host.Routes, state *model.State, of map[netip.Addr][]netip.Addr, coming []netip.Addr) (natFaults, error) {
	f := natFaults{of: map[sender]string{}}
	if len(fullNATBackends(state)) == 0 {
		return f, nil
	}
	nat := state.FullNAT.WithDefaults()
	ports := host.PortRange{First: nat.First, Last: nat.Last}
	fault, err := host.EphemeralFault(ports)
	if err != nil {
		return f, err
	}
	if fault != "" {
		f.all = fmt.Sprintf("ports %s: %s", ports, fault)
	}
	sockets, err := host.Sockets()
	if err != nil {
		return f, err
	}
	sockets = slices.DeleteFunc(sockets, func(s host.Socket) bool { return isStandby(state, s) })
	for s := range senders(state, of) {
		if fault := host.ListenFault(ports, s.addr, s.protocol, sockets); fault != "" {
			f.of[s] = fmt.Sprintf("ports %s: %s", ports, fault)
		}
	}
	for _, a := range state.FullNAT.Addresses {
		local, err := ways.IsLocal(a)
		if err != nil {
			return f, err
		}
		if !local && !slices.Contains(coming, a) {
			fault := fmt.Sprintf("%s is not an address of this host: put it on an interface, or take it out of full-nat.addresses", a)
			f.of[sender{a, model.TCP}], f.of[sender{a, model.UDP}] = fault, fault
		}
	}
	return f, nil
}

// senders returns what full-NAT services send from.
func senders(state *model.State, of map[netip.Addr][]netip.Addr) map[sender]bool {
	all := map[sender]bool{}
	for i := range state.Services {
		s := &state.Services[i]
		if s.Forward != model.ForwardFullNAT {
			continue
		}
		for _, b := range s.Backends {
			for _, a := range of[b.Address.Addr()] {
				all[sender{a, s.Protocol}] = true
			}
		}
	}
	return all
}

// lines returns each fault once.
func (f *natFaults) lines() []string {
	all := slices.Collect(maps.Values(f.of))
	if f.all != "" {
		all = append(all, f.all)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// about returns why a service cannot have its sources; "" if it can.
func (f *natFaults) about(s *model.Service, of map[netip.Addr][]netip.Addr) string {
	if s.Forward != model.ForwardFullNAT {
		return ""
	}
	if f.all != "" {
		return f.all
	}
	for _, b := range s.Backends {
		for _, a := range of[b.Address.Addr()] {
			if why := f.of[sender{a, s.Protocol}]; why != "" {
				return why
			}
		}
	}
	return ""
}

// isStandby reports whether a socket listens where a service does: it is that of
// the service's standby proxy, or is looked at as a conflict with the service.
func isStandby(state *model.State, s host.Socket) bool {
	return slices.ContainsFunc(state.Services, func(v model.Service) bool {
		return v.Listen.Addr() == s.Addr.Addr() && s.Clashes(v.Listen.Addr(), v.Listen.Port(), v.LastPort, v.Protocol)
	})
}

// CheckFullNAT refuses a state whose full-NAT services could not work. It is for
// somebody who decides on a state: an agent's [Attach] leaves them to the proxy.
func CheckFullNAT(state *model.State) error {
	faults, _, err := fullNATFaults(state)
	return errors.Join(err, refuse(faults))
}

// checkAlone is CheckFullNAT where no agent sees to it: a backend without a source
// is one's business later, since health knows about it, and the route may come.
func checkAlone(state *model.State) error {
	faults, err := FullNATFaults(state)
	return errors.Join(err, refuse(faults))
}

func refuse(faults []string) error {
	errs := make([]error, len(faults))
	for i, f := range faults {
		errs[i] = fmt.Errorf("%w: %s", ErrFullNAT, f)
	}
	return errors.Join(errs...)
}

// lookAtSources finds out which full-NAT services cannot have their sources.
func (k *Kernel) lookAtSources(state *model.State) (err error) {
	var ways host.Routes
	of, _, err := sources(&ways, state)
	if err != nil {
		return err
	}
	k.nat, err = findNATFaults(&ways, state, of, nil)
	return err
}

// FullNATChanged looks again at what keeps full-NAT services of state from XDP,
// if something does, and reports whether it is something else by now. What comes
// up later does not stop flows that go on: only the next [Attach] looks for it.
func (k *Kernel) FullNATChanged(state *model.State) (bool, error) {
	was := k.nat.lines()
	if len(was) == 0 {
		return false, nil
	}
	err := k.lookAtSources(state)
	return err == nil && !slices.Equal(was, k.nat.lines()), err
}
