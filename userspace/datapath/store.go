package datapath

import (
	"maps"
	"net/netip"

	"fairlead/internal/crashpoint"
	"fairlead/loader"
)

// A store is what plans are carried out on: the maps, by a [Writer], or rows alone.
type store interface {
	reset(table loader.Table, rows []uint32) error // their counters
	putSources(runs []run[loader.Address]) error
	putBackends(puts []put[loader.Backend]) error
	putSlots(runs []run[uint32]) error
	putNames(puts []put[string]) error
	putClients(p *plan) error
	putVIPs(puts map[netip.Addr]uint32) error
	putServices(puts []put[loader.Service]) error
	setDevices(c changes[uint32, loader.Device]) error
	setListeners(c changes[listener, uint32]) error
	deleteVIPs(keys []netip.Addr) error
	deleteClients(p *plan) error
}

// carryOut does on a store what the plan says, in the order in which no packet
// meets anything that is half-made.
func (p *plan) carryOut(on store) error {
	for _, step := range []func() error{
		func() error { return on.reset(loader.TableServices, p.freshServices) },
		func() error { return on.reset(loader.TableBackends, p.freshBackends) },
		func() error { return on.putSources(p.snat) },
		func() error { return on.putBackends(p.backends) },
		func() error { return on.putSlots(p.slots) },
		func() error { return on.putNames(p.names) },
		func() error { return on.putClients(p) },
		func() error { return on.putVIPs(p.vips.put) },
		func() error { return on.putServices(p.services) },
		func() error { return on.putBackends(p.late) },
		func() error { return on.setDevices(p.devices) },
		func() error { return on.setListeners(p.listeners) },
		func() error { return on.putServices(p.endServices) },
		func() error { return on.putBackends(p.endBackends) },
		func() error { return on.deleteVIPs(p.vips.del) },
		func() error { return on.deleteClients(p) },
	} {
		if err := step(); err != nil {
			return err
		}
		crashpoint.Pass()
	}
	return nil
}

func (r *rows) reset(loader.Table, []uint32) error { return nil } // has no counters

func (r *rows) putSources(runs []run[loader.Address]) error  { return setRuns(r.snat, runs) }
func (r *rows) putSlots(runs []run[uint32]) error            { return setRuns(r.slots, runs) }
func (r *rows) putNames(puts []put[string]) error            { return setRows(r.names, puts) }
func (r *rows) putBackends(puts []put[loader.Backend]) error { return setRows(r.backends, puts) }
func (r *rows) putServices(puts []put[loader.Service]) error { return setRows(r.services, puts) }
func (r *rows) putVIPs(puts map[netip.Addr]uint32) error     { return setKeys(r.vips, puts, nil) }
func (r *rows) deleteVIPs(keys []netip.Addr) error           { return setKeys(r.vips, nil, keys) }
func (r *rows) setListeners(c changes[listener, uint32]) error {
	return setKeys(r.listeners, c.put, c.del)
}

func (r *rows) setDevices(c changes[uint32, loader.Device]) error {
	return setKeys(r.devices, c.put, c.del)
}

func (r *rows) putClients(p *plan) error {
	for _, k := range p.staleClients {
		delete(r.clients, k)
	}
	return setKeys(r.clients, p.clients.put, nil)
}

func (r *rows) deleteClients(p *plan) error { return setKeys(r.clients, nil, p.clients.del) }

// setRuns, setRows and setKeys write to memory: their error is always nil.
func setRuns[T any](have []T, runs []run[T]) error {
	for _, w := range runs {
		copy(have[w.at:], w.rows)
	}
	return nil
}

func setRows[T any](have []T, puts []put[T]) error {
	for _, w := range puts {
		have[w.row] = w.value
	}
	return nil
}

func setKeys[K comparable, V any](have, puts map[K]V, del []K) error {
	maps.Copy(have, puts)
	for _, k := range del {
		delete(have, k)
	}
	return nil
}
