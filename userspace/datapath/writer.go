package datapath

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/cilium/ebpf"

	"fairlead/loader"
	"fairlead/userspace/model"
)

// A Writer writes the maps of one instance. It remembers what it has written:
// there may be only one at a time, which the loader's locks see to. It is not
// safe for concurrent use. It holds no resources of its own.
type Writer struct {
	maps *loader.Maps
	rows *rows
	// done are the services of the last Reconcile, as rows have them, and
	// sources what it was told of those; nil if it failed.
	done    []planned
	sources map[netip.Addr][]netip.Addr
	wait    func() error // for packets on their way through the program
}

// New returns a writer that goes on from what maps hold.
func New(maps *loader.Maps) (*Writer, error) { return newWriter(maps, loader.WaitForPackets) }

func newWriter(maps *loader.Maps, wait func() error) (*Writer, error) {
	r, err := read(maps)
	if err != nil {
		return nil, err
	}
	// Who wrote before may have died right after it freed something: no packet
	// must count in that any more.
	maps.ControlView().BumpEpoch()
	if err := wait(); err != nil {
		return nil, err
	}
	return &Writer{maps: maps, rows: r, wait: wait}, nil
}

// Reconcile writes what differs between the maps and want, and returns the
// number of entries that it wrote or deleted. Flows of backends that stay are
// untouched. The error wraps [ErrFull] if a map is too small, in which case
// nothing was written.
func (w *Writer) Reconcile(want *Want) (int, error) {
	settings := w.settings(want.Settings)
	p, err := w.planInTime(want)
	if err != nil {
		return 0, fmt.Errorf("reconcile maps: %w", err)
	}
	if p.empty() {
		w.done, w.sources = p.settle(w.done), maps.Clone(want.Sources)
		return settings, nil
	}
	freed := w.rows.freedBy(p)
	if err := p.carryOut(w); err != nil {
		// What was written is not known, so look.
		if r, rerr := read(w.maps); rerr == nil {
			w.rows = r
		}
		w.done = nil
		w.maps.ControlView().BumpEpoch()
		return 0, errors.Join(fmt.Errorf("reconcile maps: %w", err), w.wait())
	}
	w.maps.ControlView().BumpEpoch()
	w.done, w.sources = p.settle(w.done), maps.Clone(want.Sources)
	if !freed.empty() {
		w.rows.limbo.next = append(w.rows.limbo.next, freed)
		w.rows.limbo.settle(w.wait)
	}
	return settings + p.writes(), nil
}

// planInTime returns the writes for want. It uses nothing in limbo and waits for
// nobody, unless there is no other room.
func (w *Writer) planInTime(want *Want) (*plan, error) {
	w.rows.limbo.settle(w.wait)
	p, err := w.plan(want)
	if !errors.Is(err, ErrFull) || w.rows.limbo.empty() {
		return p, err
	}
	if err := w.awaitPackets(); err != nil {
		return nil, err
	}
	return w.plan(want)
}

// awaitPackets returns when nothing is in limbo any more.
func (w *Writer) awaitPackets() error {
	if err := w.wait(); err != nil {
		return err
	}
	w.rows.limbo = limbo{}
	return nil
}

// Stuck returns why what was freed is not used again: the last wait for packets,
// beside an earlier Reconcile, has failed. Each Reconcile tries once more, and fails
// itself when there is no other room left.
func (w *Writer) Stuck() error {
	if err := w.rows.limbo.stuck; err != nil {
		return fmt.Errorf("wait for packets: %w", err)
	}
	return nil
}

// plan returns the writes for want. It looks at what has changed since the last
// Reconcile alone, if it can.
func (w *Writer) plan(want *Want) (*plan, error) {
	if w.done != nil && maps.EqualFunc(w.sources, want.Sources, slices.Equal) {
		if which, ok := changed(w.done, want); ok {
			return partPlan(w.rows, want, w.done, which)
		}
	}
	return makePlan(w.rows, want)
}

// Keep returns the want of state with the health, the rungs, the devices and
// the sources that the maps have; what they do not know is up, and forwarded in the kernel
// if state wants that.
func (w *Writer) Keep(state *model.State) *Want {
	want := &Want{Settings: SettingsOf(state), Devices: map[uint32]Device{}, Sources: w.rows.sourceAddrs()}
	p := newPlanner(w.rows)
	p.index()
	for i := range state.Services {
		s := Service{Service: state.Services[i], Proxy: state.Services[i].UserSpace()}
		s.Down = make([]bool, len(s.Backends))
		if id, known := p.find(&s); known {
			s.Known = true
			row := &w.rows.services[id]
			s.Proxy = s.Proxy || row.State == serviceProxy
			s.Local = row.Flags&serviceLocal != 0
			s.Standby = row.Flags&serviceCookies != 0
			for b, h := range p.health(&s, id) {
				s.Down[b] = h == HealthDown
			}
		}
		want.Services = append(want.Services, s)
	}
	for index, d := range w.rows.devices {
		want.Devices[index] = Device{TX: d.Flags&uint32(loader.LBDeviceFlagDEVICE_TX) != 0}
	}
	return want
}

// Health is what the maps know of a backend.
type Health int

