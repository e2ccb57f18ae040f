package datapath

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/cilium/ebpf"

	"fairlead/loader"
	"fairlead/userspace/model"
)

// A datagrams names what a client sends to a virtual address.
type datagrams struct{ client, virtual netip.AddrPort }

func standbyOf(m *loader.Maps) split[datagrams, loader.FlowKey, loader.FlowKey6] {
	return split[datagrams, loader.FlowKey, loader.FlowKey6]{
		four: half[datagrams, loader.FlowKey, uint32]{
			m: m.Standby,
			to: func(d datagrams) loader.FlowKey {
				return loader.FlowKey{
					Saddr: be32(d.client.Addr()), Daddr: be32(d.virtual.Addr()),
					Sport: be16(d.client.Port()), Dport: be16(d.virtual.Port()), Proto: model.UDP.Number(),
				}
			},
			from: func(k loader.FlowKey) datagrams { return datagrams{at4(k.Saddr, k.Sport), at4(k.Daddr, k.Dport)} },
		},
		six: half[datagrams, loader.FlowKey6, uint32]{
			m: m.Standby6,
			to: func(d datagrams) loader.FlowKey6 {
				return loader.FlowKey6{
					Saddr: loader.AddressOf(d.client.Addr()), Daddr: loader.AddressOf(d.virtual.Addr()),
					Sport: be16(d.client.Port()), Dport: be16(d.virtual.Port()), Proto: model.UDP.Number(),
				}
			},
			from: func(k loader.FlowKey6) datagrams { return datagrams{key6(k.Saddr, k.Sport), key6(k.Daddr, k.Dport)} },
		},
		is6: func(d datagrams) bool { return d.virtual.Addr().Is6() },
	}
}

// keysOf returns what datagrams have in the tables: those of IPv4 may be of a
// service between families, whose place is among those of IPv6.
func keysOf(maps *loader.Maps, client, virtual netip.AddrPort) (keys []datagrams) {
	as := func(to func(netip.Addr) netip.Addr) datagrams {
		return datagrams{
			netip.AddrPortFrom(to(client.Addr()), client.Port()), netip.AddrPortFrom(to(virtual.Addr()), virtual.Port()),
		}
	}
	if virtual.Addr().Unmap().Is4() {
		keys = append(keys, as(netip.Addr.Unmap))
	}
	if maps.Standby6 != nil { // without IPv6 the kernel leaves them all
		keys = append(keys, as(wide))
	}
	return keys
}

// HoldStandby leaves the datagrams of a client to the user-space proxy, even
// where XDP would make a flow of them, until [ReleaseStandby].
func HoldStandby(maps *loader.Maps, client, virtual netip.AddrPort) error {
	keys := keysOf(maps, client, virtual)
	if err := standbyOf(maps).put(keys, slices.Repeat([]uint32{1}, len(keys))); err != nil {
		return fmt.Errorf("hold standby flow of %s: %w", client, err)
	}
	return nil
}

// ReleaseStandby ends what [HoldStandby] began. It may not have begun.
func ReleaseStandby(maps *loader.Maps, client, virtual netip.AddrPort) error {
	for _, d := range keysOf(maps, client, virtual) {
		if err := standbyOf(maps).delete(d); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("release standby flow of %s: %w", client, err)
		}
	}
	return nil
}

// ClearStandby forgets the standby flows of an agent that is no more, but for those
// that keep, which may be nil, reports true for; its addresses are of IPv4 where they
// can be.
func ClearStandby(maps *loader.Maps, keep func(client, virtual netip.AddrPort) bool) error {
	table := standbyOf(maps)
	held, err := table.read()
	if err != nil {
		return fmt.Errorf("read standby flows: %w", err)
	}
	plain := func(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }
	for d := range held {
		if keep != nil && keep(plain(d.client), plain(d.virtual)) {
			continue
		}
		if err := table.delete(d); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("clear standby flows: %w", err)
		}
	}
	return nil
}
