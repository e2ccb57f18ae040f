// Package host prepares the machine around the datapath and looks what could
// get in its way: service addresses, forwarding, neighbours of next hops, the
// devices that XDP can send out of, sockets and firewall rules that clash with
// a service.
//
// It acts on the network namespace of the calling thread, keeps no state (the
// caller records what was changed, to undo it) and knows nothing of maps.
package host

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// ErrNoRoute says that the host has no way to an address.
var ErrNoRoute = errors.New("no route")

// A Route is the way to an address.
type Route struct {
	Ifindex   int
	Interface string
	NextHop   netip.Addr // the address itself when it is on the link
	Local     bool       // the address is the host's own
}

// RouteTo returns the way that packets to addr take. Of several next hops it
// is the one that the kernel picks for a packet without ports.
// The error wraps [ErrNoRoute] if there is none.
func RouteTo(addr netip.Addr) (Route, error) {
	routes, err := netlink.RouteGet(net.IP(addr.AsSlice()))
	if errors.Is(err, unix.ENETUNREACH) || errors.Is(err, unix.EHOSTUNREACH) || (err == nil && len(routes) == 0) {
		return Route{}, fmt.Errorf("%s: %w", addr, ErrNoRoute)
	}
	if err != nil {
		return Route{}, fmt.Errorf("look up route to %s: %w", addr, err)
	}
	r := Route{Ifindex: routes[0].LinkIndex, NextHop: addr, Local: routes[0].Type == unix.RTN_LOCAL}
	if gw, ok := netip.AddrFromSlice(routes[0].Gw); ok {
		r.NextHop = gw.Unmap()
	}
	link, err := netlink.LinkByIndex(r.Ifindex)
	if err != nil {
		return Route{}, fmt.Errorf("look up route to %s: interface %d: %w", addr, r.Ifindex, err)
	}
	r.Interface = link.Attrs().Name
	return r, nil
}

// IsLocal reports whether addr is an address of this host.
func IsLocal(addr netip.Addr) (bool, error) {
	r, err := RouteTo(addr)
	if errors.Is(err, ErrNoRoute) {
		return false, nil
	}
	return r.Local, err
}

// AddAddress puts a service address on lo and reports whether it was missing.
func AddAddress(addr netip.Addr) (added bool, err error) {
	if local, err := IsLocal(addr); err != nil || local {
		return false, err
	}
	err = onLoopback(addr, netlink.AddrAdd)
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return false, fmt.Errorf("add address %s to lo: %w", addr, err)
	}
	return err == nil, nil
}

// RemoveAddress takes a service address off lo. It may be gone already.
func RemoveAddress(addr netip.Addr) error {
	err := onLoopback(addr, netlink.AddrDel)
	if err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
		return fmt.Errorf("remove address %s from lo: %w", addr, err)
	}
	return nil
}

func onLoopback(addr netip.Addr, do func(netlink.Link, *netlink.Addr) error) error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	ip := net.IP(addr.AsSlice())
	return do(lo, &netlink.Addr{IPNet: &net.IPNet{IP: ip, Mask: net.CIDRMask(8*len(ip), 8*len(ip))}})
}

// A Sysctl is a kernel setting, its name with dots.
type Sysctl struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

func (s Sysctl) String() string { return s.Name + "=" + s.Value }

// path returns the file of a setting. An interface's name may hold dots, which
// sysctl(8) writes as slashes.
func (s Sysctl) path() string {
	return "/proc/sys/" + strings.Map(func(r rune) rune {
		switch r {
		case '.':
			return '/'
		case '/':
			return '.'
		}
		return r
	}, s.Name)
}

// Exists reports whether the kernel has the setting now: those of an interface
// go with it.
func (s Sysctl) Exists() bool {
	_, err := os.Stat(s.path())
	return err == nil
}

// Set writes the setting and returns what it was.
func (s Sysctl) Set() (was Sysctl, err error) {
	old, err := os.ReadFile(s.path())
	if err != nil {
		return was, fmt.Errorf("read sysctl %s: %w", s.Name, err)
	}
	if err := os.WriteFile(s.path(), []byte(s.Value), 0); err != nil {
		return was, fmt.Errorf("set sysctl %s: %w", s, err)
	}
	return Sysctl{s.Name, strings.TrimSpace(string(old))}, nil
}

// MissingForwarding returns the settings without which the kernel's route
// look-up refuses to forward packets that arrive on one of the interfaces.
func MissingForwarding(interfaces []string) ([]Sysctl, error) {
	var missing []Sysctl
	for _, name := range interfaces {
		s := Sysctl{"net.ipv4.conf." + strings.ReplaceAll(name, ".", "/") + ".forwarding", "1"}
		have, err := os.ReadFile(s.path())
		if err != nil {
			return nil, fmt.Errorf("read sysctl %s: %w", s.Name, err)
		}
		if strings.TrimSpace(string(have)) != s.Value {
			missing = append(missing, s)
		}
	}
	return missing, nil
}
