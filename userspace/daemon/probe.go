package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"

	"fairlead/userspace/control"
	"fairlead/userspace/health"
	"fairlead/userspace/model"
)

// probesAtOnce is how many backends are probed side by side, faultsTold of how many a
// refusal tells.
const (
	probesAtOnce = 256
	faultsTold   = 10
)

// probe refuses a request that adds backends which fail the checks that they would
// have. It runs beside other changes: it may take as long as these checks.
func (p *plane) probe(ctx context.Context, r *control.Request) error {
	if !slices.ContainsFunc(r.Edits, func(e control.Edit) bool { return addsBackends(e.Op) }) {
		return nil
	}
	if err := p.expected(r, p.Revision().Number); err != nil {
		return err
	}
	before := p.inForce()
	after, err := p.edit(before, r.Edits)
	if err != nil {
		return err
	}
	added := newcomers(&after.state, &before.state)
	if len(added) == 0 {
		return nil
	}
	given := after.state
	p.agent.prepareNames(ctx, &given)
	faults := make([]error, len(added))
	var probes errgroup.Group
	probes.SetLimit(probesAtOnce)
	for i, m := range added {
		probes.Go(func() error {
			faults[i] = p.probeBackend(ctx, &given, m.of, m.backend)
			return nil
		})
	}
	_ = probes.Wait() // faults has all of them
	faults = slices.DeleteFunc(faults, func(err error) bool { return err == nil })
	if more := len(faults) - faultsTold; more > 0 {
		faults = append(faults[:faultsTold], fmt.Errorf("%d more: %w", more, control.ErrUnhealthy))
	}
	return errors.Join(faults...)
}

// addsBackends reports whether there may be backends after an edit that were not there
// before.
func addsBackends(op control.Op) bool {
	switch op {
	case control.OpApply, control.OpPutService, control.OpPutPool, control.OpAddBackend, control.OpSetBackends:
		return true
	}
	return false
}

// A newcomer is a backend of a service or pool.
type newcomer struct {
	of      *model.Service
	backend model.Backend
}

// newcomers returns the backends of a state that another one does not have in the
// service, or pool, of the same name.
func newcomers(now, before *model.State) (added []newcomer) {
	type place struct {
		pool    bool
		of      string
		backend model.Backend // as the configuration names it
	}
	placeOf := func(s *model.Service, b *model.Backend) place {
		return place{!s.Listen.IsValid(), s.Name, model.Backend{Address: b.Address, Name: b.Name}}
	}
	had := map[place]bool{}
	for _, s := range before.Groups() {
		for i := range s.Backends {
			had[placeOf(s, &s.Backends[i])] = true
		}
	}
	for _, s := range now.Groups() {
		for i := range s.Backends {
			if !had[placeOf(s, &s.Backends[i])] {
				added = append(added, newcomer{s, s.Backends[i]})
			}
		}
	}
	return added
}

// probeBackend probes a backend of a service of a state; one that goes by a name is
// good if one of its addresses is.
func (p *plane) probeBackend(ctx context.Context, state *model.State, s *model.Service, b model.Backend) error {
	x, one := *state, *s
	one.Backends = []model.Backend{b}
	x.Services, x.Pools = []model.Service{one}, nil
	err := p.agent.names.Missing(&x)
	found := p.agent.names.Expand(&x).Services[0]
	for i := range found.Backends {
		if err = health.Probe(ctx, target(&found, i)); err == nil {
			return nil
		}
	}
	name := b.String()
	if b.Name.Host != "" {
		name = b.Name.Host
	}
	return fmt.Errorf("backend %s of %q: %w: %w", name, s.ShownName(), control.ErrUnhealthy, err)
}
