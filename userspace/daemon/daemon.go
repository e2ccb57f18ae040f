// Package daemon is the agent: it keeps the kernel's maps true to the
// configuration and to the backends' health, and proxies in user space where
// XDP does not run.
//
// It is the only package that knows all the others. One goroutine owns the
// agent's state; checks, proxies and watchers hand it what happens. When it
// ends, the kernel goes on forwarding.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"fairlead/loader"
	"fairlead/userspace/config"
	"fairlead/userspace/datapath"
	"fairlead/userspace/health"
	"fairlead/userspace/host"
	"fairlead/userspace/kernel"
	"fairlead/userspace/model"
	"fairlead/userspace/view"
)

// Options say how an agent runs.
type Options struct {
	Config string // path of the configuration
	PinDir string // "" means loader.DefaultDir
	RunDir string // where status.json goes; "" means view.DefaultDir
	// Interfaces and Mode win over the configuration's, if any.
	Interfaces []string
	Mode       model.XDPMode
	// Force replaces foreign XDP programs and takes over addresses on which
	// this host listens.
	Force bool
	// SetSysctl switches forwarding on where it is off.
	SetSysctl bool
	// DetachOnExit takes XDP out at the end, after at most Grace.
	DetachOnExit bool
	// Grace is how long flows may go on when XDP or a proxy ends.
	Grace time.Duration
	Log   *slog.Logger
}

// collectEvery is how often the flow table is searched for what has expired.
const collectEvery = 10 * time.Second

// ErrListen says that a service has neither XDP nor a proxy that listens.
var ErrListen = errors.New("service cannot be served")

// Run reads the configuration, attaches and serves until ctx is done; then it
// returns nil. SIGHUP reads the configuration again. Errors before it serves
// wrap [config.ErrInvalid], [ErrListen] and those of packages kernel and loader.
func Run(ctx context.Context, o Options) error {
	state, err := config.Load(o.Config)
	if err != nil {
		return err
	}
	if o.RunDir == "" {
		o.RunDir = view.DefaultDir()
	}
	a := &agent{
		opts: o, log: o.Log, state: &state, started: time.Now(),
		fronts: map[model.Key]*front{}, standby: newStandby(o.Log), events: make(chan func()), healthChanged: make(flag, 1),
	}
	group, inner := errgroup.WithContext(ctx)
	a.checker = health.New(o.Log, func(health.Target, health.Status) { a.healthChanged.raise() })
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	if err := a.start(ctx); err != nil {
		return errors.Join(err, a.finish(ctx, false))
	}
	group.Go(func() error { return a.checker.Run(inner) })
	group.Go(func() error { return a.loop(inner) })
	group.Go(func() error { return a.watchHost(inner) })
	group.Go(func() error { return a.collect(inner) })
	group.Go(func() error {
		for {
			select {
			case <-inner.Done():
				return nil
			case <-hup:
				a.send(inner, func() { a.reload(inner) })
			}
		}
	})
	o.Log.Info("ready", "services", len(state.Services))
	err = group.Wait()
	if ctx.Err() != nil {
		err = nil
	}
	return errors.Join(err, a.finish(ctx, true))
}

// start brings the agent to where loop can take over.
func (a *agent) start(ctx context.Context) error {
	if a.mode(a.state) == model.XDPOff {
		a.checker.Set(targets(a.state), nil)
		if err := a.addAddresses(); err != nil {
			return err
		}
		a.openFronts(ctx)
		return a.checkFronts()
	}
	var err error
	if a.lock, err = loader.LockAgent(ctx, a.opts.PinDir, kernel.Digest(a.state)); err != nil {
		return fmt.Errorf("another agent runs: %w", err)
	}
	clashes, err := kernel.Conflicts(a.state, nil)
	if err != nil {
		return err
	}
	if len(clashes) > 0 && !a.opts.Force {
		return fmt.Errorf("%w: %s; use --force to take the port over, without a standby", kernel.ErrConflict, strings.Join(clashes, "; "))
	}
	known, err := kernel.Health(a.opts.PinDir, a.state)
	if err != nil {
		return err
	}
	a.checker.Set(targets(a.state), adopt(a.state, known))
	a.warn()
	if err := a.attachKernel(ctx, a.state); err != nil {
		if a.mustAttach(err) {
			return err
		}
		a.noXDP = err.Error()
		a.log.Warn("xdp cannot run, the proxy serves", "err", err)
		if err := a.addAddresses(); err != nil {
			return err
		}
	}
	a.openFronts(ctx)
	a.reconcile()
	if a.kernel == nil {
		return a.checkFronts()
	}
	return nil
}

