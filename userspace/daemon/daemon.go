// Package daemon is the agent: it keeps the kernel's maps true to the
// configuration and to the backends' health, and proxies in user space where
// XDP does not run.
//
// It is the only package that knows all the others. One goroutine owns the
// agent's state; checks, proxies and watchers hand it what happens. When it
// ends, the kernel goes on forwarding.
package daemon

import (
	"cmp"
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
	"fairlead/userspace/kernel"
	"fairlead/userspace/model"
	"fairlead/userspace/supervise"
	"fairlead/userspace/view"
)

// Options say how an agent runs.
type Options struct {
	Config string // path of the configuration
	// Quick is the configuration in place of a file, if there is none; Config is
	// then what messages call it.
	Quick *config.Quick
	// PinDir, RunDir, where status.json goes, and Metrics, where Prometheus may
	// ask, are what the configuration says if they are empty, and if it is
	// silent too loader.DefaultDir, view.DefaultDir and "off".
	PinDir, RunDir string
	Metrics        string // as in model.Agent
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
	// Handover is for who runs the agent as a process of its own: SIGUSR2 starts a
	// successor by the command line of this process, and sockets are handed over to
	// it, and kept by the service manager between two processes.
	Handover bool
	// ProxyFlows is how many flows the UDP proxies may have together. Each
	// takes a port and a descriptor. 0 means [udpproxy.DefaultMaxFlows], but
	// no more than half of the host's local ports and a quarter of the
	// process's descriptors.
	ProxyFlows int
	// ProxySockets is how many sockets the proxies may open for ranges of
	// ports, beyond one for each service. 0 means 16384, but no more than a
	// quarter of the process's descriptors.
	ProxySockets int
	// Sandbox has the process give up, once it has started, files and system calls
	// that it does not need. That is for good, and for all of the process.
	Sandbox bool
	// Written are files that the process writes besides those of the agent: the
	// sandbox lets it make them anew.
	Written []string
	Version string       // of the program, for who asks
	Log     *slog.Logger // nil discards
}

// ErrListen says that a service has neither XDP nor a proxy that listens.
var ErrListen = errors.New("service cannot be served")

// Run reads the configuration, attaches and serves until ctx is done; then it
// returns nil. SIGHUP reads the configuration again. With Handover, SIGUSR2 starts
// a successor; once that serves, Run lets connections end and returns nil. Errors
// before it serves wrap [config.ErrInvalid], [ErrListen] and those of packages
// kernel and loader.
func Run(ctx context.Context, o Options) error {
	orders := make(chan os.Signal, 2)
	signal.Notify(orders, syscall.SIGHUP)
	defer signal.Stop(orders)
	if o.Handover {
		signal.Notify(orders, syscall.SIGUSR2)
	}
	before, idle, err := o.inherit(ctx)
	if err != nil {
		return err
	}
	defer before.close()
	state, err := o.read()
	if err != nil {
		return err
	}
	o.complete(&state.Agent)
	a := newAgent(o, &state)
	a.before, a.sockets, a.standby.inherits = before, newSockets(idle, o.Log), before != nil
	a.prepareNames(ctx, &state)
	a.state = a.names.Expand(&state)
	a.roster = newRoster(a.state)
	t, err := a.openTrove(a.state)
	if err != nil {
		return err
	}
	a.useTrove(t)
	if err := a.begin(ctx); err != nil {
		return errors.Join(err, a.finish(false))
	}
	if o.Sandbox {
		a.enterSandbox()
	}
	o.Log.Info("ready", "services", len(state.Services))
	a.report(supervise.Ready)
	return errors.Join(a.serve(ctx, orders), a.finish(true))
}

// begin starts the agent, in its turn if it takes the place of another process.
func (a *agent) begin(ctx context.Context) error {
	if err := errors.Join(kernel.CheckIPv6(a.state), a.checkMetrics(a.state), a.openMetrics(ctx)); err != nil {
		return err
	}
	if err := a.before.awaitTurn(ctx); err != nil {
		return err
	}
	if err := a.start(ctx); err != nil {
		return err
	}
	a.takeFlows()
	if a.opts.Handover {
		a.sockets.settle()
	}
	return nil
}

// read returns the configuration.
func (o *Options) read() (model.State, error) {
	if o.Quick != nil {
		return o.Quick.State()
	}
	return config.Load(o.Config)
}

// complete fills in what the configuration says of the process.
func (o *Options) complete(conf *model.Agent) {
	o.PinDir = cmp.Or(o.PinDir, conf.PinDir, loader.DefaultDir)
	o.RunDir = cmp.Or(o.RunDir, conf.RunDir, view.DefaultDir())
	o.Metrics = cmp.Or(o.Metrics, conf.Metrics, metricsOff)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
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
		a.loop, a.beatOn, a.watchHost, a.followNames, a.notices.Run, a.files.Run, a.collect, a.serveMetrics,
	} {
		group.Go(func() error {
			part(inner)
			return nil
		})
	}
	group.Go(func() error {
		defer stop()
		if a.obey(ctx, inner, orders) {
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
			state, err := a.load(ctx)
			a.send(ctx, func() { a.reload(inner, state, err) })
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
		limits: a.limits, sockets: a.sockets, flowsCame: a.flowsCame, onFlow: a.standby.change, onFailure: a.suspects.dials.add, pool: a.pool, sets: a.certificates, challenge: a.challenge, log: a.log,
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
	return errors.Join(errs...)
}
