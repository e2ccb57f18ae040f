package host

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Addresses puts service addresses on the host and takes them away. It is for
// one look at the host, and not safe for concurrent use.
//
// IPv4 addresses stand on lo. The kernel answers neighbour solicitations only
// for addresses of the interface on which they arrive, so an IPv6 address that
// is on some link stands on the interface of that, else on lo too.
type Addresses struct {
	lo    netlink.Link
	where map[netip.Addr][]int // interfaces that have an IPv6 address by itself (/128)
	links []onLink             // the longest prefix first; nil: not looked for yet
	ways  Routes
}

// An onLink is an IPv6 route: what is behind an interface, or behind a router,
// in which case index is 0.
type onLink struct {
	prefix netip.Prefix
	index  int
}

// LookAtAddresses looks at the host.
func LookAtAddresses() (*Addresses, error) {
	a := &Addresses{where: map[netip.Addr][]int{}}
	var err error
	if a.lo, err = netlink.LinkByName("lo"); err != nil {
		return nil, fmt.Errorf("look at lo: %w", err)
	}
	list, err := dump(func() ([]netlink.Addr, error) { return netlink.AddrList(nil, unix.AF_INET6) })
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	for _, have := range list {
		addr, _ := netip.AddrFromSlice(have.IP)
		if ones, bits := have.Mask.Size(); ones == bits {
			a.where[addr] = append(a.where[addr], have.LinkIndex)
		}
	}
	return a, nil
}

// findLinks looks which networks are on which links.
func (a *Addresses) findLinks() error {
	routes, err := dump(func() ([]netlink.Route, error) {
		return netlink.RouteListFiltered(unix.AF_INET6, &netlink.Route{Table: unix.RT_TABLE_MAIN, Type: unix.RTN_UNICAST},
			netlink.RT_FILTER_TABLE|netlink.RT_FILTER_TYPE)
	})
	if err != nil {
		return fmt.Errorf("list routes: %w", err)
	}
	a.links = []onLink{}
	for _, r := range routes {
		if r.Dst == nil {
			continue
		}
		addr, _ := netip.AddrFromSlice(r.Dst.IP)
		ones, bits := r.Dst.Mask.Size()
		if ones == 0 || ones == bits { // not a link
			continue
		}
		l := onLink{netip.PrefixFrom(addr, ones), r.LinkIndex}
		if r.Gw != nil || len(r.MultiPath) > 0 {
			l.index = 0
		}
		a.links = append(a.links, l)
	}
	slices.SortStableFunc(a.links, func(x, y onLink) int { return y.prefix.Bits() - x.prefix.Bits() })
	return nil
}

// Home returns the name of the interface that an address belongs on.
func (a *Addresses) Home(addr netip.Addr) (string, error) {
	index, err := a.home(addr)
	if err != nil {
		return "", err
	}
	return a.ways.name(index)
}

func (a *Addresses) home(addr netip.Addr) (index int, err error) {
	if addr.Is4() {
		return a.lo.Attrs().Index, nil
	}
	if a.links == nil {
		if err := a.findLinks(); err != nil {
			return 0, err
		}
	}
	i := slices.IndexFunc(a.links, func(l onLink) bool { return l.prefix.Contains(addr) })
	if i < 0 || a.links[i].index == 0 {
		return a.lo.Attrs().Index, nil
	}
	return a.links[i].index, nil
}

// IsLocal reports whether addr is an address of this host, whoever has put it
// there.
func (a *Addresses) IsLocal(addr netip.Addr) (bool, error) { return a.ways.IsLocal(addr) }

// Unheard returns the name of the interface whose neighbours ask in vain for an
// address, as somebody has put it on another one; "" if there is none.
func (a *Addresses) Unheard(addr netip.Addr) (string, error) {
	home, err := a.home(addr)
	if err != nil || len(a.where[addr]) == 0 || home == a.lo.Attrs().Index || slices.Contains(a.where[addr], home) {
		return "", err
	}
	return a.ways.name(home)
}

// Put puts an address that is the caller's where it belongs, and takes it off
// where it did before. What stands there already is no error.
func (a *Addresses) Put(addr netip.Addr) error {
	if addr.Is4() {
		local, err := a.IsLocal(addr)
		if err != nil || local {
			return err
		}
		return add(a.lo.Attrs().Index, addr)
	}
	home, err := a.home(addr)
	if err != nil {
		return err
	}
	if !slices.Contains(a.where[addr], home) {
		if err := add(home, addr); err != nil {
			return err
		}
	}
	return a.take(addr, func(index int) bool { return index != home })
}

// Remove takes an address that is the caller's away. It may be gone already.
func (a *Addresses) Remove(addr netip.Addr) error {
	if addr.Is4() {
		return remove(a.lo.Attrs().Index, addr)
	}
	return a.take(addr, func(int) bool { return true })
}

// take takes an IPv6 address off the interfaces that from names.
func (a *Addresses) take(addr netip.Addr, from func(index int) bool) error {
	for _, index := range a.where[addr] {
		if from(index) {
			if err := remove(index, addr); err != nil {
				return err
			}
		}
	}
	return nil
}

func add(index int, addr netip.Addr) error {
	a := full(index, addr)
	if addr.Is6() {
		// Used at once, nobody else has it; and never by itself as a source of
		// the host's own connections, which is what deprecated addresses are.
		a.Flags, a.ValidLft, a.PreferedLft = unix.IFA_F_NODAD, math.MaxUint32, 0
	}
	err := netlink.AddrAdd(nil, a)
	if errors.Is(err, unix.EACCES) {
		return fmt.Errorf("add address %s to interface %d: IPv6 is disabled there (sysctl net.ipv6.conf.NAME.disable_ipv6): %w", addr, index, err)
	}
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("add address %s to interface %d: %w", addr, index, err)
	}
	return awaitLocal(addr)
}

// errNotLocal says that the kernel has an address, but does not take packets to it.
var errNotLocal = errors.New("it does not become the host's")

// awaitLocal waits until the kernel takes packets to an address that was added:
// it makes the route of one of IPv6 a moment later.
func awaitLocal(addr netip.Addr) error {
	for deadline := time.Now().Add(localWait); ; time.Sleep(time.Millisecond) {
		local, err := new(Routes).IsLocal(addr)
		if err != nil || local {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("add address %s: %w", addr, errNotLocal)
		}
	}
}

// localWait is far longer than the kernel takes.
const localWait = 5 * time.Second

func remove(index int, addr netip.Addr) error {
	err := netlink.AddrDel(nil, full(index, addr))
	if err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("remove address %s from interface %d: %w", addr, index, err)
	}
	return nil
}

// full returns an address by itself, not of a network.
func full(index int, addr netip.Addr) *netlink.Addr {
	ip := net.IP(addr.AsSlice())
	return &netlink.Addr{LinkIndex: index, IPNet: &net.IPNet{IP: ip, Mask: net.CIDRMask(8*len(ip), 8*len(ip))}}
}
