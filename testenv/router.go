package testenv

import (
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
)

// Behind makes a client or backend of the rig a router, and returns a host
// behind it that the balancer reaches through it. The second byte of the
// network between them is that of the router's cable plus 2:
//
//	behind Clients[i]   10.3.<i+1>.2/24  router's end 10.3.<i+1>.1, interface far
//	behind Backends[i]  10.4.<i+1>.2/24  router's end 10.4.<i+1>.1, interface far
func (r *Rig) Behind(tb TB, router *Host, opts ...CableOption) (far *Host, addr netip.Addr) {
	tb.Helper()
	hosts, addrs := append(slices.Clone(r.Clients), r.Backends...), append(slices.Clone(r.ClientAddrs), r.BackendAddrs...)
	via := addrs[slices.Index(hosts, router)]
	gateway := via.As4()
	gateway[1], gateway[3] = gateway[1]+2, 1
	own := netip.AddrFrom4(gateway).Next()

	far = NewHost(tb, "far")
	if router.ipv6 {
		far.EnableIPv6(tb)
	}
	router.forward(tb)
	opts = append(opts, EndNames("far", router.Name))
	Cable(tb, router, own.Prev().String()+"/24", far, own.String()+"/24", opts...)
	far.DefaultRoute(tb, router.Name, own.Prev())
	r.Balancer.Route(tb, router.Name, netip.PrefixFrom(own, 24).Masked(), via)
	if router.ipv6 {
		r.Balancer.Route(tb, router.Name, netip.PrefixFrom(Six(own), 64).Masked(), Six(via))
	}
	return far, own
}

// forward makes the host a router.
func (h *Host) forward(tb TB) {
	tb.Helper()
	h.Sysctl(tb, "net.ipv4.ip_forward", "1")
	if h.ipv6 {
		h.Sysctl(tb, "net.ipv6.conf.all.forwarding", "1")
	}
}

// DefaultRoute routes everything through a gateway behind an interface, IPv6
// through that of [Six].
func (h *Host) DefaultRoute(tb TB, iface string, via netip.Addr) {
	tb.Helper()
	h.Route(tb, iface, netip.PrefixFrom(netip.IPv4Unspecified(), 0), via)
	if h.ipv6 {
		h.Route(tb, iface, netip.PrefixFrom(netip.IPv6Unspecified(), 0), Six(via))
	}
}

// Route adds a route through a gateway behind an interface.
func (h *Host) Route(tb TB, iface string, to netip.Prefix, via netip.Addr) {
	tb.Helper()
	h.Do(tb, func() error {
		l, err := netlink.LinkByName(iface)
		if err != nil {
			return fmt.Errorf("find link %s: %w", iface, err)
		}
		err = netlink.RouteAdd(&netlink.Route{
			LinkIndex: l.Attrs().Index,
			Dst:       &net.IPNet{IP: to.Addr().AsSlice(), Mask: net.CIDRMask(to.Bits(), to.Addr().BitLen())},
			Gw:        via.AsSlice(),
		})
		if err != nil {
			return fmt.Errorf("add route to %s via %s: %w", to, via, err)
		}
		return nil
	})
}

// SetMTU sets the MTU of an interface, and not of its far end.
func (h *Host) SetMTU(tb TB, iface string, mtu int) {
	tb.Helper()
	h.Do(tb, func() error {
		l, err := netlink.LinkByName(iface)
		if err == nil {
			err = netlink.LinkSetMTU(l, mtu)
		}
		if err != nil {
			return fmt.Errorf("set MTU of %s: %w", iface, err)
		}
		return nil
	})
}
