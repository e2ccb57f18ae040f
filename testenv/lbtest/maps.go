package lbtest

import (
	"errors"
	"fmt"
	"reflect"

	"github.com/cilium/ebpf"

	"fairlead/loader"
)

// Clear empties every map. The world's variables stay, and what the last flow in
// the making was, which must not matter to the next one.
func (d *Datapath) Clear() error {
	for name, m := range d.Maps {
		if name[0] == '.' || name == loader.LBMapDrafts {
			continue
		}
		if err := empty(m); err != nil {
			return fmt.Errorf("clear %s: %w", name, err)
		}
	}
	return nil
}

// empty deletes the keys of a map; an array's rows become zero.
func empty(m *ebpf.Map) error {
	switch m.Type() {
	case ebpf.Array, ebpf.PerCPUArray:
		return Zero(m)
	case ebpf.Hash, ebpf.LRUHash, ebpf.LPMTrie:
		return Empty(m)
	case ebpf.ProgramArray, ebpf.PerfEventArray, ebpf.RingBuf:
		return nil
	}
	return fmt.Errorf("%w: a map of type %s", errors.ErrUnsupported, m.Type())
}

// Zero makes all rows of an array zero.
func Zero(array *ebpf.Map) error {
	values := valuesOf(array)
	value := reflect.ArrayOf(int(array.ValueSize()), reflect.TypeFor[byte]())
	return Write(array, reflect.MakeSlice(reflect.SliceOf(value), values, values).Interface())
}

// Write writes all rows of an array: a slice of values as [Rows] returns them.
func Write(array *ebpf.Map, values any) error {
	if _, err := array.BatchUpdate(rowsOf(array), values, nil); err != nil {
		return fmt.Errorf("write %v: %w", array, err)
	}
	return nil
}

// Empty deletes all keys of a hash map or a trie.
func Empty(table *ebpf.Map) error {
	key := make([]byte, table.KeySize())
	for {
		switch err := table.NextKey(nil, &key); {
		case errors.Is(err, ebpf.ErrKeyNotExist):
			return nil
		case err != nil:
			return fmt.Errorf("read first key: %w", err)
		}
		if err := table.Delete(key); err != nil {
			return fmt.Errorf("delete key: %w", err)
		}
	}
}

// Rows reads all of an array. Each row of a per-CPU array has as many values as
// there may be CPUs.
func Rows[T any](array *ebpf.Map) ([]T, error) {
	rows, values := rowsOf(array), make([]T, valuesOf(array))
	var cursor ebpf.MapBatchCursor
	n, err := array.BatchLookup(&cursor, rows, values, nil)
	if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return nil, fmt.Errorf("read %v: %w", array, err)
	}
	if n != len(rows) {
		return nil, fmt.Errorf("read %v: %d rows of %d", array, n, len(rows))
	}
	return values, nil
}

func rowsOf(array *ebpf.Map) []uint32 {
	rows := make([]uint32, array.MaxEntries())
	for i := range rows {
		rows[i] = uint32(i)
	}
	return rows
}

func valuesOf(array *ebpf.Map) int {
	n := int(array.MaxEntries())
	if array.Type() == ebpf.PerCPUArray {
		n *= ebpf.MustPossibleCPU()
	}
	return n
}
