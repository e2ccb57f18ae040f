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
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"fairlead/loader"
	"fairlead/userspace/config"
	"fairlead/userspace/kernel"
	"fairlead/userspace/model"
	"fairlead/userspace/supervise"
	"fairlead/userspace/view"
)

// ErrListen says that a service has neither XDP nor a proxy that listens.
var ErrListen = errors.New("service cannot be served")

// Run reads the configuration, attaches and serves until ctx is done; then it
// returns nil. SIGHUP opens logs and reads the configuration again. With Handover,
// SIGUSR2 starts a successor; once that serves, Run lets connections end and returns
// nil. Errors before it serves wrap [config.ErrInvalid], [ErrListen] and those of
// packages kernel and loader.
func Run(ctx context.Context, o Options) (err error) {
	orders := make(chan os.Signal, 2)
	signal.Notify(orders, syscall.SIGHUP)
	defer signal.Stop(orders)
	if o.Handover {
		signal.Notify(orders, syscall.SIGUSR2)
	}
	h, err := o.inherit(ctx)
	if err != nil {
		return err
	}
	defer func() { h.before.end(err) }()
	tree, err := o.tree()
	if err != nil {
		return err
	}
	conf, err := tree.State(true)
	if err != nil {
		return err
	}
	o.complete(&conf.Agent)
	if err := h.before.awaitTurn(ctx); err != nil {
		return err
	}
	store, err := openLent(ctx, o.StateDir, conf.Vault, o.Log)
	if err != nil {
		return err
	}
	return errors.Join(o.run(ctx, orders, h, tree, store), store.Close())
}

// run is [Run] with what it inherits, a configuration and the state that was kept.
func (o *Options) run(ctx context.Context, orders <-chan os.Signal, h heritage, tree *config.Tree, store *lent) error {
	p, err := newPlane(ctx, tree, store, o)
	if err != nil {
		return err
	}
	given, err := p.conf.tree.State(true)
	if err != nil {
		return err
	}
	a := newAgent(*o, &given)
	a.plane, p.agent, a.last = p, a, p.readLast(ctx)
	a.before, a.sockets, a.standby.inherits = h.before, newSockets(h.sockets, h.before != nil || !o.Handover, a.log), h.before != nil
	a.doors = newDoors(o.RunDir, p, a.sockets, o.Log)
	a.prepareNames(ctx, &given)
	a.state = a.names.Expand(&given)
	a.roster = newRoster(a.state)
	t, err := a.openTrove(a.state, readingOf(a.state))
	if err != nil {
		return err
	}
	a.useTrove(t)
	if err := a.begin(ctx); err != nil {
		return errors.Join(err, a.finish(false))
	}
	a.openDoors()
	if o.Sandbox {
		a.enterSandbox()
	}
	p.noteFile(ctx)
	if o.ready != nil {
		o.ready(p)
	}
	p.tellOverlay()
	o.Log.Info("ready", "services", len(given.Services), "revision", p.Revision().Number)
	a.report(supervise.Ready)
	return errors.Join(a.serve(ctx, orders), a.finish(true))
}

// begin starts the agent, and takes over what a process before it has.
func (a *agent) begin(ctx context.Context) error {
	if err := errors.Join(kernel.CheckIPv6(a.state), a.checkHanded(), a.checkMetrics(a.state), a.openMetrics(ctx), a.openWeb(ctx), a.openLogs(), a.doors.register(ctx, a.state, a.log)); err != nil {
		return err
	}
	if a.before == nil {
		a.sockets.clear(a.state) // else that process has them, too
	}
	if err := a.start(ctx); err != nil {
		return err
	}
	if err := a.openDesk(ctx); err != nil {
		return err
	}
	a.takeFlows()
	if a.opts.Handover {
		a.sockets.settle()
	}
	return nil
}

