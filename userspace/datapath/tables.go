package datapath

import (
	"net/netip"

	"fairlead/loader"
)

func listenersOf(m *loader.Maps) split[listener, loader.Listener, loader.Listener6] {
	return split[listener, loader.Listener, loader.Listener6]{
		four: half[listener, loader.Listener, uint32]{
			m: m.Listeners,
			to: func(l listener) loader.Listener {
				return loader.Listener{Addr: be32(l.at.Addr()), Port: be16(l.at.Port()), Proto: l.proto}
			},
			from: func(l loader.Listener) listener {
				return listener{at4(l.Addr, l.Port), l.Proto}
			},
		},
		six: half[listener, loader.Listener6, uint32]{
			m: m.Listeners6,
			to: func(l listener) loader.Listener6 {
				return loader.Listener6{Addr: loader.AddressOf(l.at.Addr()), Port: be16(l.at.Port()), Proto: l.proto}
			},
			from: func(l loader.Listener6) listener { return listener{key6(l.Addr, l.Port), l.Proto} },
		},
		is6: func(l listener) bool { return l.at.Addr().Is6() },
	}
}

func vipsOf(m *loader.Maps) split[netip.Addr, uint32, loader.Address] {
	return split[netip.Addr, uint32, loader.Address]{
		four: half[netip.Addr, uint32, uint32]{m: m.VIPs, to: be32, from: addr4},
		six:  half[netip.Addr, loader.Address, uint32]{m: m.VIPs6, to: loader.AddressOf, from: addr6},
		is6:  netip.Addr.Is6,
	}
}

// rowBits is the part of a client prefix's length that is for the service's row.
const rowBits = 32

func clientsOf(m *loader.Maps) split[network, loader.ClientPrefix, loader.ClientPrefix6] {
	return split[network, loader.ClientPrefix, loader.ClientPrefix6]{
		four: half[network, loader.ClientPrefix, uint32]{
			m: m.Clients,
			to: func(n network) loader.ClientPrefix {
				return loader.ClientPrefix{Len: rowBits + uint32(n.prefix.Bits()), Service: n.service, Addr: be32(n.prefix.Addr())}
			},
			from: func(c loader.ClientPrefix) network {
				return network{c.Service, netip.PrefixFrom(addr4(c.Addr), int(c.Len)-rowBits)}
			},
		},
		six: half[network, loader.ClientPrefix6, uint32]{
			m: m.Clients6,
			to: func(n network) loader.ClientPrefix6 {
				return loader.ClientPrefix6{Len: rowBits + uint32(n.prefix.Bits()), Service: n.service, Addr: loader.AddressOf(n.prefix.Addr())}
			},
			from: func(c loader.ClientPrefix6) network {
				return network{c.Service, netip.PrefixFrom(addr6(c.Addr), int(c.Len)-rowBits)}
			},
		},
		is6: func(n network) bool { return n.prefix.Addr().Is6() },
	}
}

func devicesOf(m *loader.Maps) half[uint32, uint32, loader.Device] {
	same := func(index uint32) uint32 { return index }
	return half[uint32, uint32, loader.Device]{m: m.Devices, to: same, from: same}
}
