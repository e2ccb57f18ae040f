package datapath

import (
	"fmt"
	"net/netip"

	"fairlead/loader"
	"fairlead/userspace/model"
)

// Backends returns what the maps have as backends of a service.
func (w *Writer) Backends() func(*model.Service) []netip.AddrPort {
	p := newPlanner(w.rows)
	p.index()
	return func(s *model.Service) (all []netip.AddrPort) {
		id, known := p.find(&Service{Service: *s})
		if !known {
			return nil
		}
		for _, row := range p.backends[id] {
			b := &w.rows.backends[row]
			all = append(all, at6(b.Addr, b.Port))
		}
		return all
	}
}

// AddConnections adds to counts how many connections the backends of each
// service of state have, by their indexes. It must be the state of the last
// Reconcile; of one that failed nothing is known.
func (w *Writer) AddConnections(state *model.State, counts [][]int) error {
	if len(w.done) != len(state.Services) {
		return fmt.Errorf("count connections: %w", ErrUnknown)
	}
	conns, err := loader.ReadArray[loader.Connections](w.maps.BackendConns)
	if err != nil {
		return fmt.Errorf("count connections: %w", err)
	}
	for i := range w.done {
		d := &w.done[i]
		if len(d.backends) != len(counts[i]) {
			return fmt.Errorf("count connections of service %s: %w", d.Name, ErrUnknown)
		}
		for b, row := range d.backends {
			counts[i][b] += int(conns[row].Of(w.rows.backends[row].Gen))
		}
	}
	return nil
}