// serve runs what an agent consists of until ctx is done, and until XDP is
// taken out then if that was asked for.
func (a *agent) serve(ctx context.Context, orders <-chan os.Signal) error {
	// What serves goes on when ctx is done, until XDP is out.
	inner, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	group, inner := errgroup.WithContext(inner)
	for _, part := range []func(context.Context){
		func(ctx context.Context) { _ = a.checker.Run(ctx) }, // returns why ctx ended
		a.loop, a.beatOn, a.watchHost, a.followNames, a.notices.Run, a.files.Run, a.collect, a.serveMetrics, a.plane.run, a.remember,
		a.serveDesk, a.serveWeb, a.doors.registry.Run,
	} {
		group.Go(func() error {
			part(inner)
			return nil
		})
	}
	group.Go(func() error {
		defer stop()
		if a.obey(ctx, inner, orders) {
			a.yield() // while calls end that run
			return nil
		}
		return a.leave(inner)
	})
	return group.Wait()
}

// obey does what signals ask for until ctx is done, or a successor serves: it reports
// whether that is so. What an agent consists of runs until inner is done.
func (a *agent) obey(ctx, inner context.Context, orders <-chan os.Signal) (succeeded bool) {
	for {
		select {
		case <-ctx.Done():
			return false
		case order := <-orders:
			if order == syscall.SIGUSR2 {
				if a.handOver(ctx, inner, orders) {
					return true
				}
				continue
			}
			a.rotate()
			a.plane.reload(ctx)
		}
	}
}

// start brings the agent to where loop can take over.
func (a *agent) start(ctx context.Context) error {
	if a.mode(a.state) == model.XDPOff {
		if err := a.takeRunDir(); err != nil {
			return err
		}
		a.warnOfPins()
		a.checker.Set(a.roster.targets, a.before.adopt(a.roster.adopt(nil, a.readKnown())))
		a.recall()
		a.isDown = a.roster.look(a.checker)
		return a.startProxies(ctx)
	}
	var err error
	if a.lock, err = a.before.lockAgent(ctx, a.opts.PinDir, kernel.Digest(a.state)); err != nil {
		if errors.Is(err, loader.ErrLocked) {
			err = fmt.Errorf("another agent runs: %w", err)
		}
		return err
	}
	if err := a.takeRunDir(); err != nil {
		return err
	}
	if err := errors.Join(a.checkConflicts(a.state), kernel.CheckFullNAT(a.state), kernel.CheckCookies(a.state)); err != nil {
		return err
	}
	if err := a.adoptDrains(); err != nil {
		return err
	}
	known, err := kernel.Health(a.opts.PinDir, a.state)
	if err != nil {
		return err
	}
	a.checker.Set(a.roster.targets, a.before.adopt(a.roster.adopt(known, a.readKnown())))
	a.recall()
	a.isDown = a.roster.look(a.checker)
	a.warn()
	if err := a.attachKernel(ctx, a.roster, a.isDown); err != nil {
		if ctx.Err() != nil { // what is attached from before goes on
			a.log.Info("asked to end while starting", "err", err)
			return ctx.Err()
		}
		if a.mustAttach(err) {
			return err
		}
		a.noXDP, a.retryAt = err.Error(), time.Now().Add(retryAfter)
		a.log.Warn("xdp cannot run, the proxy serves", "err", err)
		if err := a.startProxies(ctx); err != nil {
			return err
		}
		if err := kernel.SwitchOff(a.opts.PinDir); err != nil {
			a.log.Warn("switch off what is attached from before", "err", err)
		}
		return nil
	}
	a.warnUnheard(a.openFronts(ctx)...)
	return nil
}

// takeRunDir makes sure that no other agent lives in the run directory, and
// takes over what one that was killed has left there.
func (a *agent) takeRunDir() error {
	if v, err := view.Read(a.opts.RunDir); err == nil && v.Alive() && !a.before.is(v.PID) {
		return fmt.Errorf("another agent runs: %w: process %d publishes its status in %s; use another --run-dir", loader.ErrLocked, v.PID, a.opts.RunDir)
	}
	if err := a.inheritAddresses(); err != nil {
		return err
	}
	a.owns = true
	return nil
}

