package daemon

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"time"

	"fairlead/internal/crashpoint"
	"fairlead/userspace/datapath"
	"fairlead/userspace/kernel"
	"fairlead/userspace/model"
)

// A swap is another state that comes in force beside most of what is in force.
type swap struct {
	services []int // indexes of those that have changed
	pools    []int // of those that have changed or are new
	reached  bool  // some service has another backend than before
}

// swapTo returns what of a state is to come in force, nil if that is not for a swap:
// where services differ in more than in backends and routes, or anything else does.
func swapTo(state, now *model.State) *swap {
	x, y := *state, *now
	x.Services, x.Pools, x.Notify = nil, nil, nil
	y.Services, y.Pools, y.Notify = nil, nil, nil
	if len(state.Services) != len(now.Services) || !reflect.DeepEqual(x, y) {
		return nil
	}
	w := &swap{}
	for i := range state.Services {
		s, was := &state.Services[i], &now.Services[i]
		if same(s, was) {
			continue
		}
		like := *s
		like.Backends, like.Names, like.HTTP.Routes = was.Backends, was.Names, was.HTTP.Routes
		if !same(&like, was) || s.Forward == model.ForwardFullNAT || s.Mixed() || was.Mixed() {
			return nil
		}
		w.services = append(w.services, i)
		w.reached = w.reached || !slices.EqualFunc(s.Backends, was.Backends, func(a, b model.Backend) bool { return a.Address == b.Address })
	}
	old := map[string]*model.Pool{}
	for i := range now.Pools {
		old[now.Pools[i].Name] = &now.Pools[i]
	}
	for i := range state.Pools {
		if p := &state.Pools[i]; old[p.Name] == nil || !reflect.DeepEqual(p, old[p.Name]) {
			w.pools = append(w.pools, i)
		}
	}
	return w
}

func same(a, b *model.Service) bool { return reflect.DeepEqual(a, b) }

// swap puts the state of r in force, of which only w differs from the one that is.
// What it does not touch it does not look at. An error changes nothing.
func (a *agent) swap(ctx context.Context, r *roster, w *swap) error {
	isDown, sameChecks := a.isDown, r.sameChecks(a.roster)
	if !sameChecks {
		a.checker.Set(slices.Concat(r.targets, a.roster.targets), r.inherit(a.roster, a.isDown, a.checker.Knows))
		isDown = r.look(a.checker)
	}
	a.shares.arrive(r.state, a.state)
	if a.kernel != nil && len(w.services) > 0 {
		if err := a.updateKernel(ctx, r, isDown, w); err != nil {
			if !sameChecks {
				a.checker.Set(a.roster.targets, nil)
			}
			a.reconcile()
			return err
		}
	}
	crashpoint.Pass()
	old := a.state
	a.state, a.roster, a.isDown = r.state, r, isDown
	if !sameChecks {
		a.dropChecks()
	}
	a.unsigned = true
	for _, i := range w.pools {
		a.keepPool(&a.state.Pools[i])
	}
	for _, i := range w.services {
		s := &a.state.Services[i]
		if f := a.fronts[s.Key()]; f != nil {
			f.update(s, a.judge(s))
			crashpoint.Pass()
		}
	}
	a.dropPools()
	if !slices.Equal(poolNames(old), poolNames(a.state)) {
		a.openDoors()
	}
	return nil
}

// updateKernel gives the kernel what differs.
func (a *agent) updateKernel(ctx context.Context, r *roster, isDown map[string]bool, w *swap) error {
	before := a.kernel.Rungs()
	rungs, err := a.kernel.Update(r.state, r.down(isDown))
	if err != nil {
		return err
	}
	a.logRungs(r.state, before, rungs)
	if a.hopsDue = a.hopsDue || w.reached; a.hopsDue && time.Since(a.hopsKept) >= beat/5 {
		a.keepHops(ctx, r.state)
	}
	return nil
}

// keepHops has the kernel keep the next hops of a state known, unless a detach is at
// work that lets go of them.
func (a *agent) keepHops(ctx context.Context, state *model.State) {
	if a.kernel == nil || a.leaving && a.opts.DetachOnExit {
		return
	}
	a.hopsDue, a.hopsKept = false, time.Now()
	if err := a.kernel.KeepNeighbours(ctx, state, 0); a.news("neighbours", err) {
		a.log.Warn("keep neighbours", "err", err)
	}
}

// sign says whom it may concern which state is in force.
func (a *agent) sign() {
	if a.lock == nil {
		return
	}
	a.unsigned = false
	if err := a.lock.SetDigest(kernel.Digest(a.state)); err != nil {
		a.log.Warn("sign lock", "err", err)
	}
}

// tooMuch says that maps have no room for a state as they are.
func tooMuch(err error) bool { return errors.Is(err, datapath.ErrFull) }
