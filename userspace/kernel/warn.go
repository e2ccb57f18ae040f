package kernel

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"fairlead/userspace/host"
	"fairlead/userspace/model"
)

// Warnings returns one line for each thing on this host that may keep a state
// from working as people expect: backends behind interfaces that are not
// attached, addresses that nobody answers for, firewall rules that XDP passes
// by, far ends that may not take frames, senders that leave checksums to
// hardware. interfaces are those that are, or will be, attached. What cannot be
// looked at without root is left out, with one line that says so.
func Warnings(state *model.State, interfaces []string) ([]string, error) {
	if state.XDP == model.XDPOff {
		return nil, nil
	}
	lines, err := routeWarnings(state, interfaces)
	if err != nil {
		return nil, err
	}
	unheard, err := addressWarnings(state)
	if err != nil {
		return nil, err
	}
	lines = append(lines, unheard...)
	rules, err := host.FirewallRules(addresses(state))
	if err != nil {
		lines = append(lines, fmt.Sprintf("cannot look for firewall rules: %v", err))
	}
	var said []host.Rule
	for _, r := range rules {
		if !slices.Contains(said, r) {
			said = append(said, r)
			lines = append(lines, fmt.Sprintf("nftables chain %s %s has a rule for %s, which packets forwarded by XDP do not pass", r.Table, r.Chain, r.Addr))
		}
	}
	devices, err := host.Devices(state.XDP == model.XDPGeneric)
	if err != nil {
		return nil, err
	}
	for _, d := range devices {
		if d.Transmits && d.Why != "" && slices.Contains(interfaces, d.Name) {
			lines = append(lines, d.Why)
		}
	}
	for _, name := range interfaces {
		why, err := host.PartialChecksums(name)
		if err != nil {
			return nil, err
		}
		if why != "" {
			lines = append(lines, why)
		}
	}
	return lines, nil
}

// addressWarnings is about service addresses that cannot be added, or that
// somebody has put on the wrong interface: only those that Attach added are
// moved.
func addressWarnings(state *model.State) ([]string, error) {
	look, err := host.LookAtAddresses()
	if err != nil {
		return nil, err
	}
	var lines []string
	for _, a := range addresses(state) {
		local, err := look.IsLocal(a)
		if err != nil {
			return nil, err
		}
		if !local && state.Addresses != model.AddressesLeave {
			fault, err := look.Fault(a)
			if err != nil {
				return nil, err
			}
			if fault != "" {
				lines = append(lines, "cannot add service "+fault)
			}
		}
		name, err := look.Unheard(a)
		if err != nil {
			return nil, err
		}
		if name != "" {
			lines = append(lines, fmt.Sprintf("service address %s is on the link of %s, but not on that interface: neighbours who ask for it get no answer", a, name))
		}
	}
	return lines, nil
}

func routeWarnings(state *model.State, interfaces []string) ([]string, error) {
	var lines []string
	var ways host.Routes
	for i := range state.Services {
		s := &state.Services[i]
		if s.UserSpace() {
			continue
		}
		for _, b := range s.Backends {
			r, err := ways.To(b.Address.Addr())
			switch {
			case errors.Is(err, host.ErrNoRoute):
				lines = append(lines, fmt.Sprintf("service %s: backend %s: there is no route to it", s.Name, b))
			case err != nil:
				return nil, err
			case r.Local:
				lines = append(lines, fmt.Sprintf("service %s: backend %s is this host itself, which XDP cannot forward to", s.Name, b))
			case !slices.Contains(interfaces, r.Interface):
				lines = append(lines, fmt.Sprintf("service %s: backend %s is behind %s, which is not attached (%s): its answers will not be translated",
					s.Name, b, r.Interface, strings.Join(interfaces, ", ")))
			}
		}
	}
	return lines, nil
}

// Conflicts returns one line for each service address on which this host
// listens itself. own, which may be nil, says which sockets are the caller's.
func Conflicts(state *model.State, own func(netip.AddrPort, model.Protocol) bool) ([]string, error) {
	sockets, err := host.Sockets()
	if err != nil {
		return nil, err
	}
	if own != nil {
		sockets = slices.DeleteFunc(sockets, func(k host.Socket) bool { return own(k.Addr, k.Protocol) })
	}
	var lines []string
	for i := range state.Services {
		s := &state.Services[i]
		at := slices.IndexFunc(sockets, func(k host.Socket) bool {
			return k.Clashes(s.Listen.Addr(), s.Listen.Port(), s.LastPort, s.Protocol)
		})
		if at >= 0 {
			lines = append(lines, fmt.Sprintf("service %s: this host listens on %s port %d itself (%s)",
				s.Name, s.Protocol, sockets[at].Addr.Port(), sockets[at].Addr))
		}
	}
	return lines, nil
}
