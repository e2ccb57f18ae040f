package testenv

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/safchain/ethtool"
	"github.com/vishvananda/netlink"
)

// carrierTimeout is far longer than the kernel takes.
const carrierTimeout = 20 * time.Second

var errNoCarrier = errors.New("no carrier")

// A CableOption changes what [Cable] makes.
type CableOption func(*cable)

type cable struct {
	nameA, nameB string
	mtu, queues  int
	txChecksum   bool
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
// Addresses are IPv4 in CIDR notation. Each end is named after the host at its
// other end, has the MAC address [MAC] of its address and knows its neighbour
// for good: no ARP is sent. TX checksum offload is off, because XDP on veth
// sees partial checksums otherwise. GRO is on, because a redirected frame
// arrives at a veth only if its far end polls.
func Cable(tb TB, a *Host, addrA string, b *Host, addrB string, opts ...CableOption) {
	tb.Helper()
	c := cable{nameA: b.Name, nameB: a.Name, mtu: 1500, queues: 1}
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

// raise brings one end up, with its address, offloads and neighbour.
func (c *cable) raise(name string, own netip.Prefix, peer netip.Addr) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find link %s: %w", name, err)
	}
	addr := &net.IPNet{IP: own.Addr().AsSlice(), Mask: net.CIDRMask(own.Bits(), 32)}
	if err := netlink.AddrAdd(l, &netlink.Addr{IPNet: addr}); err != nil {
		return fmt.Errorf("add %s to %s: %w", own, name, err)
	}
	if err := netlink.LinkSetUp(l); err != nil {
		return fmt.Errorf("set %s up: %w", name, err)
	}
	// Only a device that is up tells its peer that it polls.
	err = setFeatures(name, map[string]bool{
		"rx-gro":                 true,
		"tx-checksum-ip-generic": c.txChecksum,
	})
	if err != nil {
		return fmt.Errorf("set offloads of %s: %w", name, err)
	}
	err = netlink.NeighSet(&netlink.Neigh{
		LinkIndex:    l.Attrs().Index,
		State:        netlink.NUD_PERMANENT,
		IP:           peer.AsSlice(),
		HardwareAddr: MAC(peer),
	})
	if err != nil {
		return fmt.Errorf("add neighbour %s to %s: %w", peer, name, err)
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
