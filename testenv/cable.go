package testenv

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/safchain/ethtool"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// carrierTimeout is far longer than the kernel takes.
const carrierTimeout = 20 * time.Second

var (
	errNoCarrier = errors.New("no carrier")
	errNotLocal  = errors.New("the kernel takes no packets to the address")
)

// A CableOption changes what [Cable] makes.
type CableOption func(*cable)

type cable struct {
	nameA, nameB string
	mtu, queues  int
	txChecksum   bool
	ipv6         bool
}

// MTU sets the MTU of both ends; the default is 1500.
func MTU(n int) CableOption { return func(c *cable) { c.mtu = n } }

// Queues gives both ends n receive and n transmit queues; the default is 1.
func Queues(n int) CableOption { return func(c *cable) { c.queues = n } }

// TXChecksum leaves checksum offload on at both ends: frames from their
// stacks then carry partial checksums and may be segmentation offloaded.
func TXChecksum() CableOption { return func(c *cable) { c.txChecksum = true } }

// EndNames names the ends instead of after the host at the other end.
func EndNames(a, b string) CableOption {
	return func(c *cable) { c.nameA, c.nameB = a, b }
}

// Cable connects a and b with a veth pair, both ends up and addressed.
//
// Addresses are IPv4 in CIDR notation; where both hosts have IPv6, each end also
// has that of [Six], of a /64. Each end is named after the host at its
// other end, has the MAC address [MAC] of its address and knows its neighbour
// for good: no ARP is sent. TX checksum offload is off, because XDP on veth
// sees partial checksums otherwise. GRO is on, because a redirected frame
// arrives at a veth only if its far end polls.
func Cable(tb TB, a *Host, addrA string, b *Host, addrB string, opts ...CableOption) {
	tb.Helper()
	c := cable{nameA: b.Name, nameB: a.Name, mtu: 1500, queues: 1, ipv6: a.ipv6 && b.ipv6}
	for _, o := range opts {
		o(&c)
	}
	prefixA, prefixB := parsePrefix(tb, addrA), parsePrefix(tb, addrB)
	a.Do(tb, func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = c.nameA
		attrs.MTU = c.mtu
		attrs.NumTxQueues, attrs.NumRxQueues = c.queues, c.queues
		attrs.HardwareAddr = MAC(prefixA.Addr())
		return netlink.LinkAdd(&netlink.Veth{
			LinkAttrs:        attrs,
			PeerName:         c.nameB,
			PeerNamespace:    netlink.NsFd(int(b.ns)),
			PeerHardwareAddr: MAC(prefixB.Addr()),
			PeerMTU:          uint32(c.mtu),
			PeerNumTxQueues:  uint32(c.queues),
			PeerNumRxQueues:  uint32(c.queues),
		})
	})
	a.Do(tb, func() error { return c.raise(c.nameA, prefixA, prefixB.Addr()) })
	b.Do(tb, func() error { return c.raise(c.nameB, prefixB, prefixA.Addr()) })
	a.Do(tb, func() error { return awaitCarrier(c.nameA) })
	b.Do(tb, func() error { return awaitCarrier(c.nameB) })
}

// awaitCarrier waits until frames can leave: the end that comes up first has no
// carrier then, and the kernel turns its queue on later, in a work item that
// may take a second. Frames sent before vanish.
func awaitCarrier(name string) error {
	for deadline := time.Now().Add(carrierTimeout); ; time.Sleep(time.Millisecond) {
		l, err := netlink.LinkByName(name)
		if err != nil {
			return fmt.Errorf("find link %s: %w", name, err)
		}
		if l.Attrs().OperState == netlink.OperUp {
			// The state is set just before the queue, under the lock that
			// this change, which changes nothing, waits for.
			return netlink.LinkSetUp(l)
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("link %s is %s: %w", name, l.Attrs().OperState, errNoCarrier)
		}
	}
}

func parsePrefix(tb TB, cidr string) netip.Prefix {
	tb.Helper()
	p, err := netip.ParsePrefix(cidr)
	if err != nil || !p.Addr().Is4() {
		tb.Fatalf("cable address %q is not IPv4 in CIDR notation", cidr)
	}
	return p
}

