package loader

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/vishvananda/netlink"

	"fairlead/testenv"
)

// ignoreLayout lets cmp compare what the bindings have.
var ignoreLayout = cmpopts.IgnoreUnexported(Control{}, Counters{}, Flow{}, FlowKey{}, Hop{}, Stamp{}, LBBucket{}, Flow6{}, FlowKey6{}, Entry{}, Address{})

// A bench is a host with interfaces, and a pin directory to be.
type bench struct {
	*testenv.Host
	t   *testing.T
	dir string
}

// newBench returns a host with the veths d0 to d2, whose far ends are d0-far
// to d2-far. They have native XDP; lo, which has not, is up.
func newBench(t *testing.T) *bench {
	t.Helper()
	t.Parallel() // most of the time is the kernel's, in grace periods
	b := &bench{testenv.NewHost(t, "loader"), t, filepath.Join(testenv.BPFFS(t), "lb")}
	b.Do(t, func() error {
		for _, name := range []string{"d0", "d1", "d2"} {
			if err := addVeth(name); err != nil {
				return err
			}
		}
		return nil
	})
	// What outlives the test's mount and namespace.
	t.Cleanup(func() {
		_ = os.Remove(lockPath(b.dir, "lock"))
		_ = os.Remove(lockPath(b.dir, "agent"))
		_ = os.Remove(RunDir)
	})
	return b
}

// addVeth adds a veth to the calling thread's host.
func addVeth(name string) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: name + "-far"}
	if err := netlink.LinkAdd(veth); err != nil {
		return err
	}
	far, err := netlink.LinkByName(name + "-far")
	if err != nil {
		return err
	}
	return errors.Join(netlink.LinkSetUp(veth), netlink.LinkSetUp(far))
}

// lock takes the lock, which the caller releases.
func (b *bench) lock() *Lock {
	b.t.Helper()
	l, err := NewLock(context.Background(), b.dir)
	if err != nil {
		b.t.Fatal(err)
	}
	return l
}

// tryAttach runs Attach on the host, with a program that is quick to verify;
// edit, if not nil, may change the Lock first.
func (b *bench) tryAttach(o Options, edit func(*Lock)) (r Report, err error) {
	b.t.Helper()
	l := b.lock()
	defer func() { err = errors.Join(err, l.Unlock()) }()
	l.spec, l.spec6 = passObject, passObject6
	if edit != nil {
		edit(l)
	}
	err = b.In(func() error {
		i, report, err := l.Attach(context.Background(), o)
		r = report
		if err != nil {
			return err
		}
		return i.Close()
	})
	return r, err
}

func (b *bench) attach(o Options, edit func(*Lock)) Report {
	b.t.Helper()
	r, err := b.tryAttach(o, edit)
	if err != nil {
		b.t.Fatal(err)
	}
	return r
}

func (b *bench) detach(interfaces ...string) {
	b.t.Helper()
	b.Do(b.t, func() error { return Detach(context.Background(), b.dir, interfaces) })
}

func (b *bench) open() *Instance {
	b.t.Helper()
	i, err := Open(b.dir)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = i.Close() })
	return i
}

// links returns the mode of each link by interface; defunct ones have "gone".
func (b *bench) links() map[string]AttachMode {
	b.t.Helper()
	got := map[string]AttachMode{}
	b.Do(b.t, func() error {
		links, err := b.open().Links()
		for _, l := range links {
			got[l.Interface] = l.Mode
			if l.Index == 0 {
				got[l.Interface] = "gone"
			}
		}
		return err
	})
	return got
}

func (b *bench) wantLinks(want map[string]AttachMode) {
	b.t.Helper()
	if diff := cmp.Diff(want, b.links()); diff != "" {
		b.t.Errorf("links (-want +got):\n%s", diff)
	}
}

// wantNothing checks that no trace of an instance is left.
func (b *bench) wantNothing() {
	b.t.Helper()
	for _, path := range []string{b.dir, b.dir + "-next", lockPath(b.dir, "lock"), lockPath(b.dir, "agent")} {
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			b.t.Errorf("%s is left (%v)", path, err)
		}
	}
	b.Do(b.t, func() error {
		all, err := netlink.LinkList()
		for _, l := range all {
			if xdp := l.Attrs().Xdp; xdp != nil && xdp.Attached {
				b.t.Errorf("program %d is left on %s", xdp.ProgId, l.Attrs().Name)
			}
		}
		return err
	})
}

