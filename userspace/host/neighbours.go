package host

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
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
// routes of their and the services' families, by which clients are reached. Addresses without a
// route, and the host's own, have none.
func NextHops(backends, services []netip.Addr) ([]Neighbour, error) {
	seen := map[Neighbour]bool{}
	var hops []Neighbour
	add := func(n Neighbour) {
		if !seen[n] {
			seen[n] = true
			hops = append(hops, n)
		}
	}
	var ways Routes
	for _, b := range backends {
		r, err := ways.To(b)
		if errors.Is(err, ErrNoRoute) || (err == nil && r.Local) {
			continue
		}
		if err != nil {
			return nil, err
		}
		add(Neighbour{r.Ifindex, r.NextHop})
	}
	for _, family := range families(slices.Concat(backends, services)) {
		routes, err := defaultRoutes(family)
		if err != nil {
			return nil, err
		}
		for _, r := range routes {
			for _, way := range nextHops(r) {
				if gw, ok := netip.AddrFromSlice(way.Gw); ok {
					add(Neighbour{way.LinkIndex, gw.Unmap()})
				}
			}
		}
	}
	return hops, nil
}

// families returns the families that addresses are of.
func families(addrs []netip.Addr) (all []int) {
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		if slices.ContainsFunc(addrs, func(a netip.Addr) bool { return familyOf(a) == family }) {
			all = append(all, family)
		}
	}
	return all
}

func familyOf(a netip.Addr) int {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// Unmanaged returns those of hops whose Ethernet addresses the kernel does not
// keep known by itself. An entry that an administrator made permanent needs
// nothing, and neither does one on a device that has no neighbours.
func Unmanaged(hops []Neighbour) ([]Neighbour, error) {
	have, err := entries(hops)
	if err != nil {
		return nil, err
	}
	arp := map[int]bool{} // by interface: it has neighbours
	var unmanaged []Neighbour
	for _, n := range hops {
		if _, asked := arp[n.Ifindex]; !asked {
			link, err := netlink.LinkByIndex(n.Ifindex)
			arp[n.Ifindex] = err == nil && link.Attrs().RawFlags&unix.IFF_NOARP == 0
		}
		e := have[n]
		kept := e.State&(unix.NUD_PERMANENT|unix.NUD_NOARP) != 0 || e.FlagsExt&netlink.NTF_EXT_MANAGED != 0
		if arp[n.Ifindex] && !kept {
			unmanaged = append(unmanaged, n)
		}
	}
	return unmanaged, nil
}

// Manage asks the kernel to keep the neighbour's Ethernet address known by
// itself (NTF_EXT_MANAGED, Linux 5.16). It is for those of [Unmanaged].
func (n Neighbour) Manage() error {
	entry := netlink.Neigh{
		LinkIndex: n.Ifindex, Family: familyOf(n.Addr), IP: net.IP(n.Addr.AsSlice()),
		Flags: netlink.NTF_USE, FlagsExt: netlink.NTF_EXT_MANAGED,
	}
	if err := netlink.NeighSet(&entry); err != nil {
		return fmt.Errorf("keep neighbour %s on interface %d: %w", n.Addr, n.Ifindex, err)
	}
	return nil
}

// Release ends what Manage began. The entry may be gone.
func (n Neighbour) Release() error {
	have, err := entries([]Neighbour{n})
	if err != nil || have[n].FlagsExt&netlink.NTF_EXT_MANAGED == 0 {
		return err
	}
	err = netlink.NeighDel(&netlink.Neigh{LinkIndex: n.Ifindex, Family: familyOf(n.Addr), IP: net.IP(n.Addr.AsSlice())})
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("release neighbour %s: %w", n.Addr, err)
	}
	return nil
}

// entries returns what the kernel has on the interfaces of hops.
func entries(hops []Neighbour) (map[Neighbour]netlink.Neigh, error) {
	have, listed := map[Neighbour]netlink.Neigh{}, map[int]bool{}
	for _, n := range hops {
		if listed[n.Ifindex] {
			continue
		}
		listed[n.Ifindex] = true
		list, err := dump(func() ([]netlink.Neigh, error) { return netlink.NeighList(n.Ifindex, unix.AF_UNSPEC) })
		if err != nil {
			return nil, fmt.Errorf("list neighbours: %w", err)
		}
		for _, e := range list {
			if addr, ok := netip.AddrFromSlice(e.IP); ok {
				have[Neighbour{n.Ifindex, addr.Unmap()}] = e
			}
		}
	}
	return have, nil
}

// AwaitNeighbours returns those of hops that the kernel does not know yet when
// ctx is done or all are known.
func AwaitNeighbours(ctx context.Context, hops []Neighbour) (unknown []Neighbour, err error) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		have, err := entries(hops)
		if err != nil {
			return nil, err
		}
		unknown = slices.DeleteFunc(slices.Clone(hops), func(n Neighbour) bool { return have[n].State&known != 0 })
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
