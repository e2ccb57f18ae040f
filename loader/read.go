package loader

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// ReadStandby calls yield with the tuple of every UDP flow of the user-space
// proxy, until it returns false.
func (m *Maps) ReadStandby(yield func(FlowKey) bool) error {
	err := eachEntry(m.Standby, 4096, func(k FlowKey, _ uint32) bool { return yield(k) })
	if err != nil {
		return fmt.Errorf("read standby: %w", err)
	}
	return nil
}

// ReadArray returns all values of an array in order, which must not be one per
// CPU.
func ReadArray[T any](m *ebpf.Map) ([]T, error) {
	values := make([]T, m.MaxEntries())
	return values, readArray(m, values)
}

// readArray fills values with all values of an array, in order; those of a
// per-CPU array are as many as there are CPUs for each row.
func readArray[T any](m *ebpf.Map, values []T) error {
	var cursor ebpf.MapBatchCursor
	keys := make([]uint32, m.MaxEntries())
	n, err := m.BatchLookup(&cursor, keys, values, nil)
	if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return err
	}
	if n != len(keys) {
		return fmt.Errorf("read %d of %d rows", n, len(keys))
	}
	return nil
}

// ReadHash returns every entry of a hash. Those that come or go meanwhile may
// be missed.
func ReadHash[K comparable, V any](m *ebpf.Map) (map[K]V, error) {
	all := map[K]V{}
	err := eachEntry(m, 4096, func(k K, v V) bool { all[k] = v; return true })
	return all, err
}

// eachEntry calls yield with every entry of a hash, of which it asks for chunk
// at a time, until it returns false.
func eachEntry[K, V any](m *ebpf.Map, chunk int, yield func(K, V) bool) error {
	var cursor ebpf.MapBatchCursor
	chunk = min(chunk, int(m.MaxEntries()))
	keys, values := make([]K, chunk), make([]V, chunk)
	for {
		n, err := m.BatchLookup(&cursor, keys, values, nil)
		if errors.Is(err, unix.ENOSPC) {
			// One bucket holds more than the buffer: ask for it again.
			keys, values = make([]K, 2*len(keys)), make([]V, 2*len(keys))
			continue
		}
		if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return err
		}
		for i := range n {
			if !yield(keys[i], values[i]) {
				return nil
			}
		}
		if err != nil {
			return nil
		}
	}
}
