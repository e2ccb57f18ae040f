package daemon

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	"fairlead/userspace/control"
	"fairlead/userspace/model"
)

// A spare tells of checks that the state in force does not need.
type spare struct {
	keep bool // they go on: the change that ends them may be undone
	some bool // there may be some
}

// dropChecks ends the checks that the state in force does not need, unless they are
// kept.
func (a *agent) dropChecks() {
	if a.spare.some = a.spare.keep; !a.spare.keep {
		a.checker.Set(a.roster.targets, nil)
	}
}

// settle ends the checks that a change has left.
func (a *agent) settle() {
	if a.spare.some {
		a.dropChecks()
	}
}

// change puts a configuration that was changed in force, with the secrets of a reading if
// it has others. An error changes nothing. The checks of the one before go on until
// settle: so what they know is there yet if the change is undone.
func (a *agent) change(ctx context.Context, given *model.State, read reading) error {
	if a.leaving {
		return control.ErrUnavailable
	}
	if err := a.checkMetrics(given); err != nil {
		return err
	}
	keep, err := a.prepare(ctx, given)
	if err != nil {
		return fmt.Errorf("put the change in force: %w", err)
	}
	state := a.names.Expand(given)
	a.drains.keep(state, hadBy(a.state))
	r := a.roster.next(state)
	a.spare.keep = true
	err = a.replaceLightly(ctx, r, read)
	a.spare.keep = false
	keep(err == nil)
	if errors.Is(err, errLeaving) {
		return control.ErrUnavailable
	}
	if err != nil {
		return fmt.Errorf("put the change in force: %w", err)
	}
	a.reloaded = time.Now()
	a.adoptState(given)
	return nil
}

// replaceLightly puts another state in force with no more effort than what differs
// asks for.
func (a *agent) replaceLightly(ctx context.Context, r *roster, read reading) error {
	if !sameSecrets(r.state, a.state) {
		return a.replaceWith(ctx, r, read)
	}
	if w := swapTo(r.state, a.state); w != nil {
		if err := a.swap(ctx, r, w); !tooMuch(err) {
			return err
		}
	}
	return a.replace(ctx, r, a.trove(), a.out)
}

// sameSecrets reports whether two states have the same certificates, in the same
// services and pools, and the same tokens.
func sameSecrets(x, y *model.State) bool {
	services, pools := secretsOf(x)
	otherServices, otherPools := secretsOf(y)
	return reflect.DeepEqual(services, otherServices) && reflect.DeepEqual(pools, otherPools) &&
		reflect.DeepEqual(x.ACME, y.ACME) && reflect.DeepEqual(x.Vault, y.Vault) && reflect.DeepEqual(x.Registration, y.Registration)
}

func secretsOf(s *model.State) (map[model.Key]*model.TLS, map[string]model.BackendTLS) {
	services, pools := map[model.Key]*model.TLS{}, map[string]model.BackendTLS{}
	for i := range s.Services {
		if t := s.Services[i].HTTP.TLS; t != nil {
			services[s.Services[i].Key()] = t
		}
	}
	for i := range s.Pools {
		if s.Pools[i].TLS != (model.BackendTLS{}) {
			pools[s.Pools[i].Name] = s.Pools[i].TLS
		}
	}
	return services, pools
}
