package kernel

import (
	"context"
	"errors"
	"net/netip"
	"slices"

	"fairlead/loader"
	"fairlead/userspace/datapath"
	"fairlead/userspace/model"
)

// Health returns what the instance pinned in dir knows of the health of each
// backend of each service of state, by index; nil if there is no instance, or
// one that never had an agent to find out.
func Health(dir string, state *model.State) ([][]datapath.Health, error) {
	inst, err := loader.Open(dir)
	if errors.Is(err, loader.ErrNotAttached) || errors.Is(err, loader.ErrVersion) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer inst.Close()
	if _, ok := inst.Control().SinceBeat(); !ok {
		return nil, nil
	}
	w, err := datapath.New(inst.Maps())
	if err != nil {
		return nil, err
	}
	return w.Health(state), nil
}

// Backends returns what the instance pinned in dir has as backends of a service;
// nil if there is no instance.
func Backends(dir string) (func(*model.Service) []netip.AddrPort, error) {
	w, err := pinned(dir)
	if w == nil || err != nil {
		return nil, err
	}
	return w.Backends(), nil
}

// AddConnections adds to flows how many connections the backends of each service
// of state, which is that of the last [Kernel.Reconcile], have in the kernel.
func (k *Kernel) AddConnections(state *model.State, flows [][]int) error {
	return k.writer.AddConnections(state, flows)
}

// Troubles returns what the kernel has counted of the backends of each service of
// state, which is that of the last [Kernel.Reconcile], by their indexes.
func (k *Kernel) Troubles(state *model.State) ([][]datapath.Troubles, error) {
	return k.writer.Troubles(state)
}

// Stuck returns why rows that were freed are not used again, nil if they are.
func (k *Kernel) Stuck() error { return k.writer.Stuck() }

// SwitchOff lets every packet pass what is pinned in dir, for a caller who
// cannot keep it true. There may be nothing.
func SwitchOff(dir string) error {
	inst, err := loader.Open(dir)
	if errors.Is(err, loader.ErrNotAttached) {
		return nil
	}
	if err != nil {
		return err
	}
	inst.SetMode(loader.ModeOff)
	return inst.Close()
}

// SwitchOn lets what is pinned in dir forward as it did before [SwitchOff], for
// a caller who serves no more. It reports whether it did: not if one of the
// interfaces is not attached. A command that is at work is not disturbed.
func SwitchOn(ctx context.Context, dir string, interfaces []string) (bool, error) {
	lock, err := loader.NewLock(ctx, dir)
	if err != nil {
		return false, err
	}
	defer lock.Unlock()
	inst, err := loader.Open(dir)
	if errors.Is(err, loader.ErrNotAttached) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer inst.Close()
	links, err := inst.Links()
	if err != nil {
		return false, err
	}
	for _, name := range interfaces {
		if !slices.ContainsFunc(links, func(l loader.LinkInfo) bool { return l.Interface == name && l.Index != 0 }) {
			return false, nil
		}
	}
	if err := datapath.ClearStandby(inst.Maps(), nil); err != nil {
		return false, err
	}
	inst.SetMode(loader.ModeOn)
	return true, nil
}

// SetHealth makes the maps hold what is known now of some services, by their
// index in the state of the last [Kernel.Reconcile]: which of their backends are
// down, and their shares. Everything else in the maps stays.
func (k *Kernel) SetHealth(services []int, down func(*model.Service) []bool) error {
	for _, i := range services {
		s := &k.want.Services[i]
		s.Down, s.Shares = down(&s.Service), k.opts.shares(&s.Service)
	}
	_, err := k.writer.Reconcile(k.want)
	return err
}
