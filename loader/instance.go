package loader

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/cilium/ebpf"
)

// An Instance is what is pinned in one directory, opened.
//
// It is safe for concurrent use. After an upgrade by somebody else it still
// shows the maps it opened; open it anew then.
type Instance struct {
	dir  string
	maps *Maps
	prog *ebpf.Program // nil if it is not pinned
	// prog6 is the program of IPv6, nil without it. The other one hands packets
	// over to it.
	prog6 *ebpf.Program
	// prog46 is that between families, nil without it.
	prog46 *ebpf.Program
}

// Names of the programs' pins.
const (
	programPin   = "program"
	program6Pin  = "program6"
	program46Pin = "program46"
)

// Open opens the instance pinned in dir ("" means [DefaultDir]). Errors wrap
// [ErrNotAttached], [ErrVersion] or [ErrPrivileges]. Take a [SharedLock] for as
// long as what is read must hang together.
func Open(dir string) (*Instance, error) {
	dir, err := cleanDir(dir)
	if err != nil {
		return nil, err
	}
	return open(dir, LoadLB, LoadLB6)
}

func open(dir string, ipv4, ipv6 func() (*ebpf.CollectionSpec, error)) (*Instance, error) {
	i, err := openPins(dir)
	if err != nil {
		return nil, err
	}
	o, err := readObjects(ipv4, ipv6, i.hasIPv6())
	if err == nil {
		err = i.maps.checkVersion(mapSpecs(o, Sizes{}))
	}
	if err == nil {
		err = i.maps.view()
	}
	if err == nil && (i.prog == nil || i.hasIPv6() && i.prog6 == nil) {
		err = fmt.Errorf("the program is missing: %w", ErrVersion)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", dir, err), i.Close())
	}
	return i, nil
}

// openPins opens what is pinned in dir, whichever version pinned it.
func openPins(dir string) (*Instance, error) {
	there, err := exists(dir)
	if err != nil {
		return nil, err
	}
	if !there {
		return nil, fmt.Errorf("open %s: %w", dir, ErrNotAttached)
	}
	maps, err := loadMaps(dir)
	if errors.Is(err, fs.ErrPermission) {
		err = ErrPrivileges
	}
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", dir, err)
	}
	i := &Instance{dir: dir, maps: maps}
	for name, prog := range map[string]**ebpf.Program{programPin: &i.prog, program6Pin: &i.prog6, program46Pin: &i.prog46} {
		*prog, err = ebpf.LoadPinnedProgram(filepath.Join(dir, name), nil)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, errors.Join(fmt.Errorf("open %s: %w", dir, err), i.Close())
		}
	}
	return i, nil
}

// hasIPv6 reports whether anything of IPv6 is pinned.
func (i *Instance) hasIPv6() bool { return i.prog6 != nil || i.maps.hasIPv6() }

// Close releases file descriptors and memory. Packets keep flowing.
func (i *Instance) Close() error {
	return errors.Join(i.maps.close(), i.prog.Close(), i.prog6.Close(), i.prog46.Close())
}

// Dir returns the pin directory.
func (i *Instance) Dir() string { return i.dir }

// Maps returns the maps. They belong to the instance.
func (i *Instance) Maps() *Maps { return i.maps }

// Program returns the XDP program. It belongs to the instance.
func (i *Instance) Program() *ebpf.Program { return i.prog }

// Control returns the switch and the settings.
func (i *Instance) Control() *ControlView { return i.maps.control }

// SetMode throws the switch of all interfaces at once; see [ControlView.SetMode].
func (i *Instance) SetMode(m Mode) { i.maps.control.SetMode(m) }

// Links returns what the instance is attached to, by name.
func (i *Instance) Links() ([]LinkInfo, error) {
	links, err := loadLinks(i.dir)
	if err != nil {
		return nil, fmt.Errorf("list links of %s: %w", i.dir, err)
	}
	defer links.close()
	var infos []LinkInfo
	for _, l := range links {
		infos = append(infos, l.info())
	}
	return infos, nil
}

// AttachInterface attaches one more interface, or one that has come back. It
// takes the [Lock] itself, so the caller must not hold it.
func (i *Instance) AttachInterface(ctx context.Context, iface string, mode AttachMode, force bool) (InterfaceReport, error) {
	l, err := NewLock(ctx, i.dir)
	if err != nil {
		return InterfaceReport{}, err
	}
	defer l.Unlock()
	if _, err := l.mend(); err != nil {
		return InterfaceReport{}, err
	}
	// What is pinned now may be newer than what i opened.
	now, err := openPins(i.dir)
	if err != nil {
		return InterfaceReport{}, err
	}
	defer now.Close()
	if now.prog == nil {
		return InterfaceReport{}, fmt.Errorf("attach %s: the program is missing: %w", iface, ErrVersion)
	}
	reports, err := l.linkAll(ctx, i.dir, now.prog, Options{Interfaces: []string{iface}, Mode: mode, Force: force})
	if err != nil {
		return InterfaceReport{}, err
	}
	return reports[0], nil
}

// DetachInterface takes one interface out; the instance stays, even with none.
// It takes the [Lock] itself. The error wraps [ErrNotAttached] if iface is not
// attached.
func (i *Instance) DetachInterface(ctx context.Context, iface string) error {
	l, err := NewLock(ctx, i.dir)
	if err != nil {
		return err
	}
	defer l.Unlock()
	if _, err := l.mend(); err != nil {
		return err
	}
	links, err := loadLinks(i.dir)
	if err != nil {
		return err
	}
	defer links.close()
	link := links.named(iface)
	if link == nil {
		return fmt.Errorf("detach %s: %w", iface, ErrNotAttached)
	}
	return link.remove()
}
