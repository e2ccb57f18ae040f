package loader

import (
	"errors"
	"fmt"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// ReadFlows calls yield with every entry of the flow table, two of each flow,
// until it returns false. Entries that come or go meanwhile may be missed.
func (m *Maps) ReadFlows(yield func(FlowKey, Flow) bool) error {
	err := eachEntry(m.Flows, 4096, yield)
	if err != nil {
		return fmt.Errorf("read flows: %w", err)
	}
	return nil
}

// ReadStandby calls yield with the tuple of every UDP flow of the user-space
// proxy, until it returns false.
func (m *Maps) ReadStandby(yield func(FlowKey) bool) error {
	err := eachEntry(m.Standby, 4096, func(k FlowKey, _ uint32) bool { return yield(k) })
	if err != nil {
		return fmt.Errorf("read standby: %w", err)
	}
	return nil
}

// eachEntry calls yield with every entry of a hash map.
func eachEntry[K, V any](m *ebpf.Map, chunk int, yield func(K, V) bool) error {
	var cursor ebpf.MapBatchCursor
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

// countFlows returns the number of entries of a flow table. One of another
// schema is read entry by entry, and so less exactly while it changes.
func countFlows(m *ebpf.Map) (uint64, error) {
	var n uint64
	if int(m.KeySize()) == int(unsafe.Sizeof(FlowKey{})) && int(m.ValueSize()) == int(unsafe.Sizeof(Flow{})) {
		err := eachEntry(m, 4096, func(FlowKey, Flow) bool { n++; return true })
		return n, err
	}
	var key, value []byte
	entries := m.Iterate()
	for entries.Next(&key, &value) {
		n++
	}
	if err := entries.Err(); err != nil && !errors.Is(err, ebpf.ErrIterationAborted) {
		return 0, err
	}
	return min(n, uint64(m.MaxEntries())), nil
}
