package daemon

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"time"

	"github.com/cilium/ebpf"

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

// attachKernel attaches, upgrades or grows the kernel's part for the state of r,
// with the checks that say down.
func (a *agent) attachKernel(ctx context.Context, r *roster, isDown map[string]bool) error {
	k, report, err := kernel.Attach(ctx, r.state, kernel.Options{
		Dir: a.opts.PinDir, Interfaces: a.wanted(r.state), Mode: a.mode(r.state),
		Force: a.opts.Force, SetSysctl: a.opts.SetSysctl, Config: a.opts.Config, Agent: true,
		Down: r.down(isDown), Shares: a.sharesOf, Standby: a.listens, Added: a.added, Before: a.standby.use,
		Warn: func(text string) { a.log.Warn("this may not work", "warning", text) },
	})
	if err != nil {
		return err
	}
	old := a.kernel
	a.kernel, a.attach, a.noXDP, a.retryAt = k, report.Report, "", time.Time{}
	a.pulse.Store(k.Instance().Control())
	k.Instance().Control().Beat()
	a.logAttach(r.state)
	if err := a.holder.use(k.Instance()); err != nil {
		a.log.Warn("fragments that come before their first are dropped", "err", err)
	}
	a.flowLog.follow(true)
	if old != nil {
		if err := old.Close(); err != nil {
			a.log.Warn("close what was attached before", "err", err)
		}
	}
	if a.pins, err = os.Stat(k.Instance().Dir()); err != nil {
		a.log.Warn("look at the pin directory", "err", err)
	}
	if err := a.ownAddresses(nil); err != nil { // they stand in the journal now
		a.log.Warn("forget service addresses", "err", err)
	}
	return nil
}

// logAttach says what has become of interfaces and services.
func (a *agent) logAttach(state *model.State) {
	for _, i := range a.attach.Interfaces {
		if !i.Already {
			a.log.Info("interface attached", "interface", i.Name, "mode", i.Mode, "reason", i.Reason)
		}
	}
	if a.attach.Mended != "" {
		a.log.Info("mended", "what", a.attach.Mended)
	}
	for i, r := range a.kernel.Rungs() {
		if r.Proxy {
			a.log.Info("the proxy serves", "service", state.Services[i].Name, "reason", r.Reason)
		} else if r.Reason != "" {
			a.log.Warn("this may not work", "service", state.Services[i].Name, "reason", r.Reason)
		}
	}
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
	pins, err := os.Stat(a.kernel.Instance().Dir())
	if errors.Is(err, fs.ErrNotExist) {
		why := "detached by a command; send SIGHUP to attach again"
		if a.leaving {
			why = "detached because the agent ends"
		}
		a.loseKernel(why, false)
		return
	}
	if err != nil {
		if a.news("pins", err) {
			a.log.Warn("look at the pin directory", "err", err)
		}
		return
	}
	if !os.SameFile(pins, a.pins) && !a.stillOurs() {
		a.attachAnew(ctx, "another version was attached beside this agent: restart the agent with that version")
		return
	}
	a.pins = pins
	if a.kernel.Instance().Control().Mode() != loader.ModeOn {
		a.unstick(ctx)
		return
	}
	if err := a.kernel.Stuck(); a.news("stuck", err) {
		a.log.Warn("let go of freed rows", "err", err)
	}
	a.watchLinks()
}

// stillOurs reports whether the maps that are pinned now are those that the
// agent writes: a command beside it has put a newer program in place only.
func (a *agent) stillOurs() bool {
	inst, err := loader.Open(a.opts.PinDir)
	if err != nil {
		return false
	}
	defer inst.Close()
	have, now := a.kernel.Maps(), inst.Maps()
	for _, pair := range [][2]*ebpf.Map{
		{have.Control, now.Control}, {have.Listeners, now.Listeners}, {have.VIPs, now.VIPs},
		{have.Services, now.Services}, {have.Backends, now.Backends}, {have.Slots, now.Slots},
		{have.Flows, now.Flows}, {have.Standby, now.Standby}, {have.Devices, now.Devices}, {have.Holds, now.Holds}, {have.Journal, now.Journal},
		{have.Listeners6, now.Listeners6}, {have.VIPs6, now.VIPs6}, {have.Flows6, now.Flows6}, {have.Standby6, now.Standby6},
	} {
		a, aerr := mapID(pair[0])
		b, berr := mapID(pair[1])
		if aerr != nil || berr != nil || a != b {
			return false
		}
	}
	return true
}

