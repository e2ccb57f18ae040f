package daemon

import (
	"context"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"

	"fairlead/userspace/control"
	"fairlead/userspace/health"
	"fairlead/userspace/model"
)

// probe refuses a request that adds backends which fail the checks that they would
// have. It runs beside other changes: it may take as long as these checks.
func (p *plane) probe(ctx context.Context, r *control.Request) error {
	to := map[string]bool{} // pools and services, by name
	for _, e := range r.Edits {
		switch e.Op {
		case control.OpApply:
			return nil // a whole configuration: none of its backends is added to anything
		case control.OpAddBackend:
			to[e.Pool+e.Service] = true // one of them says it
		}
	}
	if len(to) == 0 {
		return nil
	}
	before := p.inForce()
	after, err := p.edit(before, r.Edits)
	if err != nil {
		return err
	}
	given := after.state
	p.agent.prepareNames(ctx, &given)
	had := map[model.Key]*model.Service{}
	for _, s := range before.state.Groups() {
		had[s.Key()] = s
	}
	probes, ctx := errgroup.WithContext(ctx)
	for _, s := range given.Groups() {
		old := had[s.Key()]
		if !to[s.ShownName()] || old == nil {
			continue
		}
		for _, b := range s.Backends {
			if !slices.ContainsFunc(old.Backends, func(o model.Backend) bool { return o.Address == b.Address && o.Name == b.Name }) {
				probes.Go(func() error { return p.probeBackend(ctx, &given, s, b) })
			}
		}
	}
	return probes.Wait()
}

// probeBackend probes a backend of a service of a state; one that goes by a name is
// good if one of its addresses is.
func (p *plane) probeBackend(ctx context.Context, state *model.State, s *model.Service, b model.Backend) error {
	x, one := *state, *s
	one.Backends = []model.Backend{b}
	x.Services, x.Pools = []model.Service{one}, nil
	name := b.String()
	if b.Name.Host != "" {
		name = b.Name.Host
	}
	err := p.agent.names.Missing(&x)
	found := p.agent.names.Expand(&x).Services[0]
	for i := range found.Backends {
		if err = health.Probe(ctx, target(&found, i)); err == nil {
			return nil
		}
	}
	return fmt.Errorf("backend %s: %w: %w", name, control.ErrUnhealthy, err)
}
