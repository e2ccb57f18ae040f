package fuzz

import (
	"math/rand/v2"
	"slices"

	"fairlead/testenv/lbtest"
	m "fairlead/testenv/refmodel"
)

// A world between families is of mixed6 while IPv6 is sent, else of mixed4. Its
// addresses of IPv4 are written in sixteen bytes.
var mixed6, mixed4 = between(ipv6), between(ipv4)

var families = []*family{&ipv4, &ipv6, &mixed6}

// between is a family whose worlds have the addresses of both.
func between(f family) family {
	f.name, f.maps, f.codec, f.load, f.mixed = "both", ipv6.maps, ipv6.codec, lbtest.LoadMixed, true
	both := func(six, four []m.Addr) []m.Addr {
		all := slices.Clone(six)
		for _, a := range four {
			all = append(all, m.AddrFrom(wide(a)))
		}
		return all
	}
	f.vips, f.clients = both(ipv6.vips[:2], ipv4.vips[:2]), both(ipv6.clients[:2], ipv4.clients[:2])
	f.narrow = slices.Concat(ipv4.vips[:2], ipv4.servers[:2])
	f.servers, f.spoofed = both(ipv6.servers[:2], ipv4.servers[:2]), both(ipv6.spoofed, ipv4.spoofed)
	f.snats = both(ipv6.snats[:3], ipv4.snats[:3])
	f.prefixes = []int{0, 32, 48, 64, 96, 97, 104, 120, 127, 128, 128}
	f.limits = []int{0, 48, 64, 96, 104, 120, 128}
	return f
}

func wide(a m.Addr) []byte {
	b := a.As16()
	return b[:]
}

// whole is the family by which worlds are told apart.
func (f *family) whole() *family {
	if f == &mixed4 {
		return &mixed6
	}
	return f
}

// other is the other family, of the same world if that has both.
func (f *family) other() *family {
	return map[*family]*family{&ipv4: &ipv6, &ipv6: &ipv4, &mixed4: &mixed6, &mixed6: &mixed4}[f]
}

// is6 says that headers are those of IPv6.
func (f *family) is6() bool { return f.kind == 0x86dd }

// addr is an address of a header.
func (f *family) addr(b []byte) m.Addr {
	a := m.AddrFrom(b)
	if f.mixed {
		return m.AddrFrom(wide(a))
	}
	return a
}

// bytes are an address as a header has it; of one of IPv6, IPv4 has the last four.
func (f *family) bytes(a m.Addr) []byte {
	b := wide(a)
	return b[16-(f.dst-f.src):]
}

// send makes the world's family that of a tuple.
func (w *world) send(t m.Tuple) {
	if !w.mixed {
		return
	}
	w.family = &mixed6
	if t.Dst.Is4In6() {
		w.family = &mixed4
	}
}

// sendLike makes the world's family that of a frame.
func (w *world) sendLike(frame []byte) {
	if !w.mixed {
		return
	}
	w.family = &mixed6
	if frame[ethLen]>>4 == 4 {
		w.family = &mixed4
	}
}

// align gives a tuple a source of the destination's family.
func (w *world) align(r *rand.Rand, t m.Tuple) m.Tuple {
	for w.mixed && t.Src.Is4In6() != t.Dst.Is4In6() {
		t.Src = pick(r, w.clients)
	}
	return t
}

// ofFamily is an address of IPv6, or of IPv4, in a world between families.
func ofFamily(r *rand.Rand, pool []m.Addr, six bool) m.Addr {
	for {
		if a := pick(r, pool); a.Is4In6() != six {
			return a
		}
	}
}

// virtual is an address of a service: with both families, every other row is
// one for clients of IPv4.
func (w *world) virtual(r *rand.Rand, row uint32) m.Addr {
	if w.mixed {
		return ofFamily(r, w.vips, row%2 == 0)
	}
	return pick(r, w.vips)
}

// source is an address of ours for a place of snat: with both families, half of
// them for either.
func (w *world) source(r *rand.Rand, at int) m.Addr {
	if w.mixed && !oneIn(r, 8) {
		return ofFamily(r, w.snats, at/4%2 == 0)
	}
	return pick(r, w.snats)
}

// sourcesOf is a run of snat for a backend.
func (w *world) sourcesOf(r *rand.Rand, backend m.Addr) m.Run {
	run := newSources(r)
	if w.mixed && backend.Is4In6() && run.Offset < 4 {
		run.Offset += 4
	}
	return run
}

// read is [m.Read] with addresses as the world has them.
func (w *world) read(frame []byte) (t m.Tuple, l4 int, ok bool) {
	t, l4, ok = m.Read(frame)
	if w.mixed && t.Src.IsValid() {
		t.Src, t.Dst = m.AddrFrom(wide(t.Src)), m.AddrFrom(wide(t.Dst))
	}
	return t, l4, ok
}

// readFragment is the same for [m.ReadFragment].
func (w *world) readFragment(frame []byte) (of m.FragmentKey, later bool) {
	of, later = m.ReadFragment(frame)
	if w.mixed && of.Src.IsValid() {
		of.Src, of.Dst = m.AddrFrom(wide(of.Src)), m.AddrFrom(wide(of.Dst))
	}
	return of, later
}
