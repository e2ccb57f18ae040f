package host

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A sourceAddr is an address of IPv6 that an interface has.
type sourceAddr struct {
	prefix    netip.Prefix
	permanent bool // it has no end
	lasting   bool // neither temporary (RFC 8981) nor deprecated
}

// Source returns what flows to addr are to come from that last longer than a
// connection of the host does: what the kernel chooses, but for a temporary,
// deprecated or lent address of IPv6 a better one of the same interface, if there
// is one, of the same prefix rather than another, and a permanent one rather than
// a lent one. It is not valid if the route does not say. The error is that of
// [Routes.To].
func (r *Routes) Source(addr netip.Addr) (netip.Addr, error) {
	way, err := r.To(addr)
	if err != nil || !way.Source.Is6() {
		return way.Source, err
	}
	if r.sources == nil {
		if r.sources, err = listSources(); err != nil {
			return netip.Addr{}, err
		}
	}
	have := r.sources[way.Ifindex]
	at := slices.IndexFunc(have, func(s sourceAddr) bool { return s.prefix.Addr() == way.Source })
	if at < 0 {
		return way.Source, nil // of another interface: somebody wants it so
	}
	chosen := have[at].prefix
	best := slices.MinFunc(have, func(a, b sourceAddr) int {
		return cmp.Or(
			falseLast(a.lasting, b.lasting),
			falseLast(chosen.Contains(a.prefix.Addr()), chosen.Contains(b.prefix.Addr())),
			falseLast(a.permanent, b.permanent),
			falseLast(a.prefix == chosen, b.prefix == chosen),
			a.prefix.Addr().Compare(b.prefix.Addr()),
		)
	})
	if !best.lasting {
		return way.Source, nil
	}
	return best.prefix.Addr(), nil
}

func falseLast(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}

// listSources returns the global addresses of IPv6 that interfaces may send from.
func listSources() (map[int][]sourceAddr, error) {
	list, err := dump(func() ([]netlink.Addr, error) { return netlink.AddrList(nil, unix.AF_INET6) })
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	all := map[int][]sourceAddr{}
	for _, a := range list {
		addr, _ := netip.AddrFromSlice(a.IP)
		if a.Scope != unix.RT_SCOPE_UNIVERSE || a.Flags&(unix.IFA_F_TENTATIVE|unix.IFA_F_DADFAILED) != 0 {
			continue
		}
		ones, _ := a.Mask.Size()
		all[a.LinkIndex] = append(all[a.LinkIndex], sourceAddr{
			prefix:    netip.PrefixFrom(addr, ones),
			permanent: a.Flags&unix.IFA_F_PERMANENT != 0,
			lasting:   a.Flags&(unix.IFA_F_TEMPORARY|unix.IFA_F_DEPRECATED) == 0,
		})
	}
	return all, nil
}
