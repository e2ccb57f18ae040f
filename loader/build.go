package loader

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf"
)

// next returns the directory in which an instance is put together before it
// takes its place, and in which the old one waits for its removal.
func (l *Lock) next() string { return l.dir + "-next" }

// A build is an instance in the making: its maps, some of them those of the
// old instance, and its program. Nothing is pinned until pin.
type build struct {
	lock *Lock
	old  *Maps
	plan plan
	maps *Maps
	prog *ebpf.Program
	// Only with IPv6: its program, that between families if there are such
	// services, and the map that prog finds them by. That is never another
	// instance's: each hands over to its own programs.
	prog6, prog46 *ebpf.Program
	families      *ebpf.Map
	variables     *ebpf.Map // of another program of a dry run; nil: the program's own
}

// build makes the maps that the old instance does not have as they are needed,
// and loads the program against them all.
func (l *Lock) build(o Options, old *Instance) (*build, error) {
	objects, err := readObjects(l.spec, l.spec6, o.Sizes.Flows6 > 0)
	if err == nil && o.Sizes.Mixed {
		objects.mixed, err = l.spec46()
	}
	if err != nil {
		return nil, err
	}
	specs := mapSpecs(objects, o.Sizes)
	want := map[string]shape{}
	for name, s := range specs {
		want[name] = shapeOfSpec(s)
	}
	b := &build{lock: l, old: old.maps, plan: planMaps(want, old.maps.shapes(), o.ResizeFlows), maps: &Maps{}}
	if err := b.load(objects, specs); err != nil {
		return nil, errors.Join(err, b.close())
	}
	return b, nil
}

func (b *build) load(o objects, specs map[string]*ebpf.MapSpec) error {
	for _, p := range places {
		spec := specs[p.name]
		if spec == nil {
			continue
		}
		spec.MaxEntries = b.plan.entries[p.name]
		m, err := b.mapOf(p, spec)
		if err != nil {
			return fmt.Errorf("make map %s with %d entries: %w", p.name, spec.MaxEntries, err)
		}
		*p.field(b.maps) = m
	}
	name := o.entrance()
	loaded, err := b.loadProgram(o.ipv4, name, b.maps.Flows)
	if err != nil {
		return fmt.Errorf("load program: %w", err)
	}
	defer loaded.Close()
	b.prog = loaded.DetachProgram(name)
	if o.ipv6 != nil {
		b.families = loaded.DetachMap(LBMapFamilies)
		if b.prog6, err = b.loadWide(o.ipv6, LB6ProgFairlead6, 0); err != nil {
			return fmt.Errorf("load program of IPv6: %w", err)
		}
	}
	if o.mixed != nil {
		if b.prog46, err = b.loadWide(o.mixed, LB46ProgFairlead46, 1); err != nil {
			return fmt.Errorf("load program between families: %w", err)
		}
	}
	return b.maps.view()
}

// loadWide loads a program that uses the tables of IPv6, and puts it where the
// first one looks for it.
func (b *build) loadWide(object *ebpf.CollectionSpec, name string, at uint32) (*ebpf.Program, error) {
	loaded, err := b.loadProgram(object, name, b.maps.Flows6)
	if err != nil {
		return nil, err
	}
	defer loaded.Close()
	prog := loaded.DetachProgram(name)
	return prog, b.families.Put(at, prog)
}

// loadProgram loads one program of an object against the maps, and tells it how large its flow
// table is.
func (b *build) loadProgram(object *ebpf.CollectionSpec, name string, flows *ebpf.Map) (*ebpf.Collection, error) {
	replacements := map[string]*ebpf.Map{}
	for _, p := range places {
		if spec, m := object.Maps[p.name], *p.field(b.maps); spec != nil && m != nil {
			spec.MaxEntries = m.MaxEntries() // another object may have the specification that was sized
			replacements[p.name] = m
		}
	}
	if b.variables != nil {
		replacements[".bss"] = b.variables
	}
	if err := object.Variables[LBVarFlowShift].Set(uint32(64 - bits.TrailingZeros32(flows.MaxEntries()))); err != nil {
		return nil, err
	}
	// Links refuse a program whose attach type differs from their own, and
	// not every version of the library fills it in.
	prog := object.Programs[name]
	prog.AttachType = ebpf.AttachXDP
	object.Programs = map[string]*ebpf.ProgramSpec{name: prog}
	return ebpf.NewCollectionWithOptions(object, ebpf.CollectionOptions{MapReplacements: replacements})
}

