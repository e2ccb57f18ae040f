package daemon

import (
	"context"
	"errors"
	"slices"
	"time"

	"fairlead/internal/crashpoint"
	"fairlead/loader"
	"fairlead/userspace/kernel"
	"fairlead/userspace/model"
	"fairlead/userspace/supervise"
)

// errRestart says that a change of the configuration needs a new process.
var errRestart = errors.New("xdp: off and on are chosen at the start: write it into the agent's file and restart the agent")

// errLeaving says that it is too late for another configuration.
var errLeaving = errors.New("the agent ends")

// reload puts a configuration that was read in force, with the secrets of a reading. A
// bad one, of which err tells, changes nothing. The error is why it is not in force.
func (a *agent) reload(ctx context.Context, given *model.State, read reading, err error) error {
	a.report(supervise.Reloading())
	defer a.report(supervise.Ready)
	if err == nil {
		err = a.checkMetrics(given)
	}
	keep := func(bool) {}
	if err == nil {
		keep, err = a.prepare(ctx, given)
	}
	if err == nil {
		state := a.names.Expand(given)
		a.drains.keep(state, hadBy(a.state))
		err = a.replaceWith(ctx, newRoster(state), read)
	}
	keep(err == nil)
	if err != nil {
		a.configError = err.Error()
		a.log.Error("configuration not taken, the old one stays", "config", a.opts.Config, "err", err)
		return err
	}
	a.configError, a.reloaded = "", time.Now()
	if given.Agent != a.given.Load().Agent {
		a.log.Warn("what agent says is for the next start", "config", a.opts.Config)
	}
	a.adoptState(given)
	a.log.Info("configuration taken", "config", a.opts.Config, "services", len(given.Services))
	return nil
}

// prepare opens what a configuration asks for beside services. What it returns, never
// nil, is called once: with true for that to be in force from now on, else to forget it.
func (a *agent) prepare(ctx context.Context, given *model.State) (keep func(bool), err error) {
	keepLogs, err := a.prepareLogs(given)
	if err != nil {
		return keepLogs, err
	}
	keepDesk, err := a.prepareDesk(ctx, &given.Admin)
	if err != nil {
		keepLogs(false)
		return keepDesk, err
	}
	return func(taken bool) {
		keepLogs(taken)
		keepDesk(taken)
	}, nil
}

// replaceWith puts another state in force, for which it reads files, and secrets by
// read. An error changes nothing.
func (a *agent) replaceWith(ctx context.Context, r *roster, read reading) error {
	t, err := a.openTrove(r.state, read)
	if err != nil {
		return err
	}
	if err = a.replace(ctx, r, t, map[string]bool{}); err != nil { // whoever reloads wants all interfaces
		a.dropTrove(t)
	}
	return err
}

// accepts finds why a state cannot come in force.
func (a *agent) accepts(ctx context.Context, state *model.State) error {
	if (a.mode(state) == model.XDPOff) != (a.mode(a.state) == model.XDPOff) {
		return errRestart
	}
	if err := kernel.CheckIPv6(state); err != nil {
		return err
	}
	if a.lock == nil {
		return a.checkPorts(ctx, state)
	}
	return errors.Join(a.checkConflicts(state), kernel.CheckFullNAT(state), kernel.CheckCookies(state))
}

// replace puts another state in force, with its certificates and without the
// interfaces that stay out. An error changes nothing.
func (a *agent) replace(ctx context.Context, r *roster, t trove, stayOut map[string]bool) error {
	if a.leaving {
		return errLeaving
	}
	if err := a.accepts(ctx, r.state); err != nil {
		return err
	}
	if err := a.doors.register(ctx, r.state, a.log); err != nil {
		return err
	}
	// Health first: who is known to be down gets nothing because its check changes,
	// and who is known to be up is not judged by a single probe.
	a.checker.Set(slices.Concat(r.targets, a.roster.targets), r.inherit(a.roster, a.isDown, a.checker.Knows))
	isDown := r.look(a.checker)
	a.shares.arrive(r.state, a.state)
	out := a.out
	a.out = stayOut
	if a.lock != nil {
		if err := a.replaceKernel(ctx, r, isDown); err != nil {
			a.out = out
			a.checker.Set(a.roster.targets, nil)
			a.undoKernel(ctx, r, err)
			return errors.Join(err, a.doors.register(ctx, a.state, a.log))
		}
	}
	crashpoint.Pass()
	old := a.state
	a.state, a.roster, a.isDown = r.state, r, isDown
	a.useTrove(t)
	crashpoint.Pass()
	a.dropChecks()
	a.takeOut(ctx, a.interfaces(old))
	a.sign()
	if a.kernel == nil {
		if err := a.setAddresses(); err != nil {
			a.log.Warn("set service addresses", "err", err)
		}
	}
	a.replaceFronts(ctx, old)
	crashpoint.Pass()
	a.openDoors()
	return nil
}

