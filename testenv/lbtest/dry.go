package lbtest

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"

	"github.com/cilium/ebpf"

	"fairlead/loader"
	"fairlead/testenv"
)

// unshared are the maps that a dry run has for itself: constants, what is about
// to be written, and what is only counted.
var unshared = []string{
	".rodata", loader.LBMapDrafts, loader.LBMapFamilies,
	loader.LBMapVerdicts, loader.LBMapEvictions, loader.LBMapBackendCounters, loader.LBMapEventCounts,
}

// Dry loads the datapath once more, for dry runs (rule 14) in the world of d, which
// must have been loaded with a fault, or not, as well.
func (d *Datapath) Dry(tb testenv.TB, fault uint32) *Datapath {
	tb.Helper()
	if d.parts != nil {
		var dry []*Datapath
		for _, part := range d.parts {
			dry = append(dry, part.Dry(tb, fault))
		}
		return join(tb, dry)
	}
	others := maps.Clone(d.Maps)
	maps.DeleteFunc(others, func(name string, _ *ebpf.Map) bool { return slices.Contains(unshared, name) })
	spec, shared := d.family.spec(tb, nil, fault, others)
	if err := spec.Variables[lbVarDryRun].Set(true); err != nil {
		tb.Fatalf("ask for dry runs: %v", err)
	}
	return d.family.collect(tb, spec, shared)
}

// Told returns what the last dry run has told.
func (d *Datapath) Told() (told loader.Told, err error) {
	if err := d.coll.Variables[lbVarTold].Get(&told); err != nil {
		return told, fmt.Errorf("read what was told: %w", err)
	}
	return told, nil
}

// Raced says whether another CPU will be quicker somewhere, which no dry run can know.
func (d *Datapath) Raced() (bool, error) {
	for _, m := range []*ebpf.Map{d.Maps[lbMapRivals], d.Maps[lbMapFirstRivals]} {
		key := make([]byte, m.KeySize())
		switch err := m.NextKey(nil, &key); {
		case err == nil:
			return true, nil
		case !errors.Is(err, ebpf.ErrKeyNotExist):
			return false, fmt.Errorf("read rivals: %w", err)
		}
	}
	return false, nil
}

// Dump returns the contents of all maps that a dry run shares, but for what the
// world's variables are.
func (d *Datapath) Dump() (map[string][]byte, error) {
	all := map[string][]byte{}
	for name, m := range d.Maps {
		if name == ".bss" || slices.Contains(unshared[:3], name) {
			continue
		}
		content, err := dump(m)
		if err != nil {
			return nil, fmt.Errorf("dump %s: %w", name, err)
		}
		all[name] = content
	}
	return all, nil
}

// dumpArray returns the values of an array.
func dumpArray(m *ebpf.Map) ([]byte, error) {
	value := reflect.ArrayOf(int(m.ValueSize()), reflect.TypeFor[byte]())
	values := reflect.MakeSlice(reflect.SliceOf(value), valuesOf(m), valuesOf(m))
	var cursor ebpf.MapBatchCursor
	if _, err := m.BatchLookup(&cursor, rowsOf(m), values.Interface(), nil); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return nil, err
	}
	var all []byte
	for i := range values.Len() {
		all = append(all, values.Index(i).Slice(0, int(m.ValueSize())).Bytes()...)
	}
	return all, nil
}

// dump returns the values of an array, the sorted entries of any other map.
func dump(m *ebpf.Map) ([]byte, error) {
	switch m.Type() {
	case ebpf.PerfEventArray, ebpf.RingBuf:
		return nil, nil
	case ebpf.Array, ebpf.PerCPUArray:
		return dumpArray(m)
	}
	var entries [][]byte
	key, value := make([]byte, m.KeySize()), make([]byte, m.ValueSize())
	it := m.Iterate()
	for it.Next(&key, &value) {
		entries = append(entries, slices.Concat(key, value))
	}
	slices.SortFunc(entries, bytes.Compare)
	return slices.Concat(entries...), it.Err()
}
