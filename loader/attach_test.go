package loader

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"fairlead/testenv"
)

func TestAttachThenDetachLeavesNothing(t *testing.T) {
	b := newBench(t)
	r := b.attach(Options{Interfaces: []string{"d0", "lo"}}, realProgram)
	want := Report{Outcome: OutcomeNew, Interfaces: []InterfaceReport{
		{Name: "d0", Mode: AttachNative},
		{Name: "lo", Mode: AttachGeneric, Reason: "the driver has no native XDP"},
	}}
	if diff := cmp.Diff(want, r); diff != "" {
		t.Errorf("report (-want +got):\n%s", diff)
	}
	b.wantLinks(map[string]AttachMode{"lo": AttachGeneric, "d0": AttachNative})
	b.wantWhole()
	st, err := os.Stat(b.dir)
	if err != nil {
		t.Fatal(err)
	}
	if got := st.Mode().Perm(); got != 0o700 {
		t.Errorf("mode of pin directory = %o, want 700", got)
	}
	b.detach()
	b.wantNothing()
	b.Do(t, func() error {
		if err := Detach(context.Background(), b.dir, nil); !errors.Is(err, ErrNotAttached) {
			t.Errorf("second Detach: %v, want ErrNotAttached", err)
		}
		return nil
	})
	b.wantNothing()
}

// A detach killed at its very end leaves the lock file of an agent that is gone.
func TestDetachOfNothingRemovesLockOfGoneAgent(t *testing.T) {
	b := newBench(t)
	b.attach(Options{Interfaces: []string{"d0"}}, realProgram)
	b.detach()
	// Other tests remove the directory of the locks when it is empty.
	file, err := tryLock(lockPath(b.dir, "agent"), unix.LOCK_EX)
	if err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	b.Do(t, func() error {
		if err := Detach(context.Background(), b.dir, nil); !errors.Is(err, ErrNotAttached) {
			t.Errorf("Detach: %v, want ErrNotAttached", err)
		}
		return nil
	})
	b.wantNothing()
}

func TestDetachSomeThenTheRest(t *testing.T) {
	b := newBench(t)
	b.attach(Options{Interfaces: []string{"d0", "d1", "lo"}}, nil)
	b.detach("d0")
	b.wantLinks(map[string]AttachMode{"d1": AttachNative, "lo": AttachGeneric})
	b.detach("d1", "lo")
	b.wantNothing()
}

func TestDetachOfLastLiveLinkRemovesAll(t *testing.T) {
	b := newBench(t)
	b.attach(Options{Interfaces: []string{"d0", "d1"}}, nil)
	b.Do(t, func() error {
		dev, err := netlink.LinkByName("d1")
		if err != nil {
			return err
		}
		return netlink.LinkDel(dev)
	})
	b.detach("d0")
	b.wantNothing()
}

func TestSameIndexInAnotherNamespaceIsAnotherInterface(t *testing.T) {
	b := newBench(t)
	other := newNeighbour(b)
	b.attach(Options{Interfaces: []string{"d0", "d1"}}, nil)
	// The neighbour's interfaces have the same indices and names.
	_, err := other.tryAttach(Options{Interfaces: []string{"d0"}}, nil)
	if err == nil || !strings.Contains(err.Error(), "had that name") {
		t.Errorf("Attach from another namespace: %v, want a refusal", err)
	}
	other.Do(t, func() error { return rename("d0", "x0") })
	r := other.attach(Options{Interfaces: []string{"x0"}}, otherProgram)
	if r.Interfaces[0].Already {
		t.Error("an interface of another namespace was taken for the one of the same index")
	}
	b.wantWhole()
	b.detach()
	b.wantNothing()
	other.wantNothing()
}

// newNeighbour returns a bench with a host of its own and b's pin directory.
func newNeighbour(b *bench) *bench {
	n := &bench{testenv.NewHost(b.t, "neighbour"), b.t, b.dir}
	n.Do(b.t, func() error { return addVeth("d0") })
	return n
}