// replaceKernel gives the kernel another state. Where XDP cannot run anyway,
// that is no reason to refuse it.
func (a *agent) replaceKernel(ctx context.Context, r *roster, isDown map[string]bool) error {
	if err := a.attachKernel(ctx, r, isDown); err != nil {
		if a.kernel != nil || ctx.Err() != nil {
			return err
		}
		if a.noXDP != err.Error() {
			a.log.Warn("xdp cannot run, the proxy serves", "err", err)
		}
		a.noXDP, a.retryAt = err.Error(), time.Now().Add(retryAfter)
	}
	return nil
}

// undoKernel gives the kernel the state in force again, after cause kept
// another one from it, perhaps half-way: with other maps, addresses and
// interfaces.
func (a *agent) undoKernel(ctx context.Context, r *roster, cause error) {
	if a.kernel == nil {
		return
	}
	if !errors.Is(cause, loader.ErrLocked) && ctx.Err() == nil {
		if err := a.attachKernel(ctx, a.roster, a.isDown); err != nil {
			a.log.Error("return to the configuration in force", "err", err)
		}
	}
	a.reconcile() // health may have changed
	a.takeOut(ctx, a.interfaces(r.state))
}

// takeOut takes out those of some interfaces that the state in force has not.
// What is behind them falls to the proxy.
func (a *agent) takeOut(ctx context.Context, interfaces []string) {
	if a.kernel == nil {
		return
	}
	for _, name := range interfaces {
		if slices.Contains(a.wanted(a.state), name) || !slices.Contains(a.kernel.Interfaces(), name) {
			continue
		}
		if err := a.kernel.Instance().DetachInterface(ctx, name); err != nil {
			a.log.Warn("take interface out", "interface", name, "err", err)
			continue
		}
		a.log.Info("interface taken out", "interface", name)
		a.reconcile() // no event tells of it
	}
}

// replaceFronts ends the proxies of services that are no more, and opens those
// that are new.
func (a *agent) replaceFronts(ctx context.Context, old *model.State) {
	a.moveFronts()
	a.keepPools()
	wanted := map[model.Key]bool{}
	for i := range a.state.Services {
		s := &a.state.Services[i]
		f := a.fronts[s.Key()]
		wanted[s.Key()] = f == nil || f.serves(s)
		if f != nil && f.serves(s) {
			f.update(s, a.judge(s))
		}
	}
	retimed := old.Timeouts.WithDefaults().UDPEstablished != a.state.Timeouts.WithDefaults().UDPEstablished
	for key, f := range a.fronts {
		if wanted[key] && (f.udp == nil || !retimed) {
			continue
		}
		f.remove()
		delete(a.fronts, key)
	}
	a.sockets.clear(a.state) // one of all addresses would be in the way
	a.warnUnheard(a.openFronts(ctx)...)
	a.retryFronts(ctx)
	a.sockets.clear(nil)
	a.dropPools()
}

// moveFronts gives services whose ports have changed the proxies that they had:
// what goes on over ports that stay is not to end.
func (a *agent) moveFronts() {
	wanted := map[model.Key]bool{}
	for i := range a.state.Services {
		wanted[a.state.Services[i].Key()] = true
	}
	moved := map[string]*front{}
	for key, f := range a.fronts {
		if !wanted[key] {
			moved[f.table.Load().service.Name] = f
		}
	}
	for i := range a.state.Services {
		s := &a.state.Services[i]
		f := moved[s.Name]
		if f == nil || a.fronts[s.Key()] != nil {
			continue
		}
		was := f.table.Load().service
		if was.Listen.Addr() == s.Listen.Addr() && was.Protocol == s.Protocol && f.serves(s) {
			delete(a.fronts, was.Key())
			a.fronts[s.Key()] = f
			f.move(s)
		}
	}
}