func (b *build) mapOf(p place, spec *ebpf.MapSpec) (*ebpf.Map, error) {
	if b.plan.fates[p.name] == fateKeep {
		return (*p.field(b.old)).Clone()
	}
	return ebpf.NewMap(spec)
}

// pin copies rows, lets fill change them, and pins everything but the links in
// the next directory.
func (b *build) pin(fill func(*Maps) error) error {
	if err := os.Mkdir(b.lock.next(), 0o700); err != nil {
		return err
	}
	if err := b.lock.step("made directory"); err != nil {
		return err
	}
	if err := b.fill(fill); err != nil {
		return err
	}
	for _, p := range places {
		m := *p.field(b.maps)
		if m == nil {
			continue
		}
		if err := m.Pin(filepath.Join(b.lock.next(), p.name)); err != nil {
			return fmt.Errorf("pin map %s: %w", p.name, err)
		}
	}
	if err := b.lock.step("pinned maps"); err != nil {
		return err
	}
	if err := b.prog.Pin(filepath.Join(b.lock.next(), programPin)); err != nil {
		return fmt.Errorf("pin program: %w", err)
	}
	if b.prog6 != nil {
		// The kernel empties families when nobody has it open and nothing pins it.
		if err := errors.Join(
			b.prog6.Pin(filepath.Join(b.lock.next(), program6Pin)),
			b.families.Pin(filepath.Join(b.lock.next(), LBMapFamilies)),
		); err != nil {
			return fmt.Errorf("pin program of IPv6: %w", err)
		}
	}
	if b.prog46 != nil {
		if err := b.prog46.Pin(filepath.Join(b.lock.next(), program46Pin)); err != nil {
			return fmt.Errorf("pin program between families: %w", err)
		}
	}
	return b.lock.step("pinned program")
}

// fill gives new maps their contents. Counters get theirs when the program has
// changed, see carryCounters.
func (b *build) fill(fill func(*Maps) error) error {
	for _, p := range places {
		if b.plan.fates[p.name] != fateCopy || p.counts {
			continue
		}
		if err := copyRows(*p.field(b.maps), *p.field(b.old)); err != nil {
			return fmt.Errorf("copy map %s: %w", p.name, err)
		}
	}
	if b.plan.fates[LBMapControl] != fateKeep {
		if err := b.maps.control.init(); err != nil {
			return err
		}
	}
	if b.plan.fates[mapJournal] == fateDrop {
		if err := b.keepJournal(); err != nil {
			return err
		}
	}
	if fill != nil && b.plan.fresh() {
		if err := fill(b.maps); err != nil {
			return fmt.Errorf("fill maps: %w", err)
		}
	}
	if b.plan.fates[LBMapControl] == fateDrop {
		b.maps.control.SetMode(oldMode(b.old.Control))
	}
	return nil
}

// oldMode returns the switch of a control map of another version, in which it
// stands first too; on, if there is no such thing.
func oldMode(control *ebpf.Map) Mode {
	var raw []byte
	if err := control.Lookup(uint32(0), &raw); err != nil || len(raw) < 4 {
		return ModeOn
	}
	if m := Mode(binary.NativeEndian.Uint32(raw)); m < ModeOn {
		return m
	}
	return ModeOn
}

// keepJournal saves the journal when only the size of its map has changed.
func (b *build) keepJournal() error {
	j, err := b.old.ReadJournal()
	if err != nil {
		return err
	}
	return b.maps.WriteJournal(j)
}

func (b *build) close() error {
	err := b.maps.close()
	return errors.Join(err, b.prog.Close(), b.prog6.Close(), b.prog46.Close(), b.families.Close())
}