func TestNativeModeRefusesGeneric(t *testing.T) {
	b := newBench(t)
	_, err := b.tryAttach(Options{Interfaces: []string{"d0", "lo"}, Mode: AttachNative}, nil)
	if !errors.Is(err, ErrMode) {
		t.Errorf("Attach in native mode: %v, want ErrMode", err)
	}
	b.wantNothing()
}

func TestGenericModeOnNativeDevice(t *testing.T) {
	b := newBench(t)
	b.attach(Options{Interfaces: []string{"d0"}, Mode: AttachGeneric}, nil)
	b.wantLinks(map[string]AttachMode{"d0": AttachGeneric})
	if _, err := b.tryAttach(Options{Interfaces: []string{"d0"}, Mode: AttachNative}, nil); !errors.Is(err, ErrMode) {
		t.Errorf("Attach in native mode over generic: %v, want ErrMode", err)
	}
	b.wantLinks(map[string]AttachMode{"d0": AttachGeneric})
}

func TestUnknownInterfaceChangesNothing(t *testing.T) {
	b := newBench(t)
	_, err := b.tryAttach(Options{Interfaces: []string{"d0", "none"}}, nil)
	if !errors.Is(err, ErrNoInterface) {
		t.Errorf("Attach: %v, want ErrNoInterface", err)
	}
	b.wantNothing()
}

func TestInterfaceWithDotInItsName(t *testing.T) {
	b := newBench(t)
	b.Do(t, func() error { return addVeth("d0.100") })
	b.attach(Options{Interfaces: []string{"d0.100"}}, nil)
	b.wantLinks(map[string]AttachMode{"d0.100": AttachNative})
	b.attach(Options{Interfaces: []string{"d0.100"}}, otherProgram)
	b.detach("d0.100")
	b.wantNothing()
}

func TestFillRunsBeforeAnyLink(t *testing.T) {
	b := newBench(t)
	calls := 0
	fill := func(m *Maps) error {
		calls++
		if m.ControlView().Mode() != ModeOff {
			t.Error("the switch is on before the maps are filled")
		}
		all, err := netlink.LinkList()
		for _, l := range all {
			if l.Attrs().Xdp != nil && l.Attrs().Xdp.Attached {
				t.Errorf("%s has a program before the maps are filled", l.Attrs().Name)
			}
		}
		return err
	}
	b.attach(Options{Interfaces: []string{"d0"}, Fill: fill}, nil)
	b.attach(Options{Interfaces: []string{"d0"}, Fill: fill}, nil)
	if calls != 1 {
		t.Errorf("Fill ran %d times, want once: nothing was new the second time", calls)
	}
}

func TestFailedFillUndoesNewInstance(t *testing.T) {
	b := newBench(t)
	fault := errors.New("fault")
	_, err := b.tryAttach(Options{Interfaces: []string{"d0"}, Fill: func(*Maps) error { return fault }}, nil)
	if !errors.Is(err, fault) {
		t.Errorf("Attach: %v, want the error of Fill", err)
	}
	b.wantNothing()
}

func TestFailureAtAnyStepUndoesNewInstance(t *testing.T) {
	b := newBench(t)
	for _, step := range []string{"made directory", "pinned maps", "pinned program", "linked d0", "linked d1"} {
		_, err := b.tryAttach(Options{Interfaces: []string{"d0", "d1"}}, failAt(step))
		if !errors.Is(err, errInjected) {
			t.Errorf("%s: %v, want the injected error", step, err)
		}
		b.wantNothing()
	}
}

var errInjected = errors.New("injected")

// failAt makes a Lock fail once, after the step of a name.
func failAt(name string) func(*Lock) {
	return func(l *Lock) {
		done := false
		l.step = func(step string) error {
			if step != name || done {
				return nil
			}
			done = true
			return errInjected
		}
	}
}

