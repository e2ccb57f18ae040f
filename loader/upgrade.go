package loader

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// retiredMark is a directory in the instance that is about to be replaced. In
// the next directory it tells an old instance, whose counters are still to be
// carried over, from a new one that was never finished.
const retiredMark = "retired"

// upgrade brings an instance up to date: in place if all of it fits already,
// else by putting a whole new directory together and exchanging the two.
func (l *Lock) upgrade(ctx context.Context, o Options, old *Instance, r *Report) (err error) {
	b, err := l.build(o, old)
	if err != nil {
		return err
	}
	defer b.close()
	current, err := b.current(old)
	if err != nil {
		return err
	}
	if current {
		r.Outcome = OutcomeUnchanged
		r.Interfaces, err = l.linkAll(ctx, l.dir, old.prog, o)
		return err
	}
	r.Outcome = OutcomeUpgraded
	if err := b.report(r); err != nil {
		return err
	}
	exchanged := false
	defer func() {
		if err != nil && !exchanged {
			err = errors.Join(err, l.discard())
		}
	}()
	if err := b.pin(o.Fill); err != nil {
		return err
	}
	if err := l.repin(); err != nil {
		return err
	}
	if r.Interfaces, err = l.linkAll(ctx, l.next(), b.prog, o); err != nil {
		return err
	}
	if err := give(l.next()); err != nil {
		return err
	}
	if err := l.exchange(); err != nil {
		return err
	}
	exchanged = true
	if err := l.finish(); err != nil {
		return errors.Join(err, l.revert())
	}
	return l.discard()
}

// current reports whether the old instance is what b would be: the same maps,
// and the same program on every link.
func (b *build) current(old *Instance) (bool, error) {
	if b.plan.fresh() || old.prog == nil || (b.prog6 == nil) != !old.hasIPv6() || (b.prog46 == nil) != (old.prog46 == nil) {
		return false, nil
	}
	same, err := b.samePrograms(old)
	if err != nil || !same {
		return false, err
	}
	links, err := loadLinks(b.lock.dir)
	if err != nil {
		return false, err
	}
	defer links.close()
	info, err := old.prog.Info()
	if err != nil {
		return false, err
	}
	id, _ := info.ID()
	for _, l := range links {
		if l.index != 0 && l.program != id {
			return false, nil
		}
	}
	return true, nil
}

// samePrograms reports whether the old instance has the same programs, or has
// lost one.
func (b *build) samePrograms(old *Instance) (bool, error) {
	same, err := b.sameProgram(b.prog, old.prog)
	if err != nil || !same || b.prog6 == nil {
		return same, err
	}
	if there, err := exists(filepath.Join(b.lock.dir, LBMapFamilies)); err != nil || !there || old.prog6 == nil {
		return false, err
	}
	if same, err = b.sameProgram(b.prog6, old.prog6); err != nil || !same || b.prog46 == nil {
		return same, err
	}
	return b.sameProgram(b.prog46, old.prog46)
}

// sameProgram reports whether two programs have the same instructions and use
// the same of the pinned maps. Each has maps of its own besides: for what it is
// about to write, and for constants, which say no more than that the pinned flow
// table has its size.
func (b *build) sameProgram(one, old *ebpf.Program) (bool, error) {
	pinned := map[ebpf.MapID]bool{}
	for _, p := range places {
		m := *p.field(b.maps)
		if m == nil {
			continue
		}
		info, err := m.Info()
		if err != nil {
			return false, err
		}
		id, _ := info.ID()
		pinned[id] = true
	}
	var tags [2]string
	var maps [2][]ebpf.MapID
	for i, prog := range []*ebpf.Program{one, old} {
		info, err := prog.Info()
		if err != nil {
			return false, err
		}
		ids, _ := info.MapIDs()
		tags[i] = info.Tag
		maps[i] = slices.DeleteFunc(ids, func(id ebpf.MapID) bool { return !pinned[id] })
		slices.Sort(maps[i])
	}
	return tags[0] == tags[1] && slices.Equal(maps[0], maps[1]), nil
}

