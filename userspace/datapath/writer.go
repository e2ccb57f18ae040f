package datapath

import (
	"fmt"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"fairlead/loader"
	"fairlead/userspace/model"
)

// A Writer writes the maps of one instance. It remembers what it has written:
// there may be only one at a time, which the loader's locks see to. It is not
// safe for concurrent use. It holds no resources of its own.
type Writer struct {
	maps *loader.Maps
	rows *rows
}

// New returns a writer that goes on from what maps hold.
func New(maps *loader.Maps) (*Writer, error) {
	r, err := read(maps)
	if err != nil {
		return nil, err
	}
	// Who wrote before may have died right after it freed something.
	if err := grace(); err != nil {
		return nil, err
	}
	return &Writer{maps: maps, rows: r}, nil
}

// Reconcile writes what differs between the maps and want, and returns the
// number of entries that it wrote or deleted. Flows of backends that stay are
// untouched. The error wraps [ErrFull] if a map is too small, in which case
// nothing was written.
func (w *Writer) Reconcile(want *Want) (int, error) {
	settings := w.settings(want.Timeouts)
	p, err := makePlan(w.rows, want)
	if err != nil {
		return 0, fmt.Errorf("reconcile maps: %w", err)
	}
	if p.empty() {
		return settings, nil
	}
	if err := w.apply(p); err != nil {
		// What was written is not known, so look.
		if r, rerr := read(w.maps); rerr == nil {
			w.rows = r
		}
		w.maps.Control.BumpEpoch()
		return 0, fmt.Errorf("reconcile maps: %w", err)
	}
	w.maps.Control.BumpEpoch()
	if p.breaks() {
		if err := grace(); err != nil {
			return 0, err
		}
	}
	return settings + p.writes(), nil
}

// Recheck makes every flow look up its next hop at its next packet.
func (w *Writer) Recheck() { w.maps.Control.BumpEpoch() }

// settings writes what differs in the control map.
func (w *Writer) settings(t Timeouts) (writes int) {
	c, hz := w.maps.Control, loader.Hz()
	set := func(have, want uint32, store func(uint32)) {
		if have != want {
			store(want)
			writes++
		}
	}
	set(c.Hz(), hz, c.SetHz)
	limit := uint32(t.ReplyLimit)
	if limit == 0 {
		limit = model.DefaultReplyLimit
	}
	set(c.ReplyLimit(), limit, c.SetReplyLimit)
	idle := t.Idle.WithDefaults()
	for i, d := range [loader.LBIdleIDLE_MAX]time.Duration{
		loader.LBIdleIDLE_TCP_NEW: idle.TCPNew, loader.LBIdleIDLE_TCP_ESTABLISHED: idle.TCPEstablished,
		loader.LBIdleIDLE_TCP_FIN: idle.TCPFin,
		loader.LBIdleIDLE_UDP_NEW: idle.UDPNew, loader.LBIdleIDLE_UDP_ESTABLISHED: idle.UDPEstablished,
	} {
		set(c.Idle(loader.LBIdle(i)), ticks(d, hz), func(v uint32) { c.SetIdle(loader.LBIdle(i), v) })
	}
	if ns := uint64(t.LossAfter); c.LossAfter() != ns {
		c.SetLossAfter(ns)
		writes++
	}
	if writes > 0 {
		c.BumpEpoch()
	}
	return writes
}

// ticks returns d in jiffies, rounded up.
func ticks(d time.Duration, hz uint32) uint32 {
	return uint32((uint64(d)*uint64(hz) + uint64(time.Second) - 1) / uint64(time.Second))
}

// apply carries out a plan, in its order, and remembers what it wrote.
func (w *Writer) apply(p *plan) error {
	m, r := w.maps, w.rows
	for _, step := range []func() error{
		func() error { return zero(m.ServiceCounters, m.ServiceBase, p.freshServices) },
		func() error { return zero(m.BackendCounters, m.BackendBase, p.freshBackends) },
		func() error { return putRows(m.Backends, r.backends, p.backends) },
		func() error { return w.putSlots(p.slots) },
		func() error { return w.putNames(p.names) },
		func() error { return putRows(m.Services, r.services, p.services) },
		func() error { return apply(m.Devices, r.devices, p.devices) },
		func() error { return apply(m.VIPs, r.vips, p.vips) },
		func() error { return apply(m.Listeners, r.listeners, p.listeners) },
		func() error { return putRows(m.Services, r.services, p.endServices) },
		func() error { return putRows(m.Backends, r.backends, p.endBackends) },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// putRows writes rows of an array.
func putRows[T any](m *ebpf.Map, have []T, puts []put[T]) error {
	if len(puts) == 0 {
		return nil
	}
	keys, values := make([]uint32, len(puts)), make([]T, len(puts))
	for i, p := range puts {
		keys[i], values[i] = p.row, p.value
	}
	if err := batchUpdate(m, keys, values); err != nil {
		return err
	}
	for _, p := range puts {
		have[p.row] = p.value
	}
	return nil
}

// batchUpdate writes many entries in few system calls.
func batchUpdate[K, V any](m *ebpf.Map, keys []K, values []V) error {
	if len(keys) == 1 {
		return m.Put(&keys[0], &values[0])
	}
	_, err := m.BatchUpdate(keys, values, nil)
	return err
}

// putSlots writes slot tables. Nothing refers to them yet, and the stores of
// the services that will come after these.
func (w *Writer) putSlots(runs []run) error {
	slots, err := w.maps.SlotsMemory()
	if err != nil {
		return err
	}
	for _, r := range runs {
		copy(slots[r.at:], r.rows)
		copy(w.rows.slots[r.at:], r.rows)
	}
	return nil
}

func (w *Writer) putNames(puts []put[string]) error {
	rows := make([]put[loader.Name], len(puts))
	for i, p := range puts {
		rows[i] = put[loader.Name]{p.row, loader.MakeName(p.value)}
	}
	if err := putRows(w.maps.ServiceNames, make([]loader.Name, len(w.rows.names)), rows); err != nil {
		return err
	}
	for _, p := range puts {
		w.rows.names[p.row] = p.value
	}
	return nil
}

// apply carries out the changes of a hash map.
func apply[K, V comparable](m *ebpf.Map, have map[K]V, c changes[K, V]) error {
	if len(c.put) > 0 {
		keys, values := make([]K, 0, len(c.put)), make([]V, 0, len(c.put))
		for k, v := range c.put {
			keys, values = append(keys, k), append(values, v)
		}
		if err := batchUpdate(m, keys, values); err != nil {
			return err
		}
		for k, v := range c.put {
			have[k] = v
		}
	}
	for _, k := range c.del {
		if err := m.Delete(&k); err != nil {
			return err
		}
		delete(have, k)
	}
	return nil
}

// zero lets the counters of rows start at zero. Nobody counts in them: they
// were freed a grace period ago.
func zero(percpu, base *ebpf.Map, rows []uint32) error {
	if len(rows) == 0 {
		return nil
	}
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return err
	}
	none := make([]loader.Counters, cpus)
	for _, row := range rows {
		if err := percpu.Put(row, none); err != nil {
			return err
		}
		if err := base.Put(row, &none[0]); err != nil {
			return err
		}
	}
	return nil
}

// grace returns when every packet that was in the program when it was called
// has left it: membarrier(2) waits for an RCU grace period.
func grace() error {
	const global = 1 // MEMBARRIER_CMD_GLOBAL
	if _, _, errno := unix.Syscall(unix.SYS_MEMBARRIER, global, 0, 0); errno != 0 {
		return fmt.Errorf("wait for packets in flight: membarrier: %w", errno)
	}
	return nil
}
