package loader

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/google/go-cmp/cmp"
)

// beforeFlowTable makes a Lock load an object as it was when flows were in a
// hash of the kernel's.
func beforeFlowTable(l *Lock) {
	l.spec = func() (*ebpf.CollectionSpec, error) {
		spec, err := passObject()
		if err != nil {
			return nil, err
		}
		spec.Maps[LBMapFlows] = &ebpf.MapSpec{Name: LBMapFlows, Type: ebpf.LRUHash, KeySize: 16, ValueSize: 80, MaxEntries: 64}
		control := spec.Maps[LBMapControl]
		control.ValueSize -= 40
		control.Key, control.Value = nil, nil
		return spec, nil
	}
}

// pinOther pins a map in the instance's directory, in place of what is there.
func (b *bench) pinOther(spec *ebpf.MapSpec) {
	b.t.Helper()
	pin := filepath.Join(b.dir, spec.Name)
	if err := os.Remove(pin); err != nil && !errors.Is(err, os.ErrNotExist) {
		b.t.Fatal(err)
	}
	m, err := ebpf.NewMap(spec)
	if err == nil {
		err = errors.Join(m.Pin(pin), m.Close())
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

// TestUpgradeFromBeforeTheFlowTable upgrades what versions pinned whose kernel
// counted for services too.
func TestUpgradeFromBeforeTheFlowTable(t *testing.T) {
	b := newBench(t)
	if _, err := b.tryAttach(two, beforeFlowTable); err != nil {
		t.Fatal(err)
	}
	const gone = "service_counters"
	b.pinOther(&ebpf.MapSpec{Name: gone, Type: ebpf.PerCPUArray, KeySize: 4, ValueSize: 40, MaxEntries: 16})
	b.pinOther(&ebpf.MapSpec{Name: mapServiceBase, Type: ebpf.Array, KeySize: 4, ValueSize: 40, MaxEntries: 16})
	if err := os.Remove(filepath.Join(b.dir, LBMapEvictions)); err != nil {
		t.Fatal(err)
	}
	flows, err := ebpf.LoadPinnedMap(filepath.Join(b.dir, LBMapFlows), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer flows.Close()
	for k := range uint32(4) {
		if err := flows.Put(FlowKey{Saddr: k}, make([]byte, 80)); err != nil {
			t.Fatal(err)
		}
	}
	o := two
	o.Sizes.Flows = 1000
	r := b.attach(o, realProgram)
	want := Report{
		Outcome: OutcomeUpgraded, Dropped: []string{LBMapControl, LBMapBackendCounters, mapServiceBase, mapBackendBase}, FlowsDropped: 2,
		Interfaces: []InterfaceReport{{Name: "d0", Mode: AttachNative, Already: true}, {Name: "d1", Mode: AttachNative, Already: true}},
	}
	if diff := cmp.Diff(want, r); diff != "" {
		t.Errorf("report (-want +got):\n%s", diff)
	}
	if _, err := os.Stat(filepath.Join(b.dir, gone)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is left (%v)", gone, err)
	}
	b.wantWhole()
	hashes(t, b.open().Maps())
	if got := b.open().Maps().Flows.MaxEntries(); got != 512 {
		t.Errorf("%d buckets for 1000 flows, want 512", got)
	}
	if r := b.attach(two, realProgram); r.Outcome != OutcomeUnchanged {
		t.Errorf("afterwards: %+v, want unchanged", r)
	}
	b.detach()
	b.wantNothing()
}

// TestProgramKnowsItsFlowTable attaches what is shipped, whose constants every
// load has anew.
func TestProgramKnowsItsFlowTable(t *testing.T) {
	b := newBench(t)
	b.attach(two, realProgram)
	if got := b.flowShift(); got != 64-8 {
		t.Errorf("flow_shift = %d for a table of 256 buckets, want 56", got)
	}
	resized := Options{ResizeFlows: true, Sizes: Sizes{Flows: 1000}}
	if r := b.attach(resized, realProgram); r.Outcome != OutcomeUpgraded {
		t.Errorf("resized: %+v, want upgraded", r)
	}
	for _, o := range []Options{two, resized} {
		if r := b.attach(o, realProgram); r.Outcome != OutcomeUnchanged {
			t.Errorf("the same again: %+v, want unchanged", r)
		}
	}
	o := two
	o.Sizes.Services = 100
	b.attach(o, realProgram)
	if got := b.flowShift(); got != 64-9 {
		t.Errorf("flow_shift = %d for the table of 512 buckets that was kept, want 55", got)
	}
}

// flowShift returns what the program has for the size of the flow table.
func (b *bench) flowShift() uint32 {
	b.t.Helper()
	i := b.openOnce()
	defer i.Close()
	info, err := i.Program().Info()
	if err != nil {
		b.t.Fatal(err)
	}
	ids, _ := info.MapIDs()
	for _, id := range ids {
		m, err := ebpf.NewMapFromID(id)
		if err != nil {
			b.t.Fatal(err)
		}
		defer m.Close()
		info, err := m.Info()
		if err != nil {
			b.t.Fatal(err)
		}
		if info.Name != ".rodata" {
			continue
		}
		value, err := m.LookupBytes(uint32(0))
		if err != nil || len(value) != 5 || value[4] != 0 {
			b.t.Fatalf("constants = %x, %v, want flow_shift and dry_run, which is false", value, err)
		}
		return binary.NativeEndian.Uint32(value)
	}
	b.t.Fatal("the program has no constants")
	return 0
}