// adopt returns what a former agent knew of a target's health.
func adopt(state *model.State, known [][]datapath.Health) func(health.Target) (bool, bool) {
	byKey := map[string]datapath.Health{}
	for i := range known {
		for b, h := range known[i] {
			byKey[target(&state.Services[i], b).Key()] = h
		}
	}
	return func(t health.Target) (up, ok bool) {
		h := byKey[t.Key()]
		return h == datapath.HealthUp, h != datapath.HealthUnknown
	}
}

// warn says what may not work on this host.
func (a *agent) warn() {
	lines, err := kernel.Warnings(a.state, a.interfaces(a.state))
	if err != nil {
		a.log.Warn("look for what may not work", "err", err)
	}
	for _, l := range lines {
		a.log.Warn(l)
	}
}

// addAddresses puts the service addresses on the host, where no kernel part
// does, if it may. Those that it could not add show when a front listens.
func (a *agent) addAddresses() error {
	if a.state.Addresses == model.AddressesLeave || os.Geteuid() != 0 {
		return nil
	}
	for i := range a.state.Services {
		addr := a.state.Services[i].Listen.Addr()
		if addr.IsUnspecified() {
			continue
		}
		added, err := host.AddAddress(addr)
		if err != nil {
			return err
		}
		if added {
			a.added = append(a.added, addr)
		}
	}
	return nil
}

// openFronts opens the proxies of services that have none.
func (a *agent) openFronts(ctx context.Context) {
	o := frontOptions{
		grace: a.opts.Grace, udpIdle: a.state.Timeouts.WithDefaults().UDPEstablished,
		onFlow: a.standby.change, log: a.log,
	}
	for i := range a.state.Services {
		s := &a.state.Services[i]
		if a.fronts[s.Key()] == nil {
			a.fronts[s.Key()] = openFront(context.WithoutCancel(ctx), s, a.down(s), o)
		}
	}
}

// checkFronts refuses to run without XDP and without a listener.
func (a *agent) checkFronts() error {
	var errs []error
	for i := range a.state.Services {
		s := &a.state.Services[i]
		if why := a.fronts[s.Key()].missing; why != "" {
			errs = append(errs, fmt.Errorf("%w: %s: %s", ErrListen, s.Name, why))
		}
	}
	return errors.Join(errs...)
}

// collect frees the room of expired flows until ctx is done.
func (a *agent) collect(ctx context.Context) error {
	tick := time.NewTicker(collectEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		inst, err := loader.Open(a.opts.PinDir)
		if err != nil {
			continue // XDP does not run
		}
		if _, _, err := datapath.Collect(inst.Maps()); err != nil {
			a.log.Warn("collect flows", "err", err)
		}
		if err := inst.Close(); err != nil {
			a.log.Warn("collect flows", "err", err)
		}
	}
}

// finish ends what start began. The kernel goes on, unless it is to be taken
// out.
func (a *agent) finish(ctx context.Context, served bool) error {
	ctx = context.WithoutCancel(ctx)
	var errs []error
	if served && a.opts.DetachOnExit && a.kernel != nil {
		errs = append(errs, a.detach(ctx))
	}
	for _, f := range a.fronts {
		f.stop(context.Canceled)
	}
	for _, f := range a.fronts {
		f.running.Wait()
	}
	for _, addr := range a.added {
		errs = append(errs, host.RemoveAddress(addr))
	}
	errs = append(errs, a.standby.use(nil), a.close(), view.Remove(a.opts.RunDir))
	return errors.Join(errs...)
}

// detach takes XDP out while the proxies still listen.
func (a *agent) detach(ctx context.Context) error {
	a.log.Info("draining before detach", "grace", a.opts.Grace)
	if err := errors.Join(a.standby.use(nil), a.kernel.Close()); err != nil {
		return err
	}
	a.kernel = nil
	return kernel.Detach(ctx, a.opts.PinDir, nil, a.opts.Grace, nil)
}
