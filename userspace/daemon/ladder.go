package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"fairlead/loader"
	"fairlead/userspace/kernel"
	"fairlead/userspace/model"
)

// mode is how XDP is to attach.
func (a *agent) mode(state *model.State) model.XDPMode {
	if a.opts.Mode != "" {
		return a.opts.Mode
	}
	return state.XDP
}

// interfaces are the ones that a state wants attached.
func (a *agent) interfaces(state *model.State) []string {
	if len(a.opts.Interfaces) > 0 {
		return a.opts.Interfaces
	}
	return state.Interfaces
}

// attachKernel attaches, upgrades or grows the kernel's part for state.
func (a *agent) attachKernel(ctx context.Context, state *model.State) error {
	k, report, err := kernel.Attach(ctx, state, kernel.Options{
		Dir: a.opts.PinDir, Interfaces: a.interfaces(state), Mode: a.mode(state),
		Force: a.opts.Force, SetSysctl: a.opts.SetSysctl, Config: a.opts.Config, Agent: true,
		Down: a.down, Before: a.standby.use,
		Warn: func(text string) { a.log.Warn(text) },
	})
	if err != nil {
		return err
	}
	old := a.kernel
	a.kernel, a.attach, a.noXDP, a.retryAt = k, report.Report, "", time.Time{}
	k.Instance().Control().Beat()
	for _, i := range report.Interfaces {
		if !i.Already {
			a.log.Info("interface attached", "interface", i.Name, "mode", i.Mode, "reason", i.Reason)
		}
	}
	if old != nil {
		return old.Close()
	}
	return nil
}

// mustAttach says of an error at the start that XDP cannot be had because of
// how the agent was called or what else is there: somebody has to decide.
// Anything else leaves the services to the proxy.
func (a *agent) mustAttach(err error) bool {
	if a.mode(a.state) != model.XDPAuto {
		return true
	}
	for _, target := range []error{
		loader.ErrForeign, loader.ErrNoInterface, loader.ErrPrivileges, loader.ErrLocked, loader.ErrNoBPFFS,
		kernel.ErrForwarding, kernel.ErrConflict, kernel.ErrNoInterfaces,
	} {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}

// watchKernel finds out whether XDP still runs as it should.
func (a *agent) watchKernel(ctx context.Context) {
	inst, err := loader.Open(a.opts.PinDir)
	if errors.Is(err, loader.ErrNotAttached) {
		a.loseKernel("detached by a command; send SIGHUP to attach again", false)
		return
	}
	if err != nil {
		a.log.Warn("look at what is pinned", "err", err)
		return
	}
	links, err := inst.Links()
	err = errors.Join(err, inst.Close())
	if err != nil {
		a.log.Warn("look at links", "err", err)
		return
	}
	for _, name := range a.interfaces(a.state) {
		at := slices.IndexFunc(links, func(l loader.LinkInfo) bool { return l.Interface == name })
		if at < 0 || links[at].Index == 0 {
			a.loseKernel(fmt.Sprintf("interface %s lost its XDP program", name), true)
			return
		}
	}
}

// loseKernel switches XDP off everywhere: packets that only some interfaces
// translate are worse than a proxy.
func (a *agent) loseKernel(reason string, retry bool) {
	a.log.Warn("xdp is off, the proxy serves", "reason", reason)
	a.noXDP = reason
	a.kernel.Instance().SetMode(loader.ModeOff)
	if err := errors.Join(a.standby.use(nil), a.kernel.Close()); err != nil {
		a.log.Warn("close kernel", "err", err)
	}
	a.kernel, a.rungs = nil, nil
	if retry {
		a.retryAt = time.Now().Add(retryAfter)
	}
}

// tryAttach attaches again after XDP was lost.
func (a *agent) tryAttach(ctx context.Context) {
	if err := a.attachKernel(ctx, a.state); err != nil {
		a.noXDP = err.Error()
		a.retryAt = time.Now().Add(retryAfter)
		a.log.Warn("attach again", "err", err)
		return
	}
	a.log.Info("xdp is on again")
	a.reconcile()
}