// startProxies makes the proxies serve alone.
func (a *agent) startProxies(ctx context.Context) error {
	placed := a.setAddresses()
	a.openFronts(ctx)
	if err := a.checkFronts(); err != nil {
		return errors.Join(placed, err)
	}
	if placed != nil {
		a.log.Warn("set service addresses", "err", placed)
	}
	return nil
}

// warnOfPins says that XDP goes on forwarding what an agent before this one
// left, if that is so.
func (a *agent) warnOfPins() {
	inst, err := loader.Open(a.opts.PinDir)
	if err != nil {
		return // nothing there, or not to be seen without root
	}
	defer inst.Close()
	a.log.Warn("xdp is to be off, but is attached from before and forwards by itself; take it out: loader detach", "pins", inst.Dir())
}

// checkConflicts refuses services of a state that have no proxy yet if another
// program of this host listens where they do.
func (a *agent) checkConflicts(state *model.State) error {
	if a.opts.Force {
		return nil
	}
	fresh := model.State{}
	for i := range state.Services {
		if a.fronts[state.Services[i].Key()] == nil {
			fresh.Services = append(fresh.Services, state.Services[i])
		}
	}
	clashes, err := kernel.Conflicts(&fresh, a.sockets.has)
	if err != nil || len(clashes) == 0 {
		return err
	}
	return fmt.Errorf("%w: %s; use --force to take the port over, without a standby", kernel.ErrConflict, strings.Join(clashes, "; "))
}

// warn says what may not work on this host.
func (a *agent) warn() {
	lines, err := kernel.Warnings(a.state, a.interfaces(a.state))
	if err != nil {
		a.log.Warn("look for what may not work", "err", err)
	}
	for _, l := range lines {
		a.log.Warn("this may not work", "warning", l)
	}
}

// openFronts opens the proxies of services that have none, and returns the services
// of those that do not listen on all ports.
func (a *agent) openFronts(ctx context.Context) (unheard []*model.Service) {
	o := frontOptions{
		grace: a.opts.Grace, udpIdle: a.state.Timeouts.WithDefaults().UDPEstablished,
		limits: a.limits, sockets: a.sockets, flowsCame: a.flowsCame, onFlow: a.standby.change, onFailure: a.suspects.dials.add, pool: a.pool,
		sets: a.certificates, challenge: a.challenge, access: a.journal.of, trace: a.traces.of, log: a.log,
	}
	a.keepPools()
	a.useSafe()
	for i := range a.state.Services {
		s := &a.state.Services[i]
		if a.fronts[s.Key()] != nil {
			continue
		}
		f := openFront(context.WithoutCancel(ctx), s, a.judge(s), o)
		a.fronts[s.Key()] = f
		if f.missing() != "" {
			unheard = append(unheard, s)
		}
	}
	a.retried = time.Now()
	return unheard
}

// retryFronts lets proxies that cannot listen try again.
func (a *agent) retryFronts(ctx context.Context) {
	if a.leaving {
		return
	}
	for i := range a.state.Services {
		s := &a.state.Services[i]
		f := a.fronts[s.Key()]
		if f == nil || f.missing() == "" {
			continue
		}
		before := f.missing()
		f.listen(ctx)
		switch why := f.missing(); why {
		case "":
			a.log.Info("proxy listens", "service", s.Name)
		case before:
		default:
			a.warnUnheard(s)
		}
	}
	a.retried = time.Now()
}

// checkFronts refuses to run without XDP and without a listener.
func (a *agent) checkFronts() error {
	var errs []error
	for i := range a.state.Services {
		s := &a.state.Services[i]
		if why := a.fronts[s.Key()].missing(); why != "" {
			errs = append(errs, fmt.Errorf("%w: %s: %s", ErrListen, s.Name, why))
		}
	}
	if a.opts.Quick != nil && len(errs) > 0 {
		return errs[0] // its services are one, of one port
	}
	return errors.Join(errs...)
}
