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
