package host

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"fairlead/userspace/model"
)

// A PortRange is a range of ports, both ends included.
type PortRange struct{ First, Last uint16 }

// String returns the range as sysctls have it: "first-last", or one port.
func (r PortRange) String() string {
	if r.First == r.Last {
		return strconv.Itoa(int(r.First))
	}
	return fmt.Sprintf("%d-%d", r.First, r.Last)
}

// Len returns how many ports there are.
func (r PortRange) Len() int { return int(r.Last) - int(r.First) + 1 }

// overlaps reports whether two ranges share a port.
func (r PortRange) overlaps(o PortRange) bool { return r.First <= o.Last && o.First <= r.Last }

// Where the kernel says which ports are whose.
const (
	localPorts    = "/proc/sys/net/ipv4/ip_local_port_range"
	reservedPorts = "/proc/sys/net/ipv4/ip_local_reserved_ports"
)

// ListenFault says why flows of the datapath may not have source ports of a
// range at an address of the host, and what to do; "" if they may. Nobody may
// listen there on one of the sockets: XDP would take the packets.
func ListenFault(r PortRange, addr netip.Addr, p model.Protocol, sockets []Socket) string {
	at := slices.IndexFunc(sockets, func(s Socket) bool { return s.Clashes(addr, r.First, r.Last, p) })
	if at < 0 {
		return ""
	}
	return fmt.Sprintf("a program of this host listens on %s port %d: choose ports among which nobody listens", p, sockets[at].Addr.Port())
}

// LocalPorts returns the ports that the kernel chooses from for sockets that ask
// for none.
func LocalPorts() (PortRange, error) {
	text, err := os.ReadFile(localPorts)
	if err != nil {
		return PortRange{}, err
	}
	r, err := parseRange(strings.Join(strings.Fields(string(text)), "-"))
	if err != nil {
		return PortRange{}, fmt.Errorf("read %s: %w", localPorts, err)
	}
	return r, nil
}

// EphemeralFault says why flows of the datapath may not have source ports of a
// range, and what to do; "" if they may. The kernel must not give such a port to
// a connection of the host: those of the local range that are not reserved.
func EphemeralFault(r PortRange) (string, error) {
	local, err := LocalPorts()
	if err != nil || !r.overlaps(local) {
		return "", err
	}
	text, err := os.ReadFile(reservedPorts)
	if err != nil {
		return "", err
	}
	reserved, err := parseRanges(strings.TrimSpace(string(text)))
	if err != nil {
		return "", fmt.Errorf("read %s: %w", reservedPorts, err)
	}
	shared := PortRange{max(r.First, local.First), min(r.Last, local.Last)}
	if covers(reserved, shared) {
		return "", nil
	}
	var all []string
	for _, k := range append(reserved, shared) {
		all = append(all, k.String())
	}
	return fmt.Sprintf("the kernel gives ports %s to the host's own connections: reserve them (sysctl -w net.ipv4.ip_local_reserved_ports=%s) or choose ports outside of %s",
		shared, strings.Join(all, ","), local), nil
}

// covers reports whether every port of r is in one of the ranges.
func covers(ranges []PortRange, r PortRange) bool {
	for p := uint32(r.First); p <= uint32(r.Last); p++ {
		if !slices.ContainsFunc(ranges, func(o PortRange) bool { return o.overlaps(PortRange{uint16(p), uint16(p)}) }) {
			return false
		}
	}
	return true
}

// parseRanges reads "1-5,7"; "" is none.
func parseRanges(s string) (all []PortRange, err error) {
	if s == "" {
		return nil, nil
	}
	for part := range strings.SplitSeq(s, ",") {
		r, err := parseRange(part)
		if err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	return all, nil
}

// parseRange reads "1-5" or "7".
func parseRange(s string) (PortRange, error) {
	first, last, isRange := strings.Cut(s, "-")
	if !isRange {
		last = first
	}
	low, err := strconv.ParseUint(first, 10, 16)
	if err != nil {
		return PortRange{}, fmt.Errorf("%q is no range of ports", s)
	}
	high, err := strconv.ParseUint(last, 10, 16)
	if err != nil || high < low {
		return PortRange{}, fmt.Errorf("%q is no range of ports", s)
	}
	return PortRange{uint16(low), uint16(high)}, nil
}
