package daemon

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"fairlead/userspace/kernel"
	"fairlead/userspace/model"
)

// drains are the backends that the configuration has no more while their flows
// go on: when these end at the latest. They stand in the state in force as
// Leaving, so everything treats them as backends of weight 0.
type drains map[member]time.Time

// keep adds to the services of state, which is of a configuration, those of some
// backends that it lacks, if the service drains. Who drains already goes on.
func (d drains) keep(state *model.State, had func(*model.Service) []netip.AddrPort) {
	kernel.KeepLeaving(state, had)
	for i := range state.Services {
		s := &state.Services[i]
		for _, b := range s.Backends {
			if m := memberOf(s, b.Address); b.Leaving && d[m].IsZero() {
				d[m] = time.Now().Add(s.Drain)
			}
		}
	}
}

// hadBy returns what the services of a state have.
func hadBy(state *model.State) func(*model.Service) []netip.AddrPort {
	had := map[model.Key][]netip.AddrPort{}
	for i := range state.Services {
		s := &state.Services[i]
		for _, b := range s.Backends {
			m := memberOf(s, b.Address)
			had[m.service] = append(had[m.service], b.Address)
		}
	}
	return func(s *model.Service) []netip.AddrPort { return had[memberOf(s, netip.AddrPort{}).service] }
}

// adoptDrains lets those backends drain that the maps of a former agent have and
// the configuration has not.
func (a *agent) adoptDrains() error {
	had, err := kernel.Backends(a.opts.PinDir)
	if err != nil || had == nil {
		return err
	}
	a.drains.keep(a.state, had)
	a.roster = newRoster(a.state)
	return nil
}

// without returns state without the backends that have drained, by the flows of
// each, nil if there are none; flows is nil while they are not known. It forgets
// those that do not drain any more.
func (d drains) without(state *model.State, flows [][]int) (left *model.State) {
	due := drains{}
	for i := range state.Services {
		s := &state.Services[i]
		for b := range slices.Backward(s.Backends) {
			if !s.Backends[b].Leaving {
				continue
			}
			m := memberOf(s, s.Backends[b].Address)
			due[m] = d[m]
			if time.Now().Before(d[m]) && (flows == nil || flows[i][b] > 0) {
				continue
			}
			if left == nil {
				copied := *state
				copied.Services = slices.Clone(state.Services)
				left = &copied
			}
			delete(due, m)
			rest := &left.Services[i].Backends
			*rest = slices.Delete(slices.Clone(*rest), b, b+1)
		}
	}
	for m := range d {
		if _, ok := due[m]; !ok {
			delete(d, m)
		}
	}
	return left
}

// endDrains takes out the backends that have drained, with the flows that they
// still have when their time is over.
func (a *agent) endDrains(ctx context.Context) {
	if len(a.drains) == 0 || a.leaving {
		return
	}
	flows, known := a.flows()
	if !known {
		flows = nil
	}
	left := a.drains.without(a.state, flows)
	if left == nil {
		return
	}
	old, r := a.state, newRoster(left)
	a.state, a.roster, a.isDown = left, r, r.look(a.checker)
	a.checker.Set(r.targets, nil)
	a.reconcile()
	a.replaceFronts(ctx, old)
	a.log.Info("backends have drained", "still draining", len(a.drains))
}

// flows returns how many flows the backends of the state in force have, in the
// kernel and in the proxies, by service and backend, and whether all of them are
// known.
func (a *agent) flows() (all [][]int, known bool) {
	all = make([][]int, len(a.state.Services))
	for i := range a.state.Services {
		all[i] = make([]int, len(a.state.Services[i].Backends))
	}
	known = true
	if a.kernel != nil {
		err := a.kernel.AddConnections(a.state, all)
		if a.news("count flows", err) {
			a.log.Warn("count flows of backends", "err", err)
		}
		known = err == nil
	}
	for i := range a.state.Services {
		f := a.fronts[a.state.Services[i].Key()]
		if f == nil {
			continue
		}
		t := f.table.Load()
		for b := range min(len(t.service.Backends), len(all[i])) {
			all[i][b] += t.chooser.Flows(b)
		}
	}
	return all, known
}
