package loader

import (
	"unsafe"

	"github.com/cilium/ebpf"
)

const countersSize = int(unsafe.Sizeof(Counters{}))

// owners returns the generation of each row of services or backends: two rows
// of equal generation have the same owner. Without a map of this version's
// schema there are none.
func (m *Maps) owners(t Table) ([]uint32, error) {
	if t == TableServices {
		return generations(m.Services, func(s Service) uint32 { return s.Gen })
	}
	return generations(m.Backends, func(b Backend) uint32 { return b.Gen })
}

func generations[T any](m *ebpf.Map, gen func(T) uint32) ([]uint32, error) {
	var row T
	if m == nil || m.ValueSize() != uint32(unsafe.Sizeof(row)) {
		return nil, nil
	}
	rows := make([]T, m.MaxEntries())
	if err := readArray(m, rows); err != nil {
		return nil, err
	}
	gens := make([]uint32, len(rows))
	for i, r := range rows {
		gens[i] = gen(r)
	}
	return gens, nil
}
