package loader

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// twoOfBoth is an instance with IPv6.
func twoOfBoth() Options {
	o := two
	o.Sizes.Flows6 = 1000
	return o
}

// otherProgram6 makes a Lock load another program for IPv6.
func otherProgram6(l *Lock) {
	l.spec6 = func() (*ebpf.CollectionSpec, error) {
		spec, err := LoadLB6()
		if err != nil {
			return nil, err
		}
		return replaceProgram(spec, LB6ProgFairlead6, asm.Mov.Imm(asm.R1, 1), asm.Mov.Imm(asm.R0, 2), asm.Return()), nil
	}
}

// programID returns the kernel's id of a program.
func (b *bench) programID(p *ebpf.Program) ebpf.ProgramID {
	b.t.Helper()
	info, err := p.Info()
	if err != nil {
		b.t.Fatal(err)
	}
	id, _ := info.ID()
	return id
}

// wantIPv6 checks that the program attached hands over to that of IPv6, or that
// there is no trace of IPv6. It returns that program's id.
func (b *bench) wantIPv6(want bool) (id ebpf.ProgramID) {
	b.t.Helper()
	i := b.open()
	if (i.maps.Flows6 != nil) != want || (i.prog6 != nil) != want {
		b.t.Fatalf("maps %v, program %v of IPv6, want %t", i.maps.Flows6, i.prog6, want)
	}
	families, err := ebpf.LoadPinnedMap(filepath.Join(b.dir, LBMapFamilies), nil)
	if !want {
		if !errors.Is(err, fs.ErrNotExist) {
			b.t.Errorf("families is pinned, %v", err)
		}
		return 0
	}
	if err != nil {
		b.t.Fatal(err)
	}
	defer families.Close()
	var there ebpf.ProgramID
	if err := families.Lookup(uint32(0), &there); err != nil || there != b.programID(i.prog6) {
		b.t.Errorf("families has program %d, %v, want %d", there, err, b.programID(i.prog6))
	}
	return there
}

func TestIPv6ComesAndGoes(t *testing.T) {
	b := newBench(t)
	b.attach(two, nil)
	b.setCounter(3, 7)
	b.wantIPv6(false)
	if r := b.attach(twoOfBoth(), nil); r.Outcome != OutcomeUpgraded || r.Dropped != nil {
		t.Errorf("with IPv6: %+v, want upgraded", r)
	}
	b.wantWhole()
	b.wantCounter(3, 7)
	b.wantIPv6(true)
	if got := b.open().Maps().FlowRoom6(); got < 1000 {
		t.Errorf("room for %d flows, want 1000", got)
	}
	if r := b.attach(twoOfBoth(), nil); r.Outcome != OutcomeUnchanged {
		t.Errorf("the same again: %+v, want unchanged", r)
	}
	var bucket LB6Bucket
	bucket.Stamps[3].Era = 1
	flows := b.open().Maps().Flows6
	for i := range uint32(10) {
		if err := flows.Put(i, bucket); err != nil {
			t.Fatal(err)
		}
	}
	r := b.attach(two, nil)
	want := []string{LB6MapListeners6, LB6MapVips6, LB6MapStandby6, LB6MapClients6, LB6MapSources6, LB6MapAffinity6}
	if r.Outcome != OutcomeUpgraded || !slices.Equal(r.Dropped, want) || r.FlowsDropped != 5 {
		t.Errorf("without IPv6: %+v, want upgraded, 5 flows and %q dropped", r, want)
	}
	b.wantWhole()
	b.wantCounter(3, 7)
	b.wantIPv6(false)
	b.detach()
	b.wantNothing()
}

// TestProgramBetweenFamiliesComesAndGoes does the same for fairlead46, without
// which packets of IPv4 are nobody else's.
func TestProgramBetweenFamiliesComesAndGoes(t *testing.T) {
	b := newBench(t)
	const drop, pass = 1, 2
	real := func(l *Lock) { l.spec = LoadLB } // and between families, but not fairlead6
	dropping := func(l *Lock) {
		real(l)
		l.spec46 = func() (*ebpf.CollectionSpec, error) {
			spec, err := LoadLB46()
			if err != nil {
				return nil, err
			}
			return replaceProgram(spec, LB46ProgFairlead46, asm.Mov.Imm(asm.R0, drop), asm.Return()), nil
		}
	}
	frame := append([]byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x08, 0, 0x45}, make([]byte, 64)...)
	mixed := twoOfBoth()
	mixed.Sizes.Mixed = true
	for _, step := range []struct {
		options Options
		edit    func(*Lock)
		outcome Outcome
		action  uint32
	}{
		{twoOfBoth(), dropping, OutcomeNew, pass},
		{mixed, dropping, OutcomeUpgraded, drop},
		{mixed, dropping, OutcomeUnchanged, drop},
		{mixed, real, OutcomeUpgraded, pass},
		{mixed, dropping, OutcomeUpgraded, drop},
		{twoOfBoth(), dropping, OutcomeUpgraded, pass},
	} {
		if r := b.attach(step.options, step.edit); r.Outcome != step.outcome || r.Dropped != nil {
			t.Errorf("report = %+v, want %s", r, step.outcome)
		}
		b.wantIPv6(true)
		i := b.openOnce()
		i.SetMode(ModeOn)
		if got, err := i.Program().Run(&ebpf.RunOptions{Data: frame}); err != nil || got != step.action {
			t.Errorf("action %d, %v, want %d", got, err, step.action)
		}
		if err := i.Close(); err != nil {
			t.Error(err)
		}
	}
	b.detach()
	b.wantNothing()
}