// wantWhole checks that the instance is complete, is on, has nothing beside it,
// and that every link runs its program.
func (b *bench) wantWhole() {
	b.t.Helper()
	for _, path := range []string{b.dir + "-next", filepath.Join(b.dir, retiredMark)} {
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			b.t.Errorf("%s is left (%v)", path, err)
		}
	}
	i := b.open()
	if got := i.Control().Mode(); got != ModeOn {
		b.t.Errorf("mode = %v, want on", got)
	}
	info, err := i.Program().Info()
	if err != nil {
		b.t.Fatal(err)
	}
	id, _ := info.ID()
	links, err := i.Links()
	if err != nil {
		b.t.Fatal(err)
	}
	for _, l := range links {
		if l.Program != id {
			b.t.Errorf("%s runs program %d, want %d", l.Interface, l.Program, id)
		}
	}
}

// withProgram returns the object with other instructions in its program.
func withProgram(ins ...asm.Instruction) (*ebpf.CollectionSpec, error) {
	spec, err := LoadLB()
	if err != nil {
		return nil, err
	}
	replaceProgram(spec, LBProgFairleadBoth, ins...)
	replaceProgram(spec, LBProgFairleadMixed, ins...)
	return replaceProgram(spec, LBProgFairlead, ins...), nil
}

func replaceProgram(spec *ebpf.CollectionSpec, name string, ins ...asm.Instruction) *ebpf.CollectionSpec {
	prog := spec.Programs[name]
	ins = slices.Clone(ins)
	ins[0].Metadata = prog.Instructions[0].Metadata
	prog.Instructions = ins
	return spec
}

// passObject is the object with a program that passes everything. An emulated
// machine takes seconds to verify the real one.
func passObject() (*ebpf.CollectionSpec, error) {
	return withProgram(asm.Mov.Imm(asm.R0, 2), asm.Return())
}

// passObject6 is the same of IPv6.
func passObject6() (*ebpf.CollectionSpec, error) {
	spec, err := LoadLB6()
	if err != nil {
		return nil, err
	}
	return replaceProgram(spec, LB6ProgFairlead6, asm.Mov.Imm(asm.R0, 2), asm.Return()), nil
}

// otherProgram makes a Lock load a program with another tag that does the same.
func otherProgram(l *Lock) {
	l.spec = func() (*ebpf.CollectionSpec, error) {
		return withProgram(asm.Mov.Imm(asm.R1, 1), asm.Mov.Imm(asm.R0, 2), asm.Return())
	}
}

// realProgram makes a Lock load what is shipped.
func realProgram(l *Lock) { l.spec, l.spec6 = LoadLB, LoadLB6 }

// otherSchema makes a Lock load an object in which values of a map are larger.
func otherSchema(name string) func(*Lock) {
	return func(l *Lock) {
		otherProgram(l)
		other := l.spec
		l.spec = func() (*ebpf.CollectionSpec, error) {
			spec, err := other()
			if err != nil {
				return nil, err
			}
			spec.Maps[name].ValueSize += 8
			spec.Maps[name].Key, spec.Maps[name].Value = nil, nil
			return spec, nil
		}
	}
}

// setCounter lets the backend of a row, and the service of the same row whose
// only one it is, have counted n packets.
func (b *bench) setCounter(row uint32, n uint64) {
	b.t.Helper()
	m := b.open().Maps()
	if err := errors.Join(
		m.Services.Put(row, Service{Gen: 1}),
		m.Backends.Put(row, Backend{Gen: 1, Service: row}),
		m.BackendCounters.Put(row, counted(n)),
	); err != nil {
		b.t.Fatal(err)
	}
}

// counted returns a value of backend_counters: n packets, on the first CPU.
func counted(n uint64) []Counters {
	each := make([]Counters, ebpf.MustPossibleCPU())
	each[0].Packets[LBFlowDirDIR_FORWARD] = n
	return each
}

// wantCounter wants the service of a row, and the backend of the same row, to
// have counted n packets.
func (b *bench) wantCounter(row uint32, want uint64) {
	b.t.Helper()
	for _, t := range []Table{TableServices, TableBackends} {
		sums, err := b.open().Maps().ReadCounters(t)
		if err != nil {
			b.t.Fatal(err)
		}
		if got := sums[row].Packets[LBFlowDirDIR_FORWARD]; got != want {
			b.t.Errorf("%s %d counts %d packets, want %d", t, row, got, want)
		}
	}
}
