package loader

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"github.com/cilium/ebpf"
)

// loadMaps opens the maps pinned in dir that there are.
func loadMaps(dir string) (*Maps, error) {
	m := &Maps{}
	for _, p := range places {
		loaded, err := ebpf.LoadPinnedMap(filepath.Join(dir, p.name), nil)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("open map %s: %w", p.name, err), m.close())
		}
		*p.field(m) = loaded
	}
	return m, nil
}

// hasIPv6 reports whether any map of IPv6 is there.
func (m *Maps) hasIPv6() bool {
	return slices.ContainsFunc(places, func(p place) bool { return p.ipv6 && *p.field(m) != nil })
}

// checkVersion returns an error that wraps [ErrVersion] unless every map of specs
// is there and has the schema of this version.
func (m *Maps) checkVersion(specs map[string]*ebpf.MapSpec) error {
	for _, p := range places {
		if specs[p.name] == nil {
			continue
		}
		have := *p.field(m)
		if have == nil {
			return fmt.Errorf("map %s is missing: %w", p.name, ErrVersion)
		}
		if !shapeOfMap(have).sameSchema(shapeOfSpec(specs[p.name])) {
			return fmt.Errorf("map %s has another schema: %w", p.name, ErrVersion)
		}
	}
	return nil
}

// view maps the memory of control and slots. The version must be right.
func (m *Maps) view() error {
	var err error
	if m.control, err = newControlView(m.Control); err != nil {
		return fmt.Errorf("map memory of control: %w", err)
	}
	if m.slots, err = newSlotsView(m.Slots); err != nil {
		return fmt.Errorf("map memory of slots: %w", err)
	}
	return nil
}

// shapes returns the shapes of the maps that there are, by name.
func (m *Maps) shapes() map[string]shape {
	shapes := map[string]shape{}
	for _, p := range places {
		if have := *p.field(m); have != nil {
			shapes[p.name] = shapeOfMap(have)
		}
	}
	return shapes
}

// close releases the file descriptors.
func (m *Maps) close() error {
	var errs []error
	for _, p := range places {
		if have := *p.field(m); have != nil {
			errs = append(errs, have.Close())
		}
	}
	return errors.Join(errs...)
}

// ControlView returns the switch and the settings of the instance, in the memory
// that the program reads.
func (m *Maps) ControlView() *ControlView { return m.control }

// SlotsView returns the slots map in memory.
func (m *Maps) SlotsView() *SlotsView { return m.slots }

// MapMemory is what a map takes in the kernel.
type MapMemory struct {
	Map     string
	Entries uint32
	Bytes   uint64
}

// Memory returns what the maps take in the kernel, in bytes: all, and each.
func (m *Maps) Memory() (total uint64, each []MapMemory, err error) {
	for _, p := range places {
		have := *p.field(m)
		if have == nil {
			continue
		}
		info, err := have.Info()
		if err != nil {
			return 0, nil, fmt.Errorf("ask for memory of map %s: %w", p.name, err)
		}
		bytes, _ := info.Memlock()
		if bytes == 0 && info.Type == ebpf.RingBuf { // which does not say so before 6.4
			bytes = uint64(have.MaxEntries())
		}
		total += bytes
		each = append(each, MapMemory{p.name, have.MaxEntries(), bytes})
	}
	return total, each, nil
}

// copyRows copies every entry of src into dst, which is at least as large. Of an
// LRU that is in use it may miss some, which are forgotten early then.
func copyRows(dst, src *ebpf.Map) error {
	var key, value []byte
	rows := src.Iterate()
	for rows.Next(&key, &value) {
		if err := dst.Put(key, value); err != nil {
			return err
		}
	}
	if err := rows.Err(); src.Type() != ebpf.LRUHash || !errors.Is(err, ebpf.ErrIterationAborted) {
		return err
	}
	return nil
}

// sameMap reports whether a and b are one map of the kernel.
func sameMap(a, b *ebpf.Map) (bool, error) {
	if a == nil || b == nil {
		return false, nil
	}
	ia, err := a.Info()
	if err != nil {
		return false, err
	}
	ib, err := b.Info()
	if err != nil {
		return false, err
	}
	idA, _ := ia.ID()
	idB, _ := ib.ID()
	return idA == idB, nil
}
