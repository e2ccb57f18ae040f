package daemon

import (
	"context"
	"net"
	"slices"
	"strconv"
	"time"

	"fairlead/userspace/model"
	"fairlead/userspace/view"
)

// prepareNames looks up the names of a state that are not known yet. Those of which
// nothing is known serve nobody until they are.
func (a *agent) prepareNames(ctx context.Context, state *model.State) {
	if err := a.names.Prepare(ctx, state); err != nil {
		a.log.Warn("backends are missing until their names are found", "err", err)
	}
}

// adoptState makes a state, whose names are looked up, the one that names backends,
// those who are told of changes, and those who may make some, from now on.
func (a *agent) adoptState(state *model.State) {
	a.given.Store(state)
	a.notices.Use(state.Notify)
	if err := a.useAdmin(&state.Admin); a.news("admin", err) {
		a.log.Warn("who may call", "err", err)
	}
	if !hasNames(state) {
		return
	}
	select {
	case a.renamed <- struct{}{}:
	default: // it is said already
	}
}

func hasNames(state *model.State) bool {
	return slices.ContainsFunc(state.Groups(), (*model.Service).Named)
}

// followNames looks names up again when what is known of them is too old, until
// ctx is done.
func (a *agent) followNames(ctx context.Context) {
	for {
		wait := a.names.Refresh(ctx, a.given.Load())
		a.send(ctx, func() { a.expandNames(ctx) })
		var late <-chan time.Time
		if wait > 0 {
			late = time.After(wait)
		}
		select {
		case <-ctx.Done():
			return
		case <-a.renamed:
		case <-late:
		}
	}
}

// expandNames lets backends come and go as their names say by now.
func (a *agent) expandNames(ctx context.Context) {
	state := a.names.Expand(a.given.Load())
	if sameBackends(state, a.state) || a.leaving {
		return
	}
	a.drains.keep(state, hadBy(a.state))
	err := a.replace(ctx, newRoster(state), a.trove(), a.out)
	if err == nil {
		a.log.Info("names have other addresses")
	}
	if a.news("names", err) {
		a.log.Error("addresses of names not taken, the old ones stay", "err", err)
	}
}

// absent returns the backends whose names have no address, by the names of the services
// and pools that they are of. Nobody has probed them, and they serve nobody.
func (a *agent) absent() map[string][]view.Backend {
	all, given := map[string][]view.Backend{}, a.given.Load()
	add := func(s *model.Service, pool string) {
		for _, b := range a.names.Absent(given, s) {
			all[s.Name] = append(all[s.Name], view.Backend{
				Address: written(&b.Backend), Name: b.Name.Host, Weight: b.Weight, Share: 100, Backup: b.Backup, Pool: pool, Zone: b.Zone, LastError: b.Why.Error(),
			})
		}
	}
	for i := range given.Services {
		add(&given.Services[i], "")
	}
	for i := range given.Pools {
		add(&given.Pools[i].Service, given.Pools[i].GivenName())
	}
	return all
}

// written returns what the configuration has of a backend that goes by a name.
func written(b *model.Backend) string {
	if port := b.Address.Port(); port != 0 {
		return net.JoinHostPort(b.Name.Host, strconv.Itoa(int(port)))
	}
	return b.Name.Host
}

// sameBackends reports whether a state of the configuration has the same backends
// as one that may have some more that leave.
func sameBackends(state, now *model.State) bool {
	groups, had := state.Groups(), now.Groups()
	return slices.EqualFunc(groups, had, func(s, t *model.Service) bool {
		stay := slices.DeleteFunc(slices.Clone(t.Backends), func(b model.Backend) bool { return b.Leaving })
		return s.Key() == t.Key() && slices.Equal(s.Backends, stay)
	})
}
