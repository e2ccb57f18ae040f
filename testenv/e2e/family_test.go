package e2e

import (
	"net/netip"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"fairlead/testenv"
	"fairlead/testenv/stage"
)

// The IPv6 service address of most tests, on no link.
const (
	vip6 = "2001:db8:ff::10"
	web6 = "http://[" + vip6 + "]/"
)

// A family is what tests that both families pass have of one of them.
type family struct {
	name string
	vip  string
	// suffix is that of networks ("tcp6"); icmp is the group of counters.
	suffix, icmp string
	// addr returns the address that a host has beside one of IPv4.
	addr func(netip.Addr) netip.Addr
}

var families = []family{
	{"IPv4", vip, "4", "Icmp", func(a netip.Addr) netip.Addr { return a }},
	{"IPv6", vip6, "6", "Icmp6", testenv.Six},
}

// inFamilies runs a test in each family.
func inFamilies(t *testing.T, test func(t *testing.T, f family)) {
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) { test(t, f) })
	}
}

// stage raises a stage that has the family, with servers on port 8080.
func (f family) stage(t *testing.T, o testenv.RigOptions) *stage.Stage {
	t.Helper()
	o.IPv6 = f.suffix == "6"
	return newStage(t, o)
}

// at returns a port of the service address.
func (f family) at(port uint16) string {
	return netip.AddrPortFrom(netip.MustParseAddr(f.vip), port).String()
}

// backends returns all backends as a YAML list.
func (f family) backends(s *stage.Stage, port int) string {
	if f.suffix == "6" {
		return s.BackendList6(port)
	}
	return s.BackendList(port)
}

// configure writes a configuration with service web, TCP, port 80, and echo,
// UDP, port 7. keys are further ones of both, more is added to it.
func (f family) configure(s *stage.Stage, keys, more string) {
	s.Configure(`
interfaces: %s
services:
  - {name: web, listen: '%s', backends: %s, health: {type: none}%s}
  - {name: echo, listen: '%s', protocol: udp, backends: %s%s}
%s`, s.Links(), f.at(80), f.backends(s, 8080), keys, f.at(7), f.backends(s, 8080), keys, more)
}

// number is the kernel's name of the family.
func (f family) number() int {
	if f.suffix == "6" {
		return unix.AF_INET6
	}
	return unix.AF_INET
}

// web is the URL of service web.
func (f family) web() string { return "http://" + f.at(80) + "/" }

// tooBig returns the counters of errors that say so, as sent and received.
func (f family) tooBig() (sent, got string) {
	if f.suffix == "6" {
		return "OutPktTooBigs", "InPktTooBigs"
	}
	return "OutDestUnreachs", "InDestUnreachs"
}

// serverAddr returns where the i-th backend's server is.
func (f family) serverAddr(s *stage.Stage, i int, port uint16) netip.AddrPort {
	return netip.AddrPortFrom(f.addr(s.BackendAddrs[i]), port)
}

// wild returns a port of every address of the family.
func (f family) wild(port int) string { return ":" + strconv.Itoa(port) }
