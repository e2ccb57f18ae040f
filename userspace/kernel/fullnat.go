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
	r, err := ways.To(backend)
	if err != nil {
		return nil, err
	}
	if !r.Source.IsValid() {
		return nil, fmt.Errorf("%s: %w", backend, errNoSource)
	}
	return []netip.Addr{r.Source}, nil
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
	f, err := fullNATFaults(state)
	return append(f.host, f.routes...), err
}

// faults are lines that say what to do.
type faults struct {
	host   []string // about addresses and ports
	routes []string // about backends that have no source
}

func fullNATFaults(state *model.State) (f faults, err error) {
	if len(fullNATBackends(state)) == 0 {
		return f, nil
	}
	var ways host.Routes
	if f.host, err = addressFaults(&ways, state); err != nil {
		return f, err
	}
	of, without, err := sources(&ways, state)
	if err != nil {
		return f, err
	}
	used := slices.Concat(slices.Collect(maps.Values(of))...)
	for _, b := range without {
		f.routes = append(f.routes, fmt.Sprintf("there is no source address towards backend %s: add a route to it, or set full-nat.addresses", b))
	}
	nat := state.FullNAT.WithDefaults()
	ports := host.PortRange{First: nat.First, Last: nat.Last}
	fault, err := host.SourcePortsFault(ports, used, func(s host.Socket) bool { return isStandby(state, s) })
	if fault != "" {
		f.host = append(f.host, fmt.Sprintf("ports %s: %s", ports, fault))
	}
	return f, err
}

// isStandby reports whether a socket listens where a service does: it is that of
// the service's standby proxy, or is looked at as a conflict with the service.
func isStandby(state *model.State, s host.Socket) bool {
	return slices.ContainsFunc(state.Services, func(v model.Service) bool {
		return v.Listen.Addr() == s.Addr.Addr() && s.Clashes(v.Listen.Addr(), v.Listen.Port(), v.LastPort, v.Protocol)
	})
}

// addressFaults finds configured addresses that the host neither has nor gets
// as service addresses.
func addressFaults(ways *host.Routes, state *model.State) (lines []string, err error) {
	var added []netip.Addr
	if state.Addresses != model.AddressesLeave {
		added = addresses(state)
	}
	for _, a := range state.FullNAT.Addresses {
		local, err := ways.IsLocal(a)
		if err != nil {
			return nil, err
		}
		if !local && !slices.Contains(added, a) {
			lines = append(lines, fmt.Sprintf("%s is not an address of this host: put it on an interface, or take it out of full-nat.addresses", a))
		}
	}
	return lines, nil
}

// checkFullNAT refuses a state whose full-NAT services could not work. A backend
// without a source is an agent's business later: health knows about it, and the
// route may come.
func checkFullNAT(state *model.State, agent bool) error {
	f, err := fullNATFaults(state)
	if err != nil {
		return err
	}
	lines := f.host
	if !agent {
		lines = append(lines, f.routes...)
	}
	errs := make([]error, len(lines))
	for i, l := range lines {
		errs[i] = fmt.Errorf("%w: %s", ErrFullNAT, l)
	}
	return errors.Join(errs...)
}
