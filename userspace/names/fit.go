package names

import (
	"net/netip"
	"slices"

	"fairlead/userspace/model"
)

var broadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// fits reports whether a backend of a service or pool can have an address.
func fits(state *model.State, s *model.Service, a netip.AddrPort) bool {
	addr := a.Addr()
	switch {
	case addr.IsUnspecified(), addr.IsMulticast(), addr.Is6() && addr.IsLinkLocalUnicast(), addr == broadcast, addr.Is4() && addr.As4()[0] == 0:
		return false
	case addr.IsLoopback() && state.XDP != model.XDPOff && !s.UserSpace():
		return false
	}
	if s.Listen.IsValid() {
		return !isAt(s, a)
	}
	return !slices.ContainsFunc(state.Services, func(x model.Service) bool { return isAt(&x, a) && sendsTo(&x, s.Name) })
}

// isAt reports whether a service itself gets what is sent to an address.
func isAt(s *model.Service, a netip.AddrPort) bool {
	listen, port := s.Listen.Addr(), a.Port()
	return (a.Addr() == listen || listen.IsUnspecified() && a.Addr().IsLoopback()) &&
		(port == 0 || s.Listen.Port() <= port && port <= s.LastPort)
}

// sendsTo reports whether routes of a service name a pool.
func sendsTo(s *model.Service, pool string) bool {
	return slices.ContainsFunc(s.HTTP.Routes, func(r model.Route) bool { return slices.Contains(r.PoolNames(), pool) }) ||
		slices.ContainsFunc(s.Names, func(r model.NameRoute) bool { return r.Pool == pool })
}