func TestAttachInterfaceLater(t *testing.T) {
	b := newBench(t)
	b.attach(Options{Interfaces: []string{"d0"}}, nil)
	i := b.open()
	ctx := context.Background()
	b.Do(t, func() error {
		r, err := i.AttachInterface(ctx, "lo", AttachAuto, false)
		if diff := cmp.Diff(InterfaceReport{Name: "lo", Mode: AttachGeneric, Reason: "the driver has no native XDP"}, r); diff != "" {
			t.Errorf("report (-want +got):\n%s", diff)
		}
		return err
	})
	b.wantLinks(map[string]AttachMode{"d0": AttachNative, "lo": AttachGeneric})
	b.Do(t, func() error { return i.DetachInterface(ctx, "d0") })
	b.Do(t, func() error {
		if err := i.DetachInterface(ctx, "d0"); !errors.Is(err, ErrNotAttached) {
			t.Errorf("second DetachInterface: %v, want ErrNotAttached", err)
		}
		return i.DetachInterface(ctx, "lo")
	})
	b.wantLinks(map[string]AttachMode{})
	b.wantWhole()
}

func TestDeletedInterfaceComesBack(t *testing.T) {
	b := newBench(t)
	b.attach(Options{Interfaces: []string{"d0", "d1", "d2"}}, nil)
	for _, name := range []string{"d0", "d1", "d2"} {
		b.Do(t, func() error {
			l, err := netlink.LinkByName(name)
			if err != nil {
				return err
			}
			return netlink.LinkDel(l)
		})
	}
	b.wantLinks(map[string]AttachMode{"d0": "gone", "d1": "gone", "d2": "gone"})
	b.Do(t, func() error { return addVeth("d0") })
	b.Do(t, func() error { return addVeth("d1") })
	b.Do(t, func() error {
		_, err := b.open().AttachInterface(context.Background(), "d0", AttachAuto, false)
		return err
	})
	b.wantLinks(map[string]AttachMode{"d0": AttachNative, "d1": "gone", "d2": "gone"})
	b.attach(Options{Interfaces: []string{"d0", "d1"}}, nil)
	b.wantLinks(map[string]AttachMode{"d0": AttachNative, "d1": AttachNative, "d2": "gone"})
	b.attach(Options{Interfaces: []string{"d0", "d1"}}, otherProgram)
	b.wantLinks(map[string]AttachMode{"d0": AttachNative, "d1": AttachNative})
	b.detach()
	b.wantNothing()
}

func TestRenamedInterface(t *testing.T) {
	b := newBench(t)
	b.attach(Options{Interfaces: []string{"d0"}}, nil)
	b.Do(t, func() error { return rename("d0", "e0") })
	b.Do(t, func() error { return rename("d1", "d0") })
	b.wantLinks(map[string]AttachMode{"e0": AttachNative})
	if r := b.attach(Options{Interfaces: []string{"e0"}}, nil); !r.Interfaces[0].Already {
		t.Error("a renamed interface was attached anew")
	}
	_, err := b.tryAttach(Options{Interfaces: []string{"d0"}}, nil)
	if err == nil || !strings.Contains(err.Error(), "e0 had that name") {
		t.Errorf("Attach of the new d0: %v, want an error that names e0", err)
	}
	b.detach("e0")
	b.wantNothing()
}

func rename(from, to string) error {
	l, err := netlink.LinkByName(from)
	if err != nil {
		return err
	}
	return errors.Join(netlink.LinkSetDown(l), netlink.LinkSetName(l, to), netlink.LinkSetUp(l))
}

func TestEveryMapOfTheObjectHasItsPlace(t *testing.T) {
	for _, load := range []func() (*ebpf.CollectionSpec, error){LoadLB, LoadLB6} {
		spec, err := load()
		if err != nil {
			t.Fatal(err)
		}
		// What every program has for itself: no other one needs to find it.
		for _, name := range []string{".rodata", ".bss", LBMapDrafts, LBMapFamilies} {
			delete(spec.Maps, name)
		}
		for name := range spec.Maps {
			if !slices.ContainsFunc(places, func(p place) bool { return p.name == name }) {
				t.Errorf("map %s has no place: it could not be pinned", name)
			}
		}
		for _, name := range []string{LBVarFlowShift, LBVarDryRun, LBVarTold, LBVarScratch} {
			delete(spec.Variables, name)
		}
		if len(spec.Variables) != 0 {
			t.Errorf("the object has the global variables %v, which upgrades do not compare", spec.Variables)
		}
	}
}
