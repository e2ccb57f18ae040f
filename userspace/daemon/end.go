package daemon

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"slices"

	"fairlead/loader"
	"fairlead/userspace/kernel"
	"fairlead/userspace/supervise"
	"fairlead/userspace/view"
)

// leave takes XDP out, if that was asked for, and ends the proxies, while
// everything else goes on.
func (a *agent) leave(ctx context.Context) error {
	a.sockets.end()
	a.send(ctx, func() {
		a.leaving = true
		a.report(supervise.Stopping)
		a.followStandby()
		if !a.opts.DetachOnExit {
			a.lastAttach(ctx)
		}
	})
	var err error
	if a.opts.DetachOnExit && a.lock != nil {
		a.log.Info("draining before detach", "grace", a.opts.Grace)
		err = kernel.Detach(ctx, a.opts.PinDir, nil, a.opts.Grace, nil)
		if errors.Is(err, loader.ErrNotAttached) {
			err = nil
		}
	}
	fronts := make(chan []*front, 1)
	a.send(ctx, func() { fronts <- slices.Collect(maps.Values(a.fronts)) })
	select {
	case all := <-fronts:
		a.endProxies(all)
	case <-ctx.Done():
	}
	return err
}

// endProxies is endFronts that says what became of connections and requests.
func (a *agent) endProxies(fronts []*front) {
	load := func() (open int64, cut uint64) {
		for _, f := range fronts {
			n, c := f.load()
			open, cut = open+n, cut+c
		}
		return open, cut
	}
	open, before := load()
	endFronts(fronts)
	_, after := load()
	a.log.Info("proxies have ended", "open", open, "cut", after-before, "grace", a.opts.Grace)
}

// load returns how many connections or requests a front of TCP has now, and how many
// it has cut.
func (f *front) load() (open int64, cut uint64) {
	switch {
	case f.http != nil:
		s := f.http.proxy.Stats()
		return s.Running, s.Cut
	case f.tcp != nil:
		s := f.tcp.Stats()
		return s.Active, s.Cut
	}
	return 0, 0
}

// endFronts closes the sockets of proxies and waits until their connections
// have ended or the grace is over.
func endFronts(fronts []*front) {
	for _, f := range fronts {
		f.stop(context.Canceled)
	}
	for _, f := range fronts {
		f.running.Wait()
	}
}

// lastAttach lets the kernel forward again, where XDP is off and would stay so
// after the agent's end. What was detached stays out.
func (a *agent) lastAttach(ctx context.Context) {
	if !a.strands() {
		return
	}
	a.tryAttach(ctx)
	if a.kernel != nil {
		return
	}
	on, err := kernel.SwitchOn(ctx, a.opts.PinDir, a.wanted(a.state))
	if err != nil {
		a.log.Warn("switch on what is attached from before", "err", err)
	} else if on {
		a.log.Warn("xdp is on again, as it was attached from before", "reason", a.noXDP)
	}
}

// strands reports whether nobody would serve if the agent ended: XDP is
// attached, but off.
func (a *agent) strands() bool {
	if a.lock == nil || a.kernel != nil {
		return false
	}
	inst, err := loader.Open(a.opts.PinDir)
	if err != nil {
		return false // not there, or of another version, which SwitchOff let be
	}
	defer inst.Close()
	return inst.Control().Mode() != loader.ModeOn
}

// warnOfEnd says so if XDP stays off.
func (a *agent) warnOfEnd() {
	if a.strands() {
		a.log.Error("xdp stays off and the proxy ends: nobody serves; run: loader attach", "reason", a.noXDP, "pins", a.pinDir())
	}
}

// finish ends what start began. The kernel goes on.
func (a *agent) finish(served bool) error {
	a.sockets.end()
	if a.handed {
		return a.retire()
	}
	if !served && a.before != nil { // that process goes on, with what is its
		a.owns = false
		a.leaveLock()
	}
	endFronts(slices.Collect(maps.Values(a.fronts)))
	a.closePools()
	errs := []error{a.standby.use(nil), a.holder.use(nil)}
	var kept []netip.Addr
	if a.kernel != nil {
		var err error
		kept, err = a.kernel.Added()
		errs = append(errs, err)
	}
	errs = append(errs, a.dropAddresses())
	if served {
		a.warnOfEnd()
		errs = append(errs, view.Remove(a.opts.RunDir))
	}
	errs = append(errs, a.close())
	// A detach may have just left the addresses to this agent: see kernel.Detach.
	if _, err := os.Stat(a.pinDir()); errors.Is(err, fs.ErrNotExist) {
		a.added = kept
		errs = append(errs, a.dropAddresses())
	}
	return errors.Join(errs...)
}

func (a *agent) pinDir() string { return cmp.Or(a.opts.PinDir, loader.DefaultDir) }