// What the maps know.
const (
	HealthUnknown Health = iota // the backend is not in the maps
	HealthUp
	HealthDown
)

// Health returns what the maps know of the backends of each service of state,
// by index.
func (w *Writer) Health(state *model.State) [][]Health {
	all := make([][]Health, len(state.Services))
	p := newPlanner(w.rows)
	p.index()
	for i := range state.Services {
		s := Service{Service: state.Services[i]}
		all[i] = make([]Health, len(s.Backends))
		if id, known := p.find(&s); known {
			all[i] = p.health(&s, id)
		}
	}
	return all
}

// health returns what the maps know of the backends of the service in row id.
func (p *planner) health(s *Service, id uint32) []Health {
	known := make([]Health, len(s.Backends))
	for _, row := range p.backends[id] {
		b := &p.have.backends[row]
		for i := range s.Backends {
			addr := s.Backends[i].Address
			if loader.AddressOf(addr.Addr()) != b.Addr || be16(addr.Port()) != b.Port {
				continue
			}
			known[i] = HealthUp
			if b.State == backendDown {
				known[i] = HealthDown
			}
		}
	}
	return known
}

// Recheck makes every flow look up its next hop at its next packet.
func (w *Writer) Recheck() { w.maps.ControlView().BumpEpoch() }

// settings writes what differs in the control map.
func (w *Writer) settings(t Settings) (writes int) {
	c := w.maps.ControlView()
	differ := t.differences(c)
	for _, s := range differ {
		s.write()
	}
	if len(differ) > 0 {
		c.BumpEpoch()
	}
	return len(differ)
}

// reset sets counters of rows that get a new owner to zero. Nobody counts in them:
// these have left limbo.
func (w *Writer) reset(t loader.Table, rows []uint32) error { return w.maps.ResetCounters(t, rows...) }

func (w *Writer) putBackends(puts []put[loader.Backend]) error {
	if err := putRows(w.maps.Backends, puts); err != nil {
		return err
	}
	return w.rows.putBackends(puts)
}

func (w *Writer) putServices(puts []put[loader.Service]) error {
	if err := putRows(w.maps.Services, puts); err != nil {
		return err
	}
	return w.rows.putServices(puts)
}

func (w *Writer) putVIPs(puts map[netip.Addr]uint32) error {
	return putKeys(vipsOf(w.maps), w.rows.vips, slices.Collect(maps.Keys(puts)), puts)
}

func (w *Writer) deleteVIPs(keys []netip.Addr) error {
	return deleteKeys(vipsOf(w.maps), w.rows.vips, keys)
}

func (w *Writer) setDevices(c changes[uint32, loader.Device]) error {
	return apply(devicesOf(w.maps), w.rows.devices, c)
}

func (w *Writer) setListeners(c changes[listener, uint32]) error {
	return apply(listenersOf(w.maps), w.rows.listeners, c)
}

// putRows writes rows of an array.
func putRows[T any](m *ebpf.Map, puts []put[T]) error {
	if len(puts) == 0 {
		return nil
	}
	keys, values := make([]uint32, len(puts)), make([]T, len(puts))
	for i, p := range puts {
		keys[i], values[i] = p.row, p.value
	}
	return batchUpdate(m, keys, values)
}

// batchUpdate writes many entries in few system calls.
func batchUpdate[K, V any](m *ebpf.Map, keys []K, values []V) error {
	if len(keys) == 1 {
		return m.Put(&keys[0], &values[0])
	}
	_, err := m.BatchUpdate(keys, values, nil)
	return err
}

// putSlots writes slot tables. Nothing refers to them yet: the rows of their
// services come after them.
func (w *Writer) putSlots(runs []run[uint32]) error {
	slots := w.maps.SlotsView()
	for _, r := range runs {
		for i, row := range r.rows {
			slots.Store(int(r.at)+i, row)
		}
	}
	return w.rows.putSlots(runs)
}

func (w *Writer) putNames(puts []put[string]) error {
	for _, p := range puts {
		if err := w.maps.WriteServiceName(p.row, p.value); err != nil {
			return err
		}
	}
	return w.rows.putNames(puts)
}

// apply carries out the changes of a hash map, in any order.
func apply[K, V comparable](m kernelMap[K, V], have map[K]V, c changes[K, V]) error {
	if err := putKeys(m, have, slices.Collect(maps.Keys(c.put)), c.put); err != nil {
		return err
	}
	return deleteKeys(m, have, c.del)
}

// putKeys writes the values of keys, in their order.
func putKeys[K, V comparable](m kernelMap[K, V], have map[K]V, keys []K, put map[K]V) error {
	if len(keys) == 0 {
		return nil
	}
	values := make([]V, len(keys))
	for i, k := range keys {
		values[i] = put[k]
	}
	if err := m.put(keys, values); err != nil {
		return err
	}
	maps.Copy(have, put)
	return nil
}

// deleteKeys deletes keys, in their order.
func deleteKeys[K, V comparable](m kernelMap[K, V], have map[K]V, keys []K) error {
	for _, k := range keys {
		if err := m.delete(k); err != nil {
			return err
		}
		delete(have, k)
	}
	return nil
}
