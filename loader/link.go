package loader

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// A LinkInfo is one interface that an instance is attached to.
type LinkInfo struct {
	// Interface is the name it has now, or had when it was attached if it is
	// gone or in another namespace.
	Interface string
	// Index is the interface's index, 0 if it is gone: the link is defunct.
	Index int
	// Mode is native or generic, "" if that cannot be told from here.
	Mode    AttachMode
	Program ebpf.ProgramID
}

// linkPrefix begins the names of pinned links.
const linkPrefix = "link-"

// A BPF file system allows no dot in a name; interfaces may have one.
var (
	escapePin   = strings.NewReplacer("%", "%25", ".", "%2e")
	unescapePin = strings.NewReplacer("%25", "%", "%2e", ".")
)

func linkPin(dir, iface string) string {
	return filepath.Join(dir, linkPrefix+escapePin.Replace(iface))
}

// A pinnedLink is an open link and where it is pinned.
type pinnedLink struct {
	link.Link
	iface   string // in the pin's name
	pin     string
	id      link.ID
	index   int // 0: defunct
	program ebpf.ProgramID
}

type pinnedLinks []*pinnedLink

func (ls pinnedLinks) close() {
	for _, l := range ls {
		_ = l.Close()
	}
}

// ids returns the set of the links' ids.
func (ls pinnedLinks) ids() map[link.ID]bool {
	ids := map[link.ID]bool{}
	for _, l := range ls {
		ids[l.id] = true
	}
	return ids
}

// on returns the live link of an interface, nil if there is none. Interfaces of
// other namespaces may have its index, but not with the link's program on it.
func (ls pinnedLinks) on(dev netlink.Link) *pinnedLink {
	for _, l := range ls {
		if xdp := dev.Attrs().Xdp; l.index == dev.Attrs().Index && xdp != nil && xdp.ProgId == uint32(l.program) {
			return l
		}
	}
	return nil
}

// named returns the link of the interface that has, or had, a name.
func (ls pinnedLinks) named(iface string) *pinnedLink {
	if dev, err := netlink.LinkByName(iface); err == nil {
		if l := ls.on(dev); l != nil {
			return l
		}
	}
	for _, l := range ls {
		if l.iface == iface {
			return l
		}
	}
	return nil
}

// loadLinks opens the links pinned in dir. A missing dir has none.
func loadLinks(dir string) (pinnedLinks, error) {
	files, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var links pinnedLinks
	for _, f := range files {
		iface, ok := strings.CutPrefix(f.Name(), linkPrefix)
		if !ok {
			continue
		}
		l, err := loadLink(filepath.Join(dir, f.Name()))
		if err != nil {
			links.close()
			return nil, fmt.Errorf("open link of %s: %w", iface, err)
		}
		l.iface = unescapePin.Replace(iface)
		links = append(links, l)
	}
	return links, nil
}

func loadLink(pin string) (*pinnedLink, error) {
	l, err := link.LoadPinnedLink(pin, nil)
	if err != nil {
		return nil, err
	}
	info, err := l.Info()
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	p := &pinnedLink{Link: l, pin: pin, id: info.ID, program: info.Program}
	if xdp := info.XDP(); xdp != nil {
		p.index = int(xdp.Ifindex)
	}
	return p, nil
}

// pinAgain pins l in another directory as well, which Pin would not.
func (l *pinnedLink) pinAgain(dir string) error {
	raw, ok := l.Link.(interface{ FD() int })
	if !ok {
		return fmt.Errorf("pin link of %s: no file descriptor", l.iface)
	}
	fd, err := unix.FcntlInt(uintptr(raw.FD()), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("pin link of %s: %w", l.iface, err)
	}
	twin, err := link.NewFromFD(fd)
	if err != nil {
		return fmt.Errorf("pin link of %s: %w", l.iface, err)
	}
	defer twin.Close()
	if err := twin.Pin(linkPin(dir, l.iface)); err != nil {
		return fmt.Errorf("pin link of %s: %w", l.iface, err)
	}
	return nil
}

// remove detaches l at once, which unlinking its pin does only some time
// later, and removes the pin.
func (l *pinnedLink) remove() error {
	if err := l.Detach(); err != nil {
		return fmt.Errorf("detach %s: %w", l.iface, err)
	}
	if err := os.Remove(l.pin); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("unpin link of %s: %w", l.iface, err)
	}
	return nil
}

// info describes l as it is seen from the caller's network namespace.
func (l *pinnedLink) info() LinkInfo {
	i := LinkInfo{Interface: l.iface, Index: l.index, Program: l.program}
	if l.index == 0 {
		return i
	}
	dev, err := netlink.LinkByIndex(l.index)
	if err != nil || dev.Attrs().Xdp == nil || dev.Attrs().Xdp.ProgId != uint32(l.program) {
		return i
	}
	i.Interface = dev.Attrs().Name
	i.Mode = modeOf(dev.Attrs().Xdp)
	return i
}

// modeOf returns the mode that netlink tells, "" if it is another one.
func modeOf(xdp *netlink.LinkXdp) AttachMode {
	switch xdp.AttachMode {
	case nl.XDP_ATTACHED_DRV:
		return AttachNative
	case nl.XDP_ATTACHED_SKB:
		return AttachGeneric
	}
	return ""
}
