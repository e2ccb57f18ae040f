package loader

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
)

// foreignError returns an error that wraps [ErrForeign] and names what is
// attached to an interface, as far as that can be told.
func foreignError(dev netlink.Link) error {
	name := dev.Attrs().Name
	fresh, err := netlink.LinkByIndex(dev.Attrs().Index)
	if err != nil || fresh.Attrs().Xdp == nil || fresh.Attrs().Xdp.ProgId == 0 {
		return fmt.Errorf("attach %s: %w", name, ErrForeign)
	}
	id := ebpf.ProgramID(fresh.Attrs().Xdp.ProgId)
	what := fmt.Sprintf("program %d%s", id, programName(id))
	if l, ok := linkOf(fresh.Attrs().Index, id); ok {
		return fmt.Errorf("attach %s: %w: %s, which only its owner can remove: link %d%s",
			name, ErrForeign, what, l, linkHolder(l))
	}
	return fmt.Errorf("attach %s: %w: %s", name, ErrForeign, what)
}

// How long a program whose link was closed may take to go: endTries × endPause.
const (
	endTries = 200
	endPause = 10 * time.Millisecond
)

// awaitEnd waits while a program of ours is attached that no link holds: the
// kernel takes the program of a closed link out some time later. One without a
// name may be gone already. It returns the interface as it is then.
func awaitEnd(dev netlink.Link) netlink.Link {
	for range endTries {
		xdp := dev.Attrs().Xdp
		if xdp == nil || !xdp.Attached {
			return dev
		}
		id := ebpf.ProgramID(xdp.ProgId)
		if name := programName(id); name != "" && !strings.HasPrefix(name, " ("+LBProgFairlead) {
			return dev
		}
		if _, held := linkOf(dev.Attrs().Index, id); held {
			return dev
		}
		time.Sleep(endPause)
		fresh, err := netlink.LinkByIndex(dev.Attrs().Index)
		if err != nil {
			return dev
		}
		dev = fresh
	}
	return dev
}

// programName returns " (name)", "" if the program has none.
func programName(id ebpf.ProgramID) string {
	p, err := ebpf.NewProgramFromID(id)
	if err != nil {
		return ""
	}
	defer p.Close()
	info, err := p.Info()
	if err != nil || info.Name == "" {
		return ""
	}
	return " (" + info.Name + ")"
}

// linkOf returns the bpf_link that holds a program on an interface.
func linkOf(index int, id ebpf.ProgramID) (link.ID, bool) {
	var all link.Iterator
	defer all.Close()
	for all.Next() {
		info, err := all.Link.Info()
		if err != nil || info.Program != id {
			continue
		}
		if xdp := info.XDP(); xdp != nil && int(xdp.Ifindex) == index {
			return all.ID, true
		}
	}
	return 0, false
}

// linkHolder returns " of process pid (name)" if a process has the link open,
// else "": then it is pinned somewhere.
func linkHolder(id link.ID) string {
	files, _ := filepath.Glob("/proc/[0-9]*/fdinfo/*")
	for _, f := range files {
		if !hasLinkID(f, id) {
			continue
		}
		process := filepath.Dir(filepath.Dir(f))
		comm, _ := os.ReadFile(filepath.Join(process, "comm"))
		return fmt.Sprintf(" of process %s (%s)", filepath.Base(process), strings.TrimSpace(string(comm)))
	}
	return ""
}

// hasLinkID reports whether an fdinfo file is of a link's descriptor.
func hasLinkID(fdinfo string, id link.ID) bool {
	f, err := os.Open(fdinfo)
	if err != nil {
		return false
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		key, value, _ := strings.Cut(lines.Text(), ":")
		if key == "link_id" {
			return strings.TrimSpace(value) == fmt.Sprint(uint32(id))
		}
	}
	return false
}
