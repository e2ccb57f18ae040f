package config

import (
	"net/netip"
	"strconv"
	"strings"

	"fairlead/userspace/model"
)

// Bounds of what backends of full-NAT services see. A lower port is a service's;
// the kernel part holds two lists of addresses of this length, and more.
const (
	minSourcePort   = 1024
	minSourcePorts  = 256
	maxSourceAddrs  = 256
	sourcePortsHelp = "write it like 10000-29999"
)

// fullNAT reads the source addresses and ports of full-NAT services.
func (r *reader) fullNAT(v value, n *model.FullNAT) {
	r.object(v, fields{
		"addresses": func(v value) { n.Addresses = r.sourceAddrs(v) },
		"ports":     func(v value) { r.sourcePorts(v, n) },
	})
}

func (r *reader) sourceAddrs(v value) (addrs []netip.Addr) {
	lines := map[netip.Addr]int{}
	ok := r.list(v, func(v value) {
		a, ok := r.sourceAddr(v)
		switch line := lines[a]; {
		case !ok:
		case line != 0:
			r.fault(v, "%s stands in line %d already: remove one of the two", quote(v.Value), line)
		default:
			lines[a] = v.Line
			addrs = append(addrs, a)
		}
	})
	switch {
	case ok && len(v.Content) == 0:
		r.fault(v, "is empty: list at least one address of this host, or remove the key")
	case len(v.Content) > maxSourceAddrs:
		r.fault(v, "%d addresses are too many: list %d at most", len(v.Content), maxSourceAddrs)
	}
	return addrs
}

func (r *reader) sourceAddr(v value) (netip.Addr, bool) {
	text, ok := r.text(v)
	if !ok {
		return netip.Addr{}, false
	}
	a, err := netip.ParseAddr(text)
	switch {
	case err != nil:
		r.fault(v, "%s is not an address: write it like 10.2.1.1 or 2001:db8:2::1", quote(text))
	case a.Is4In6() || a.Zone() != "":
		r.fault(v, "%s %s", quote(text), unfit(a))
	case a.IsLoopback() || a.IsUnspecified() || unfit(a) != "" || a.Is4() && a.As4()[0] >= 224:
		r.fault(v, "%s is not an address that backends could answer: use one of an interface of this host", quote(text))
	default:
		return a, true
	}
	return netip.Addr{}, false
}

func (r *reader) sourcePorts(v value, n *model.FullNAT) {
	text, ok := r.text(v)
	if !ok {
		return
	}
	lowText, highText, isRange := strings.Cut(text, "-")
	low, errLow := strconv.ParseUint(lowText, 10, 16)
	high, errHigh := strconv.ParseUint(highText, 10, 16)
	switch {
	case !isRange || errLow != nil || errHigh != nil:
		r.fault(v, "%s is not a range of ports: %s", quote(text), sourcePortsHelp)
	case high < low:
		r.fault(v, "%s ends before it begins: write the lower port first", quote(text))
	case low < minSourcePort:
		r.fault(v, "%s has ports below %d: %s", quote(text), minSourcePort, sourcePortsHelp)
	case high-low+1 < minSourcePorts:
		r.fault(v, "%s has only %d ports, one for each flow to a backend: give at least %d", quote(text), high-low+1, minSourcePorts)
	default:
		n.First, n.Last = uint16(low), uint16(high)
	}
}
