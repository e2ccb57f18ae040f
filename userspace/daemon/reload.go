package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"fairlead/userspace/config"
	"fairlead/userspace/kernel"
	"fairlead/userspace/model"
)

// errRestart says that a change of the configuration needs a new process.
var errRestart = errors.New("xdp: off and on are chosen at the start: restart the agent")

// reload puts the configuration's file in force. A bad one changes nothing.
func (a *agent) reload(ctx context.Context) {
	state, err := config.Load(a.opts.Config)
	if err == nil {
		err = a.replace(ctx, &state)
	}
	if err != nil {
		a.configError = err.Error()
		a.log.Error("configuration not taken, the old one stays", "config", a.opts.Config, "err", err)
		return
	}
	a.configError = ""
	a.log.Info("configuration taken", "config", a.opts.Config, "services", len(state.Services))
}

// replace puts another state in force. An error changes nothing.
func (a *agent) replace(ctx context.Context, state *model.State) error {
	if (a.mode(state) == model.XDPOff) != (a.mode(a.state) == model.XDPOff) {
		return errRestart
	}
	before := targets(a.state)
	a.checker.Set(append(targets(state), before...), nil) // health first, so that nothing counts as up unseen
	old := a.state
	if err := a.replaceKernel(ctx, state); err != nil {
		a.checker.Set(before, nil)
		return err
	}
	a.state = state
	a.checker.Set(targets(state), nil)
	if a.lock != nil {
		if err := a.lock.SetDigest(kernel.Digest(state)); err != nil {
			a.log.Warn("sign lock", "err", err)
		}
	}
	if a.kernel == nil {
		if err := a.addAddresses(); err != nil {
			a.log.Warn("add addresses", "err", err)
		}
	}
	a.replaceFronts(ctx, old)
	a.reconcile()
	return nil
}

// replaceKernel gives the kernel another state.
func (a *agent) replaceKernel(ctx context.Context, state *model.State) error {
	if a.mode(state) == model.XDPOff {
		return nil
	}
	gone := a.interfaces(a.state)
	if err := a.attachKernel(ctx, state); err != nil {
		return err
	}
	for _, name := range gone {
		if slices.Contains(a.interfaces(state), name) || !slices.Contains(a.kernel.Interfaces(), name) {
			continue
		}
		if err := a.kernel.Instance().DetachInterface(ctx, name); err != nil {
			return fmt.Errorf("take interface out: %w", err)
		}
	}
	return nil
}

// replaceFronts ends the proxies of services that are no more, and of those
// that could not listen, and opens what is missing.
func (a *agent) replaceFronts(ctx context.Context, old *model.State) {
	wanted := map[model.Key]bool{}
	for i := range a.state.Services {
		s := &a.state.Services[i]
		wanted[s.Key()] = true
		if f := a.fronts[s.Key()]; f != nil && f.missing == "" {
			f.update(s, a.down(s))
		}
	}
	retimed := old.Timeouts.WithDefaults().UDPEstablished != a.state.Timeouts.WithDefaults().UDPEstablished
	for key, f := range a.fronts {
		if wanted[key] && f.missing == "" && (f.udp == nil || !retimed) {
			continue
		}
		f.remove()
		f.running.Wait()
		delete(a.fronts, key)
	}
	a.openFronts(ctx)
}
