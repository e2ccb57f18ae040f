package datapath

import (
	"fmt"
	"net/netip"
	"slices"

	"fairlead/loader"
	"fairlead/userspace/model"
)

// sources plans the snat map: each list of source addresses is one run, which
// all backends that have this list share. A run that a row names is never
// written to, nor is one in limbo.
type sources struct {
	have *rows
	want map[netip.Addr][]netip.Addr // by backend
	free []span
	runs []run[loader.Address] // to be written
}

func newSources(have *rows, limbo []span) sources {
	taken := slices.Clone(limbo)
	for i := range have.backends {
		if b := &have.backends[i]; b.State != backendNone && b.Sources != 0 {
			taken = append(taken, sourceSpan(b.Sources))
		}
	}
	return sources{have: have, free: gaps(taken, uint32(len(have.snat)))}
}

// sourceSpan returns where a run that a row names lies, and reference what a row
// names it by.
func sourceSpan(ref uint32) span        { return span{ref >> 16, ref & 0xffff} }
func reference(at uint32, n int) uint32 { return at<<16 | uint32(n) }

// sourcesAt returns what a row names; nil if it does not lie in the map.
func (r *rows) sourcesAt(ref uint32) []loader.Address {
	s := sourceSpan(ref)
	if s.n == 0 || s.at+s.n > uint32(len(r.snat)) {
		return nil
	}
	return r.snat[s.at : s.at+s.n]
}

// of returns what the row of a backend, which names old now, is to name: 0 if
// the backend has no source.
func (s *sources) of(backend netip.Addr, old uint32) (uint32, error) {
	want := make([]loader.Address, len(s.want[backend]))
	for i, a := range s.want[backend] {
		want[i] = loader.AddressOf(a)
	}
	if len(want) == 0 {
		return 0, nil
	}
	if ref, ok := s.find(want, old); ok {
		return ref, nil
	}
	at, ok := cut(s.free, uint32(len(want)))
	if !ok {
		return 0, fmt.Errorf("source addresses: %w", ErrFull)
	}
	s.runs = append(s.runs, run[loader.Address]{at, want})
	return reference(at, len(want)), nil
}

// find returns the run that holds a list: the old one of the row, if that does,
// another one in use, or one that is planned.
func (s *sources) find(list []loader.Address, old uint32) (uint32, bool) {
	if slices.Equal(s.have.sourcesAt(old), list) {
		return old, true
	}
	for _, r := range s.runs {
		if slices.Equal(r.rows, list) {
			return reference(r.at, len(list)), true
		}
	}
	for i := range s.have.backends {
		b := &s.have.backends[i]
		if b.State != backendNone && slices.Equal(s.have.sourcesAt(b.Sources), list) {
			return b.Sources, true
		}
	}
	return 0, false
}

// sourceAddrs returns what backends of full-NAT services see by now.
func (r *rows) sourceAddrs() map[netip.Addr][]netip.Addr {
	all := map[netip.Addr][]netip.Addr{}
	for i := range r.backends {
		b := &r.backends[i]
		if list := r.sourcesAt(b.Sources); b.State != backendNone && list != nil {
			all[b.Addr.Addr()] = addrsOf(list)
		}
	}
	return all
}

// addrsOf returns a list of what the maps have.
func addrsOf(list []loader.Address) (addrs []netip.Addr) {
	for _, a := range list {
		addrs = append(addrs, a.Addr())
	}
	return addrs
}

// putSources writes runs of source addresses. No row names them yet.
func (w *Writer) putSources(runs []run[loader.Address]) error {
	for _, r := range runs {
		keys := make([]uint32, len(r.rows))
		for i := range keys {
			keys[i] = r.at + uint32(i)
		}
		if err := batchUpdate(w.maps.Snat, keys, r.rows); err != nil {
			return err
		}
	}
	return w.rows.putSources(runs)
}

// sourcePorts returns the ranges of source ports: n from first on are for flows
// from IPv6 to backends of IPv4. Their table and that of IPv4 know nothing of
// each other, and have the same addresses: if there are such flows, either gets
// one half of the ports.
func (t *Settings) sourcePorts() (nat model.FullNAT, first, n uint16) {
	nat = t.FullNAT.WithDefaults()
	if !t.Mixed {
		return nat, 0, 0
	}
	n = (nat.Last - nat.First + 1) / 2
	nat.Last -= n
	return nat, nat.Last + 1, n
}
