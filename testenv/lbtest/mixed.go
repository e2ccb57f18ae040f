package lbtest

import (
	"maps"
	"slices"
	"strings"

	"github.com/cilium/ebpf"

	"fairlead/testenv"
)

// The programs of a configuration with services between families: the one that
// frames come to first.
var (
	first = family{load: loadLb, program: lbProgFairleadMixed}
	mixed = family{load: loadLb46, program: lb46ProgFairlead46, suffix: "6"}
)

// LoadMixed is Load for the three programs that serve between families. They
// have their maps in common; a name that two of them use for maps of different
// keys is that of the wide programs' map.
func LoadMixed(tb testenv.TB, sizes map[string]uint32, fault uint32) *Datapath {
	tb.Helper()
	six := ipv6.with(tb, sizes, fault, nil)
	four := first.with(tb, nil, fault, six.Maps)
	both := maps.Clone(four.Maps)
	maps.Copy(both, six.Maps)
	return join(tb, []*Datapath{six, mixed.with(tb, nil, fault, both), four})
}

// join makes one datapath of the programs that serve between families: of IPv6,
// of both, and the one that frames come to first.
func join(tb testenv.TB, parts []*Datapath) *Datapath {
	tb.Helper()
	six, four := parts[0], parts[2]
	for at, d := range parts[:2] {
		if err := four.Maps[lbMapFamilies].Put(uint32(at), d.prog); err != nil {
			tb.Fatalf("hand over: %v", err)
		}
	}
	all := *six // whose variables are everybody's
	all.prog, all.parts = four.prog, parts
	all.faults = slices.Concat(six.faults, parts[1].faults, four.faults)
	all.Maps = maps.Clone(four.Maps)
	maps.Copy(all.Maps, six.Maps)
	return &all
}

// share returns the maps that an object has in common with another one.
func share(spec *ebpf.CollectionSpec, others map[string]*ebpf.Map) map[string]*ebpf.Map {
	shared := map[string]*ebpf.Map{}
	for name, m := range others {
		s := spec.Maps[name]
		if s == nil || s.KeySize != m.KeySize() || s.ValueSize != m.ValueSize() || strings.HasPrefix(name, ".rodata") {
			continue
		}
		s.MaxEntries = m.MaxEntries()
		shared[name] = m
	}
	return shared
}
