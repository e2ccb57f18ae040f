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
	Source    netip.Addr // what the host's connections come from; not valid if the route does not say
}

// Routes looks up ways and remembers them. It is for one look at the host:
// what changes after a look-up is not seen. The zero value works; it is not
// safe for concurrent use.
type Routes struct {
	routes map[netip.Addr]answer
	names  map[int]string // of interfaces, by index
	// sources are the addresses of IPv6, by interface; nil: not looked for yet.
	sources map[int][]sourceAddr
}

type answer struct {
	route Route
	err   error
}

// To returns the way that packets to addr take. Of several next hops it is the
// one that the kernel picks for a packet without ports. The error wraps
// [ErrNoRoute] if there is none, or one that refuses packets.
func (r *Routes) To(addr netip.Addr) (Route, error) {
	if known, ok := r.routes[addr]; ok {
		return known.route, known.err
	}
	if r.routes == nil {
		r.routes = map[netip.Addr]answer{}
	}
	route, err := r.lookUp(addr)
	r.routes[addr] = answer{route, err}
	return route, err
}

func (r *Routes) lookUp(addr netip.Addr) (Route, error) {
	routes, err := netlink.RouteGet(net.IP(addr.AsSlice()))
	if refuses(err) || (err == nil && len(routes) == 0) {
		return Route{}, fmt.Errorf("%s: %w", addr, ErrNoRoute)
	}
	if err != nil {
		return Route{}, fmt.Errorf("look up route to %s: %w", addr, err)
	}
	found := Route{Ifindex: routes[0].LinkIndex, NextHop: addr, Local: routes[0].Type == unix.RTN_LOCAL}
	if gw, ok := netip.AddrFromSlice(routes[0].Gw); ok {
		found.NextHop = gw.Unmap()
	}
	if src, ok := netip.AddrFromSlice(routes[0].Src); ok {
		found.Source = src.Unmap()
	}
	if found.Interface, err = r.name(found.Ifindex); err != nil {
		return Route{}, fmt.Errorf("%s: %w", addr, err)
	}
	return found, nil
}

// refuses reports whether a look-up found no route, one of the types unreachable,
// blackhole and prohibit, or a kernel without the family.
func refuses(err error) bool {
	return errors.Is(err, unix.ENETUNREACH) || errors.Is(err, unix.EHOSTUNREACH) ||
		errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EACCES) || errors.Is(err, unix.EOPNOTSUPP)
}

func (r *Routes) name(ifindex int) (string, error) {
	if name, ok := r.names[ifindex]; ok {
		return name, nil
	}
	if r.names == nil {
		r.names = map[int]string{}
	}
	link, err := netlink.LinkByIndex(ifindex)
	var gone netlink.LinkNotFoundError
	if errors.As(err, &gone) {
		return "", ErrNoRoute // it went with its interface, after the look-up
	}
	if err != nil {
		return "", fmt.Errorf("look at interface %d: %w", ifindex, err)
	}
	r.names[ifindex] = link.Attrs().Name
	return link.Attrs().Name, nil
}

// IsLocal reports whether addr is an address of this host.
func (r *Routes) IsLocal(addr netip.Addr) (bool, error) {
	route, err := r.To(addr)
	if errors.Is(err, ErrNoRoute) {
		return false, nil
	}
	return route.Local, err
}

// IsLocal is [Routes.IsLocal] for a single look.
func IsLocal(addr netip.Addr) (bool, error) { return new(Routes).IsLocal(addr) }
