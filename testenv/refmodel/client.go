package refmodel

import "net/netip"

// welcome is the rest of step 7: whether a source may make a flow of the
// service in this row.
func (m *Model) welcome(src Addr, row uint32, s Service) (Verdict, bool) {
	switch {
	case s.Flags&FlagListed != 0 && !m.allowed(src, row):
		return DropDenied, false
	case s.Flags&FlagLimited != 0 && !m.spend(src, row, s):
		return DropSourceLimit, false
	}
	return 0, true
}

// allowed says what the longest prefix that a source is in says.
func (m *Model) allowed(src Addr, row uint32) bool {
	longest, allowed := -1, false
	for p, allow := range m.Clients {
		if p.Service == row && p.Len > longest && netip.PrefixFrom(p.Addr, p.Len).Contains(src) {
			longest, allowed = p.Len, allow
		}
	}
	return allowed
}

// mostZones is how many zones of a service are looked at.
const mostZones = 32

// chooser is the row of services whose run of slots a source gets at the service
// in a row: the service itself, or the zone that the source is in.
func (m *Model) chooser(src Addr, row uint32) uint32 {
	longest, zone := -1, uint32(0)
	for p, number := range m.Zones {
		if p.Bits() > longest && p.Contains(src) {
			longest, zone = p.Bits(), number
		}
	}
	next := m.service(row).Zones
	for range mostZones {
		if zone == 0 || next == 0 || int(next) > len(m.Services) {
			break
		}
		if z := m.Services[next-1]; z.Zone == zone {
			return next - 1
		}
		next = m.Services[next-1].Zones
	}
	return row
}

// And is an address without the bits that a mask lacks. Of IPv4, however it is
// written, only the last four bytes count.
func And(a, mask Addr) Addr {
	b := a.AsSlice()
	for i, m := range mask.AsSlice() {
		if i >= 12 || !a.Is4In6() {
			b[i] &= m
		}
	}
	return AddrFrom(b)
}

// spend takes one flow from the credit of the source's network, if there is one.
func (m *Model) spend(src Addr, row uint32, s Service) bool {
	hz := uint64(m.Control.Hz)
	left := uint64(s.LimitBurst) * hz
	key := Source{Service: row, Net: And(src, s.LimitMask)}
	if c, known := m.Sources[key]; known {
		left = min(left, uint64(c.Left)+uint64(m.age(c.Tick))*uint64(s.LimitRate))
		if left < hz {
			return false
		}
	}
	m.Sources[key] = Credit{Tick: m.Now, Left: uint32(left - hz)}
	return true
}
