package loader

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
)

// Attach is the package's [Attach], for callers that do more under the lock.
func (l *Lock) Attach(ctx context.Context, o Options) (*Instance, Report, error) {
	var r Report
	if o.Mode == "" {
		o.Mode = AttachAuto
	}
	if err := checkDir(l.dir); err != nil {
		return nil, r, err
	}
	var err error
	if r.Mended, err = l.mend(); err != nil {
		return nil, r, fmt.Errorf("mend what a killed command left: %w", err)
	}
	old, err := openPins(l.dir)
	switch {
	case errors.Is(err, ErrNotAttached):
		err = l.create(ctx, o, &r)
	case err == nil:
		err = errors.Join(l.upgrade(ctx, o, old, &r), old.Close())
	}
	if err != nil {
		return nil, r, err
	}
	i, err := open(l.dir, l.spec, l.spec6)
	if err != nil {
		return nil, r, err
	}
	if !o.KeepMode {
		i.SetMode(ModeOn)
	}
	return i, r, nil
}

// create makes an instance where there is none. Its switch is off until all
// of it is there.
func (l *Lock) create(ctx context.Context, o Options, r *Report) (err error) {
	r.Outcome = OutcomeNew
	b, err := l.build(o, &Instance{maps: &Maps{}})
	if err != nil {
		return err
	}
	defer b.close()
	defer func() {
		if err != nil {
			err = errors.Join(err, l.discard())
		}
	}()
	if err := b.pin(o.Fill); err != nil {
		return err
	}
	if r.Interfaces, err = l.linkAll(ctx, l.next(), b.prog, o); err != nil {
		return err
	}
	if err := give(l.next()); err != nil {
		return err
	}
	if err := os.Rename(l.next(), l.dir); err != nil {
		return err
	}
	return l.step("published")
}

// linkAll attaches the interfaces that have no live link in the pin directory
// yet, and pins their links in dir. If one fails, none of them stays.
func (l *Lock) linkAll(ctx context.Context, dir string, prog *ebpf.Program, o Options) (reports []InterfaceReport, err error) {
	old, err := loadLinks(l.dir)
	if err != nil {
		return nil, err
	}
	defer old.close()
	devices, err := l.findDevices(old, o)
	if err != nil {
		return nil, err
	}
	var made pinnedLinks
	defer func() {
		if err != nil {
			for _, m := range made {
				err = errors.Join(err, m.remove())
			}
		}
		made.close()
	}()
	for _, dev := range devices {
		if err := errors.Join(ctx.Err(), l.forgetOut(dev.Attrs().Name)); err != nil {
			return nil, err
		}
		if have := old.on(dev); have != nil {
			reports = append(reports, InterfaceReport{Name: dev.Attrs().Name, Mode: have.info().Mode, Already: true})
			continue
		}
		m, r, err := l.link(dir, prog, dev, o)
		if err != nil {
			return nil, err
		}
		made = append(made, m)
		reports = append(reports, r)
		if err := l.step("linked " + r.Name); err != nil {
			return nil, err
		}
	}
	return reports, nil
}

// link attaches one interface and pins the link in dir.
func (l *Lock) link(dir string, prog *ebpf.Program, dev netlink.Link, o Options) (*pinnedLink, InterfaceReport, error) {
	name := dev.Attrs().Name
	if err := clearDevice(dev, o.Force); err != nil {
		return nil, InterfaceReport{}, err
	}
	made, r, err := attachDevice(prog, dev, o.Mode)
	if err != nil {
		return nil, r, err
	}
	pin := linkPin(dir, name)
	// A defunct link of an interface that was deleted may be in the way.
	if err := os.Remove(pin); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, r, errors.Join(fmt.Errorf("replace defunct link of %s: %w", name, err), made.Close())
	}
	if err := made.Pin(pin); err != nil {
		return nil, r, errors.Join(fmt.Errorf("pin link of %s: %w", name, err), made.Detach(), made.Close())
	}
	return &pinnedLink{Link: made, iface: name, pin: pin, index: dev.Attrs().Index}, r, nil
}

// findDevices finds all interfaces of o, and what forbids to attach them as o
// says, before any of them is touched.
func (l *Lock) findDevices(old pinnedLinks, o Options) ([]netlink.Link, error) {
	var devices []netlink.Link
	seen := map[int]bool{}
	for _, name := range o.Interfaces {
		dev, err := findDevice(name)
		if err != nil {
			return nil, err
		}
		if seen[dev.Attrs().Index] {
			continue
		}
		seen[dev.Attrs().Index] = true
		if err := checkDevice(dev, old, o); err != nil {
			return nil, err
		}
		devices = append(devices, dev)
	}
	return devices, nil
}

func checkDevice(dev netlink.Link, old pinnedLinks, o Options) error {
	name := dev.Attrs().Name
	have := old.on(dev)
	if have != nil {
		if mode := have.info().Mode; o.Mode != AttachAuto && mode != "" && mode != o.Mode {
			return fmt.Errorf("attach %s: it is attached in %s mode, detach it first: %w", name, mode, ErrMode)
		}
		return nil
	}
	for _, l := range old {
		if l.iface == name && l.index != 0 {
			return fmt.Errorf("attach %s: %s had that name when it was attached, detach it first", name, l.info().Interface)
		}
	}
	if o.Force {
		return nil
	}
	return clearDevice(dev, false)
}