// MAC returns the MAC address of the cable end with an IPv4 address:
// locally administered, and unique as far as the addresses are.
func MAC(addr netip.Addr) net.HardwareAddr {
	ip := addr.As4()
	return net.HardwareAddr{0x02, 0x00, ip[0], ip[1], ip[2], ip[3]}
}

// Six returns the IPv6 address that stands beside an IPv4 address of the form
// 10.a.b.c: 2001:db8:a:b::c.
func Six(addr netip.Addr) netip.Addr {
	four := addr.As4()
	return netip.AddrFrom16([16]byte{0: 0x20, 1: 0x01, 2: 0x0d, 3: 0xb8, 5: four[1], 7: four[2], 15: four[3]})
}

// raise brings one end up, with its addresses, offloads and neighbours.
func (c *cable) raise(name string, own netip.Prefix, peer netip.Addr) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find link %s: %w", name, err)
	}
	if err := netlink.LinkSetUp(l); err != nil {
		return fmt.Errorf("set %s up: %w", name, err)
	}
	if err := join(l, own, peer, MAC(peer)); err != nil {
		return err
	}
	if c.ipv6 {
		if err := join(l, netip.PrefixFrom(Six(own.Addr()), 64), Six(peer), MAC(peer)); err != nil {
			return err
		}
	}
	// Only a device that is up tells its peer that it polls.
	err = setFeatures(name, map[string]bool{
		"rx-gro":                 true,
		"tx-checksum-ip-generic": c.txChecksum,
	})
	if err != nil {
		return fmt.Errorf("set offloads of %s: %w", name, err)
	}
	return nil
}

// awaitRoute waits until the kernel takes packets to an address: it makes the
// route of one of IPv6 a moment later.
func awaitRoute(own netip.Addr) error {
	for deadline := time.Now().Add(carrierTimeout); ; time.Sleep(time.Millisecond) {
		routes, err := netlink.RouteGet(own.AsSlice())
		if err == nil && len(routes) > 0 && routes[0].Type == unix.RTN_LOCAL {
			return nil
		}
		if time.Now().After(deadline) {
			return errors.Join(fmt.Errorf("%s: %w", own, errNotLocal), err)
		}
	}
}

// join gives an end its address and its neighbour.
func join(l netlink.Link, own netip.Prefix, peer netip.Addr, mac net.HardwareAddr) error {
	addr := &net.IPNet{IP: own.Addr().AsSlice(), Mask: net.CIDRMask(own.Bits(), own.Addr().BitLen())}
	a := &netlink.Addr{IPNet: addr}
	if own.Addr().Is6() {
		a.Flags = unix.IFA_F_NODAD
	}
	if err := netlink.AddrAdd(l, a); err != nil {
		return fmt.Errorf("add %s to %s: %w", own, l.Attrs().Name, err)
	}
	if err := awaitRoute(own.Addr()); err != nil {
		return err
	}
	err := netlink.NeighSet(&netlink.Neigh{
		LinkIndex:    l.Attrs().Index,
		State:        netlink.NUD_PERMANENT,
		IP:           peer.AsSlice(),
		HardwareAddr: mac,
	})
	if err != nil {
		return fmt.Errorf("add neighbour %s to %s: %w", peer, l.Attrs().Name, err)
	}
	return nil
}

// SetFeature switches an offload of an interface, by the name that ethtool has
// for it in the kernel: rx-gro, tx-checksum-ip-generic, ...
func (h *Host) SetFeature(tb TB, iface, feature string, on bool) {
	tb.Helper()
	h.Do(tb, func() error {
		if err := setFeatures(iface, map[string]bool{feature: on}); err != nil {
			return fmt.Errorf("set %s of %s: %w", feature, iface, err)
		}
		return nil
	})
}

func setFeatures(name string, features map[string]bool) error {
	e, err := ethtool.NewEthtool()
	if err != nil {
		return err
	}
	defer e.Close()
	return e.Change(name, features)
}
