package daemon

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"time"

	"fairlead/loader"
	"fairlead/userspace/health"
	"fairlead/userspace/kernel"
	"fairlead/userspace/model"
)

// An agent is the state of a run. Everything in it belongs to the goroutine of
// loop; others hand it functions through events.
type agent struct {
	opts    Options
	log     *slog.Logger
	started time.Time

	state       *model.State
	configError string // why the configuration's newest version is not in force

	kernel *kernel.Kernel // nil while XDP does not run
	// noXDP says why XDP does not run, or not as asked for; "" if it does.
	noXDP   string
	attach  loader.Report // of the last attach
	rungs   []kernel.Rung // by index of state.Services
	retryAt time.Time     // when to attach again; zero: not by itself
	lock    *loader.AgentLock

	checker *health.Checker
	fronts  map[model.Key]*front
	standby *standby
	// added are the addresses that the agent itself put on the host.
	added []netip.Addr

	events        chan func()
	healthChanged flag
}

// A flag says that something has happened, once or more. Its channel holds
// one element.
type flag chan struct{}

// raise never blocks: the checker may be waiting for it with its lock held.
func (f flag) raise() {
	select {
	case f <- struct{}{}:
	default: // it is said already
	}
}

// beat is how often the agent shows that it lives, and looks after itself.
const beat = time.Second

// retryAfter is how long XDP stays off after it was lost.
const retryAfter = 5 * time.Second

// loop carries out events until ctx is done.
func (a *agent) loop(ctx context.Context) error {
	tick := time.NewTicker(beat)
	defer tick.Stop()
	a.publish()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
			a.tick(ctx)
		case <-a.healthChanged:
			a.applyHealth()
		case f := <-a.events:
			f()
		}
		a.publish()
	}
}

// send hands f to loop. It gives up when ctx is done.
func (a *agent) send(ctx context.Context, f func()) {
	select {
	case a.events <- f:
	case <-ctx.Done():
	}
}

// down returns which backends of a service are down.
func (a *agent) down(s *model.Service) []bool {
	down := make([]bool, len(s.Backends))
	for i := range s.Backends {
		status, ok := a.checker.Status(target(s, i))
		down[i] = ok && !status.Up
	}
	return down
}

// target is what is checked for a backend of a service.
func target(s *model.Service, backend int) health.Target {
	t := health.Target{Address: s.Backends[backend].Address, Check: s.Health}
	if t.Address.Port() == 0 && t.Check.Port == 0 {
		t.Check.Port = s.Listen.Port()
	}
	return t
}

// targets returns what is to be checked for a state.
func targets(state *model.State) []health.Target {
	var all []health.Target
	for i := range state.Services {
		for b := range state.Services[i].Backends {
			all = append(all, target(&state.Services[i], b))
		}
	}
	return all
}

// applyHealth lets the proxies and the kernel have what is known now.
func (a *agent) applyHealth() {
	for i := range a.state.Services {
		s := &a.state.Services[i]
		if f := a.fronts[s.Key()]; f != nil {
			f.update(s, a.down(s))
		}
	}
	if a.kernel == nil {
		return
	}
	if err := a.kernel.SetHealth(a.state, a.down); err != nil {
		a.log.Error("write health", "err", err)
	}
}

// reconcile makes the maps hold what is known now.
func (a *agent) reconcile() {
	if a.kernel == nil {
		return
	}
	rungs, err := a.kernel.Reconcile(a.state, a.down)
	if err != nil {
		a.log.Error("reconcile", "err", err)
		return
	}
	for i, r := range rungs {
		if i < len(a.rungs) && a.rungs[i] != r {
			a.log.Info("rung changed", "service", a.state.Services[i].Name, "proxy", r.Proxy, "reason", r.Reason)
		}
	}
	a.rungs = rungs
}

// tick is what happens each second.
func (a *agent) tick(ctx context.Context) {
	if a.kernel != nil {
		a.kernel.Instance().Control().Beat()
		a.watchKernel(ctx)
	}
	if a.kernel == nil && !a.retryAt.IsZero() && time.Now().After(a.retryAt) {
		a.tryAttach(ctx)
	}
}

// hostChanged is called when links, addresses or routes have changed.
func (a *agent) hostChanged(ctx context.Context) {
	if a.kernel == nil {
		return
	}
	a.watchKernel(ctx)
	if a.kernel == nil {
		return
	}
	if err := a.kernel.KeepNeighbours(ctx, a.state, 0); err != nil {
		a.log.Warn("keep neighbours", "err", err)
	}
	a.reconcile()
	a.kernel.Recheck()
}

// close releases what the agent holds. Packets keep flowing.
func (a *agent) close() error {
	var errs []error
	if a.kernel != nil {
		errs = append(errs, a.kernel.Close())
	}
	if a.lock != nil {
		errs = append(errs, a.lock.Unlock())
	}
	return errors.Join(errs...)
}