// report says what b does to the maps of the old instance.
func (b *build) report(r *Report) error {
	for _, p := range places {
		fate, wanted := b.plan.fates[p.name]
		if !wanted && *p.field(b.old) != nil {
			fate = fateDrop // IPv6's, which nobody needs any more
		}
		switch fate {
		case fateCopy:
			if from, to := (*p.field(b.old)).MaxEntries(), b.plan.entries[p.name]; to > from {
				r.Grown = append(r.Grown, Growth{p.name, from, to})
			}
		case fateDrop:
			if p.name == LBMapFlows || p.name == LB6MapFlows6 {
				n, err := countFlows(*p.field(b.old))
				if err != nil {
					return err
				}
				r.FlowsDropped += (n + 1) / 2
			} else if p.name != mapJournal {
				r.Dropped = append(r.Dropped, p.name)
			}
		}
	}
	return nil
}

// repin pins the live links of the instance in the next directory too.
func (l *Lock) repin() error {
	links, err := loadLinks(l.dir)
	if err != nil {
		return err
	}
	defer links.close()
	for _, k := range links {
		if k.index == 0 {
			continue
		}
		if err := k.pinAgain(l.next()); err != nil {
			return err
		}
	}
	return l.step("pinned links")
}

// exchange lets the instance and the one in the next directory change places.
func (l *Lock) exchange() error {
	if err := os.Mkdir(filepath.Join(l.dir, retiredMark), 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	if err := l.step("marked retired"); err != nil {
		return errors.Join(err, os.Remove(filepath.Join(l.dir, retiredMark)))
	}
	return l.swapDirs()
}

func (l *Lock) swapDirs() error {
	if err := unix.Renameat2(unix.AT_FDCWD, l.next(), unix.AT_FDCWD, l.dir, unix.RENAME_EXCHANGE); err != nil {
		return fmt.Errorf("exchange %s and %s: %w", l.next(), l.dir, err)
	}
	return nil
}

// finish completes an upgrade whose directories have been exchanged: every
// link gets the new program, counters are carried over, connections counted
// again, the old directory is unmarked. All of it can be done again until then.
func (l *Lock) finish() error {
	if err := l.step("exchanged"); err != nil {
		return err
	}
	if err := l.updateLinks(l.dir); err != nil {
		return err
	}
	if err := WaitForPackets(); err != nil {
		return err
	}
	if err := l.step("updated all"); err != nil {
		return err
	}
	if err := carryCounters(l.dir, l.next(), false); err != nil {
		return err
	}
	if err := repairConnections(l.dir); err != nil {
		return err
	}
	if err := l.step("carried"); err != nil {
		return err
	}
	return os.Remove(filepath.Join(l.next(), retiredMark))
}

// revert undoes an exchange that could not be finished: the old directory, the
// old program and the old maps are in place again, with what was counted since.
func (l *Lock) revert() error {
	if err := l.swapDirs(); err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(l.dir, retiredMark)); err != nil {
		return err
	}
	if err := l.updateLinks(l.dir); err != nil {
		return err
	}
	if err := WaitForPackets(); err != nil {
		return err
	}
	if err := carryCounters(l.dir, l.next(), true); err != nil {
		return err
	}
	return l.discard()
}

// updateLinks gives every live link pinned in dir the program pinned there.
func (l *Lock) updateLinks(dir string) error {
	prog, err := ebpf.LoadPinnedProgram(filepath.Join(dir, programPin), nil)
	if err != nil {
		return err
	}
	defer prog.Close()
	links, err := loadLinks(dir)
	if err != nil {
		return err
	}
	defer links.close()
	for _, k := range links {
		if k.index == 0 {
			continue
		}
		if err := k.update(prog); err != nil {
			return err
		}
		if err := l.step("updated " + k.iface); err != nil {
			return err
		}
	}
	return nil
}

// update gives a link another program. No packet sees neither, unless the link
// refuses, as one does that was made with another attach type: then it is
// replaced by a new one.
func (l *pinnedLink) update(prog *ebpf.Program) error {
	err := l.Update(prog)
	if errors.Is(err, unix.ENOLINK) {
		return nil // its interface has just gone
	}
	if err == nil || !errors.Is(err, unix.EINVAL) {
		return wrap(err, "update "+l.iface)
	}
	flags := link.XDPDriverMode
	switch l.info().Mode {
	case AttachGeneric:
		flags = link.XDPGenericMode
	case AttachNative:
	default: // its interface is in another namespace
		return wrap(err, "update "+l.iface)
	}
	if err := l.remove(); err != nil {
		return err
	}
	made, err := attachXDP(prog, l.index, flags)
	if err != nil {
		return fmt.Errorf("attach %s anew: %w", l.iface, err)
	}
	defer made.Close()
	return wrap(made.Pin(l.pin), "pin link of "+l.iface)
}

func wrap(err error, what string) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}