// mapID returns what names a map in the kernel, 0 for none.
func mapID(m *ebpf.Map) (ebpf.MapID, error) {
	if m == nil {
		return 0, nil
	}
	info, err := m.Info()
	if err != nil {
		return 0, err
	}
	id, _ := info.ID()
	return id, nil
}

// attachAnew takes over what is pinned now.
func (a *agent) attachAnew(ctx context.Context, why string) {
	if a.leaving {
		return
	}
	a.log.Warn("attaching anew", "reason", why)
	if err := a.attachKernel(ctx, a.roster, a.isDown); err != nil && ctx.Err() == nil {
		a.loseKernel(err.Error(), true)
	}
}

// unstick throws the switch again that a detach has left when it was killed.
// One that is at work holds the lock.
func (a *agent) unstick(ctx context.Context) {
	if a.leaving {
		return
	}
	short, cancel := context.WithTimeout(ctx, time.Millisecond)
	defer cancel()
	lock, err := loader.NewLock(short, a.opts.PinDir)
	if err != nil {
		return
	}
	if err := lock.Unlock(); err != nil {
		a.log.Warn("unlock", "err", err)
	}
	if _, err := os.Stat(a.kernel.Instance().Dir()); err != nil {
		return // it has just ended
	}
	a.attachAnew(ctx, "a detach was killed half-way")
}

// loseKernel switches XDP off everywhere: packets that only some interfaces
// translate are worse than a proxy. Without retry there is nothing left to
// attach to, and the service addresses are the agent's.
func (a *agent) loseKernel(reason string, retry bool) {
	a.log.Warn("xdp is off, the proxy serves", "reason", reason)
	a.noXDP = reason
	a.kernel.Instance().SetMode(loader.ModeOff)
	if retry {
		a.retryAt = time.Now().Add(retryAfter)
	} else if added, err := a.kernel.Added(); err != nil {
		a.log.Warn("take service addresses over", "err", err)
	} else if err := a.ownAddresses(added); err != nil {
		a.log.Warn("record service addresses", "err", err)
	}
	a.pulse.Store(nil)
	if err := errors.Join(a.standby.use(nil), a.holder.use(nil), a.kernel.Close()); err != nil {
		a.log.Warn("close kernel", "err", err)
	}
	a.kernel = nil
	if !retry {
		a.keepAddresses()
	}
}

// keepAddresses puts service addresses back that went with XDP, or with the link
// of an interface, and those on an interface that has come.
func (a *agent) keepAddresses() {
	var err error
	if a.kernel != nil {
		err = a.kernel.KeepAddresses(a.state)
	} else {
		err = a.setAddresses()
	}
	if a.news("addresses", err) {
		a.log.Warn("keep service addresses", "err", err)
	}
}

// tryAttach attaches again after XDP was lost.
func (a *agent) tryAttach(ctx context.Context) {
	if inst, err := loader.Open(a.opts.PinDir); err == nil {
		if _, _, err := a.followLinks(inst); err != nil {
			a.log.Warn("look at links", "err", err)
		}
		if err := inst.Close(); err != nil {
			a.log.Warn("close what was attached before", "err", err)
		}
	}
	if err := a.attachKernel(ctx, a.roster, a.isDown); err != nil {
		if ctx.Err() != nil {
			return
		}
		if a.noXDP != err.Error() {
			a.log.Warn("xdp cannot run again", "err", err)
		}
		a.noXDP = err.Error()
		a.retryAt = time.Now().Add(retryAfter)
		return
	}
	a.log.Info("xdp is on again")
}
