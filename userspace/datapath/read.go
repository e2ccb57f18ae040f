package datapath

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"fairlead/loader"
)

// read returns what the maps hold.
func read(m *loader.Maps) (*rows, error) {
	r := &rows{}
	var err error
	for _, step := range []struct {
		name string
		read func() error
	}{
		{"services", func() error { r.services, err = readArray[loader.Service](m.Services); return err }},
		{"service_names", func() error { r.names, err = m.ReadServiceNames(); return err }},
		{"backends", func() error { r.backends, err = readArray[loader.Backend](m.Backends); return err }},
		{"listeners", func() error { r.listeners, err = readHash[loader.Listener, uint32](m.Listeners); return err }},
		{"vips", func() error { r.vips, err = readHash[uint32, uint32](m.VIPs); return err }},
		{"devices", func() error { r.devices, err = readHash[uint32, loader.Device](m.Devices); return err }},
	} {
		if err := step.read(); err != nil {
			return nil, fmt.Errorf("read map %s: %w", step.name, err)
		}
	}
	slots := m.SlotsView()
	r.slots = make([]uint32, slots.Len())
	for i := range r.slots {
		r.slots[i] = slots.Load(i)
	}
	return r, nil
}

const batch = 1024 // entries read by one system call

// readArray returns every value of an array map.
func readArray[V any](m *ebpf.Map) ([]V, error) {
	all := make([]V, 0, m.MaxEntries())
	err := eachBatch(m, func(_ []uint32, values []V) { all = append(all, values...) })
	return all, err
}

// readHash returns every entry of a hash map that nobody else writes.
func readHash[K comparable, V any](m *ebpf.Map) (map[K]V, error) {
	all := map[K]V{}
	err := eachBatch(m, func(keys []K, values []V) {
		for i, k := range keys {
			all[k] = values[i]
		}
	})
	return all, err
}

// eachBatch calls f with the entries of m, some at a time. An entry that comes
// or goes meanwhile may be missed, or be seen twice.
func eachBatch[K, V any](m *ebpf.Map, f func([]K, []V)) error {
	var cursor ebpf.MapBatchCursor
	n := max(1, min(batch, int(m.MaxEntries())))
	for {
		keys, values := make([]K, n), make([]V, n)
		got, err := m.BatchLookup(&cursor, keys, values, nil)
		switch {
		case err == nil:
			f(keys[:got], values[:got])
		case errors.Is(err, ebpf.ErrKeyNotExist):
			f(keys[:got], values[:got])
			return nil
		case errors.Is(err, unix.ENOSPC) && n < int(m.MaxEntries()):
			n *= 2 // one bucket of the hash holds more than n
		default:
			return err
		}
	}
}