func TestProgramsOfBothFamiliesChangeTogether(t *testing.T) {
	b := newBench(t)
	b.attach(twoOfBoth(), nil)
	before, maps := b.wantIPv6(true), b.mapIDs()
	for _, edit := range []func(*Lock){otherProgram6, otherProgram, nil} {
		if r := b.attach(twoOfBoth(), edit); r.Outcome != OutcomeUpgraded || r.Grown != nil || r.Dropped != nil {
			t.Errorf("report = %+v, want upgraded without any new map", r)
		}
		b.wantWhole()
		after := b.wantIPv6(true)
		if after == before {
			t.Errorf("IPv6 still has program %d", after)
		}
		before = after
	}
	for name, id := range b.mapIDs() {
		if maps[name] != id {
			t.Errorf("map %s is another one", name)
		}
	}
	b.detach()
	b.wantNothing()
}

func TestIPv6ThatLostItsPinsIsMadeAnew(t *testing.T) {
	b := newBench(t)
	b.attach(twoOfBoth(), nil)
	for _, name := range []string{program6Pin, LBMapFamilies, LB6MapFlows6} {
		if err := os.Remove(filepath.Join(b.dir, name)); err != nil {
			t.Fatal(err)
		}
		if i, err := Open(b.dir); name != LBMapFamilies && !errors.Is(err, ErrVersion) {
			t.Errorf("without %s: %v, %v, want ErrVersion", name, i, err)
		}
		if r := b.attach(twoOfBoth(), nil); r.Outcome != OutcomeUpgraded {
			t.Errorf("without %s: %+v, want upgraded", name, r)
		}
		b.wantIPv6(true)
	}
}

// TestIPv6IsHandedOver runs what is attached after those who attached it are gone.
func TestIPv6IsHandedOver(t *testing.T) {
	b := newBench(t)
	const drop, pass = 1, 2
	dropping := func(l *Lock) {
		realProgram(l)
		l.spec6 = func() (*ebpf.CollectionSpec, error) {
			spec, err := LoadLB6()
			if err != nil {
				return nil, err
			}
			return replaceProgram(spec, LB6ProgFairlead6, asm.Mov.Imm(asm.R0, drop), asm.Return()), nil
		}
	}
	frame := append([]byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x86, 0xdd, 0x60}, make([]byte, 64)...)
	runs := func(want uint32) {
		t.Helper()
		i := b.openOnce()
		defer i.Close()
		if got, err := i.Program().Run(&ebpf.RunOptions{Data: frame}); err != nil || got != want {
			t.Errorf("action %d, %v, want %d", got, err, want)
		}
	}
	b.attach(twoOfBoth(), dropping)
	runs(drop)
	b.attach(twoOfBoth(), realProgram)
	runs(pass)
	b.attach(twoOfBoth(), dropping)
	runs(drop)
	b.attach(two, realProgram)
	runs(pass)
}

func TestBothObjectsAgree(t *testing.T) {
	o, err := readObjects(LoadLB, LoadLB6, true)
	if err != nil {
		t.Fatal(err)
	}
	for name, spec := range o.ipv6.Maps {
		if four := o.ipv4.Maps[name]; four != nil && name != LBMapDrafts && shapeOfSpec(four) != shapeOfSpec(spec) {
			t.Errorf("map %s is %+v for IPv4 and %+v for IPv6", name, shapeOfSpec(four), shapeOfSpec(spec))
		}
	}
	mixed, err := LoadLB46()
	if err != nil {
		t.Fatal(err)
	}
	for name, spec := range mixed.Maps {
		same := cmp.Or(o.ipv6.Maps[name], o.ipv4.Maps[name]) // vips of IPv4: rule 12
		if same == nil || shapeOfSpec(same) != shapeOfSpec(spec) {
			t.Errorf("map %s is %+v between families and %+v elsewhere", name, shapeOfSpec(spec), same)
		}
	}
	if LBVarFlowShift != LB6VarFlowShift {
		t.Errorf("the size of the flow table is called %s and %s", LBVarFlowShift, LB6VarFlowShift)
	}
}
