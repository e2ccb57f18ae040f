package kernel

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"fairlead/loader"
	"fairlead/userspace/datapath"
)

// drainStep is how often a drain looks at the flows that are left.
const drainStep = 200 * time.Millisecond

// Detach takes the interfaces out of the instance pinned in dir; with none
// named, or none left, it leaves nothing behind.
//
// With an agent alive it first drains for at most grace: new flows go to the
// agent's proxy while known ones end, and progress is called with how many are
// left. The service addresses are the agent's from then on. Without one there is
// nobody to take new flows, so nothing is waited for. A ctx that ends meanwhile
// calls the detach off. Errors wrap [loader.ErrNotAttached] and those of loader.NewLock.
func Detach(ctx context.Context, dir string, interfaces []string, grace time.Duration, progress func(flows int)) error {
	lock, err := loader.NewLock(ctx, dir)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	inst, err := loader.Open(dir)
	if errors.Is(err, loader.ErrVersion) {
		return lock.Detach(ctx, nil) // of another version: all or nothing
	}
	if errors.Is(err, loader.ErrNotAttached) {
		return lock.Detach(ctx, interfaces) // mends, or says so
	}
	if err != nil {
		return err
	}
	defer inst.Close()
	last, err := lastOnes(inst, interfaces)
	if err != nil {
		return err
	}
	if !last {
		return lock.Detach(ctx, interfaces)
	}
	_, _, agent, err := loader.AgentRunning(dir)
	if err != nil {
		return err
	}
	if !agent {
		return remove(ctx, lock, inst, func(netip.Addr) bool { return false })
	}
	if grace > 0 {
		if err := Drain(ctx, inst, grace, progress); err != nil {
			return err
		}
	}
	return handOver(ctx, lock, inst)
}

// lastOnes reports whether no live link is left without the interfaces.
func lastOnes(inst *loader.Instance, interfaces []string) (bool, error) {
	links, err := inst.Links()
	if err != nil {
		return false, err
	}
	for _, name := range interfaces {
		if !slices.ContainsFunc(links, func(l loader.LinkInfo) bool { return l.Interface == name }) {
			return false, fmt.Errorf("detach %s: %w", name, loader.ErrNotAttached)
		}
	}
	return len(interfaces) == 0 || !slices.ContainsFunc(links, func(l loader.LinkInfo) bool {
		return l.Index != 0 && !slices.Contains(interfaces, l.Interface)
	}), nil
}

// Drain leaves new flows to the proxy until the known ones have ended or grace
// is over. If ctx ends first, the instance goes on as before. One that is off
// forwards no flows, so there is nothing to wait for.
func Drain(ctx context.Context, inst *loader.Instance, grace time.Duration, progress func(flows int)) error {
	was := inst.Control().Mode()
	if was == loader.ModeOff {
		return nil
	}
	inst.SetMode(loader.ModeDraining)
	end := time.NewTimer(grace)
	defer end.Stop()
	step := time.NewTicker(drainStep)
	defer step.Stop()
	for {
		found, err := datapath.Collect(inst.Maps())
		if err != nil || ctx.Err() != nil {
			inst.SetMode(was)
			return errors.Join(err, context.Cause(ctx))
		}
		if progress != nil {
			progress(found.Live)
		}
		if found.Live == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
		case <-end.C:
			return nil
		case <-step.C:
		}
	}
}

// remove switches the instance off, undoes what it changed on the host, but for
// the addresses to keep, and removes it. Killed half-way it can be run again:
// the journal goes last.
func remove(ctx context.Context, lock *loader.Lock, inst *loader.Instance, keep func(netip.Addr) bool) error {
	inst.SetMode(loader.ModeOff)
	crash("switched off")
	j, err := inst.Maps().ReadJournal()
	if err == nil {
		j.Addresses = slices.DeleteFunc(j.Addresses, func(a loader.JournalAddress) bool { return keep(a.Prefix.Addr()) })
		err = undo(j)
	}
	crash("undone")
	// What cannot be undone is said, but does not keep the programs attached.
	return errors.Join(lock.Detach(context.WithoutCancel(ctx), nil), err)
}

// handOver is remove beside a living agent: it gets the service addresses, so
// that its proxy goes on. It looks for what it has inherited when it finds the
// instance gone, and once more after it has let go of its lock.
func handOver(ctx context.Context, lock *loader.Lock, inst *loader.Instance) error {
	j, err := inst.Maps().ReadJournal()
	if err != nil {
		return err
	}
	if err := remove(ctx, lock, inst, func(netip.Addr) bool { return true }); err != nil {
		return err
	}
	_, _, alive, err := loader.AgentRunning(inst.Dir())
	if err == nil && !alive {
		err = removeAddresses(j) // it ended meanwhile
	}
	return err
}
