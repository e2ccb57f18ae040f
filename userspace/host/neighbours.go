package host

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A Neighbour is a next hop whose Ethernet address the kernel is to keep known.
type Neighbour struct {
	Ifindex int        `json:"ifindex"`
	Addr    netip.Addr `json:"address"`
}

// known are the states in which the kernel's route look-up finds a neighbour.
const known = unix.NUD_PERMANENT | unix.NUD_NOARP | unix.NUD_REACHABLE | unix.NUD_STALE | unix.NUD_DELAY | unix.NUD_PROBE

// NextHops returns the next hops towards backends, and those of the default
// routes, by which clients are reached. Addresses without a route, and the
// host's own, have none.
func NextHops(backends []netip.Addr) ([]Neighbour, error) {
	seen := map[Neighbour]bool{}
	var hops []Neighbour
	add := func(n Neighbour) {
		if !seen[n] {
			seen[n] = true
			hops = append(hops, n)
		}
	}
	for _, b := range backends {
		r, err := RouteTo(b)
		if errors.Is(err, ErrNoRoute) || (err == nil && r.Local) {
			continue
		}
		if err != nil {
			return nil, err
		}
		add(Neighbour{r.Ifindex, r.NextHop})
	}
	routes, err := netlink.RouteListFiltered(unix.AF_INET, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	for _, r := range routes {
		gw, ok := netip.AddrFromSlice(r.Gw)
		if ok && (r.Dst == nil || r.Dst.IP.IsUnspecified()) {
			add(Neighbour{r.LinkIndex, gw.Unmap()})
		}
	}
	return hops, nil
}

// Manage asks the kernel to keep the neighbour's Ethernet address known by
// itself (NTF_EXT_MANAGED, Linux 5.16), and reports whether it did not before.
// An entry that an administrator made permanent stays as it is, and so does
// one on a device that has no neighbours.
func (n Neighbour) Manage() (added bool, err error) {
	link, err := netlink.LinkByIndex(n.Ifindex)
	if err != nil {
		return false, fmt.Errorf("keep neighbour %s: interface %d: %w", n.Addr, n.Ifindex, err)
	}
	if link.Attrs().RawFlags&unix.IFF_NOARP != 0 {
		return false, nil
	}
	have, err := n.find()
	if err != nil {
		return false, err
	}
	if have != nil && (have.State&(unix.NUD_PERMANENT|unix.NUD_NOARP) != 0 || have.FlagsExt&netlink.NTF_EXT_MANAGED != 0) {
		return false, nil
	}
	entry := netlink.Neigh{
		LinkIndex: n.Ifindex, Family: unix.AF_INET, IP: net.IP(n.Addr.AsSlice()),
		Flags: netlink.NTF_USE, FlagsExt: netlink.NTF_EXT_MANAGED,
	}
	if err := netlink.NeighSet(&entry); err != nil {
		return false, fmt.Errorf("keep neighbour %s on %s: %w", n.Addr, link.Attrs().Name, err)
	}
	return true, nil
}

// Release ends what Manage began. The entry may be gone.
func (n Neighbour) Release() error {
	have, err := n.find()
	if err != nil || have == nil || have.FlagsExt&netlink.NTF_EXT_MANAGED == 0 {
		return err
	}
	err = netlink.NeighDel(&netlink.Neigh{LinkIndex: n.Ifindex, Family: unix.AF_INET, IP: net.IP(n.Addr.AsSlice())})
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("release neighbour %s: %w", n.Addr, err)
	}
	return nil
}

// find returns the kernel's entry, nil if there is none.
func (n Neighbour) find() (*netlink.Neigh, error) {
	list, err := netlink.NeighList(n.Ifindex, unix.AF_INET)
	if err != nil {
		return nil, fmt.Errorf("list neighbours: %w", err)
	}
	for i := range list {
		if addr, ok := netip.AddrFromSlice(list[i].IP); ok && addr.Unmap() == n.Addr {
			return &list[i], nil
		}
	}
	return nil, nil
}

// AwaitNeighbours returns those of hops that the kernel does not know yet when
// ctx is done or all are known.
func AwaitNeighbours(ctx context.Context, hops []Neighbour) (unknown []Neighbour, err error) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		unknown = unknown[:0]
		for _, n := range hops {
			have, err := n.find()
			if err != nil {
				return nil, err
			}
			if have == nil || have.State&known == 0 {
				unknown = append(unknown, n)
			}
		}
		if len(unknown) == 0 {
			return nil, nil
		}
		select {
		case <-ctx.Done():
			return unknown, nil
		case <-tick.C:
		}
	}
}
