package loader

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// findDevice returns the interface of a name, or an error that wraps
// [ErrNoInterface].
func findDevice(iface string) (netlink.Link, error) {
	dev, err := netlink.LinkByName(iface)
	if isNotFound(err) {
		return nil, fmt.Errorf("find interface %s: %w", iface, ErrNoInterface)
	}
	if err != nil {
		return nil, fmt.Errorf("find interface %s: %w", iface, err)
	}
	return dev, nil
}

// attachDevice attaches the program to an interface: native first, unless mode
// says otherwise. The link ends with the process until it is pinned.
func attachDevice(prog *ebpf.Program, dev netlink.Link, mode AttachMode) (link.Link, InterfaceReport, error) {
	name := dev.Attrs().Name
	r := InterfaceReport{Name: name, Mode: AttachNative}
	if mode == AttachGeneric {
		r.Reason = "generic mode was asked for"
	} else {
		l, err := attachXDP(prog, dev.Attrs().Index, link.XDPDriverMode)
		if err == nil {
			return l, r, nil
		}
		if errors.Is(err, unix.EBUSY) || errors.Is(err, unix.EEXIST) {
			return nil, r, foreignError(dev)
		}
		r.Reason = whyNotNative(dev, err)
		if mode == AttachNative {
			return nil, r, fmt.Errorf("attach %s in native mode: %s: %w", name, r.Reason, ErrMode)
		}
	}
	r.Mode = AttachGeneric
	l, err := attachXDP(prog, dev.Attrs().Index, link.XDPGenericMode)
	if errors.Is(err, unix.EBUSY) || errors.Is(err, unix.EEXIST) {
		return nil, r, foreignError(dev)
	}
	if err != nil {
		return nil, r, fmt.Errorf("attach %s in generic mode: %w", name, err)
	}
	return l, r, nil
}

func attachXDP(prog *ebpf.Program, index int, flags link.XDPAttachFlags) (link.Link, error) {
	return link.AttachXDP(link.XDPOptions{Program: prog, Interface: index, Flags: flags})
}

// whyNotNative words the error that a driver refused native XDP with.
func whyNotNative(dev netlink.Link, err error) string {
	if errors.Is(err, unix.EOPNOTSUPP) {
		return "the driver has no native XDP"
	}
	var errno unix.Errno
	if errors.As(err, &errno) {
		return fmt.Sprintf("the driver refused native XDP (MTU %d): %v", dev.Attrs().MTU, errno)
	}
	return fmt.Sprintf("native XDP was refused: %v", err)
}

// clearDevice makes sure that no foreign program is on the interface: it
// returns an error that wraps [ErrForeign], or removes it if force is set.
func clearDevice(dev netlink.Link, force bool) error {
	dev = awaitEnd(dev)
	xdp := dev.Attrs().Xdp
	if xdp == nil || !xdp.Attached {
		return nil
	}
	if !force {
		return foreignError(dev)
	}
	flags := int(link.XDPDriverMode)
	switch modeOf(xdp) {
	case AttachNative:
	case AttachGeneric:
		flags = int(link.XDPGenericMode)
	default:
		return foreignError(dev) // in hardware, or in several modes
	}
	err := netlink.LinkSetXdpFdWithFlags(dev, -1, flags)
	if errors.Is(err, unix.EBUSY) {
		return foreignError(dev) // a bpf_link holds it
	}
	if err != nil {
		return fmt.Errorf("replace the XDP program of %s: %w", dev.Attrs().Name, err)
	}
	return nil
}

func isNotFound(err error) bool {
	var notFound netlink.LinkNotFoundError
	return errors.As(err, &notFound)
}
