package host

import (
	"errors"
	"fmt"

	"github.com/safchain/ethtool"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// A Device is an interface as XDP sees it.
type Device struct {
	Ifindex int
	Name    string
	// Transmits says that a frame that XDP redirects to it is sent.
	Transmits bool
	// TX says that its far end notices frames that XDP_TX sends back out of it.
	TX bool
	// Why says why not, or what is doubtful about it.
	Why string
}

// Devices returns the interfaces that are up. With generic XDP on every
// attached interface the stack itself transmits, which any Ethernet device
// can; native XDP needs a driver that takes XDP frames.
func Devices(generic bool) ([]Device, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	family, err := netlink.GenlFamilyGet("netdev")
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return nil, fmt.Errorf("ask for the netdev family: %w", err)
	}
	var devices []Device
	for _, l := range links {
		a := l.Attrs()
		if a.RawFlags&unix.IFF_UP == 0 {
			continue
		}
		d := Device{Ifindex: a.Index, Name: a.Name}
		switch {
		case a.RawFlags&unix.IFF_LOOPBACK != 0:
			d.Why = "lo is not a way out"
		case len(a.HardwareAddr) != 6:
			d.Why = "device " + a.Name + " is not Ethernet"
		case generic:
			d.Transmits, d.TX = true, true
		default:
			d.Transmits, err = transmitsXDP(family, l)
			d.TX = d.Transmits && l.Type() != "veth"
			if err != nil {
				return nil, err
			}
			switch {
			case d.Transmits:
			case l.Type() == "veth":
				d.Transmits = true // a kernel may not have noticed that its far end polls
				d.Why = "frames arrive at the far end of veth " + a.Name + " only while that has an XDP program or GRO on (ethtool -K IFACE gro on)"
			default:
				d.Why = "device " + a.Name + " cannot transmit XDP frames"
			}
		}
		devices = append(devices, d)
	}
	return devices, nil
}

// The netdev generic netlink family: Documentation/netlink/specs/netdev.yaml
// of the kernel.
const (
	netdevDevGet      = 1
	netdevIfindex     = 1
	netdevXDPFeatures = 3
	featureNdoXmit    = 1 << 2
)

// transmitsXDP asks the driver whether it takes XDP frames. Kernels before 6.3
// do not say; there the driver's name decides.
func transmitsXDP(family *netlink.GenlFamily, l netlink.Link) (bool, error) {
	if family == nil {
		return driverTransmits[driverOf(l)], nil
	}
	req := nl.NewNetlinkRequest(int(family.ID), 0)
	req.AddData(genlHeader{netdevDevGet, 1})
	req.AddData(nl.NewRtAttr(netdevIfindex, nl.Uint32Attr(uint32(l.Attrs().Index))))
	msgs, err := req.Execute(unix.NETLINK_GENERIC, 0)
	if errors.Is(err, unix.ENODEV) {
		return false, nil // gone since it was listed
	}
	if err != nil {
		return false, fmt.Errorf("ask for XDP features of %s: %w", l.Attrs().Name, err)
	}
	for _, m := range msgs {
		attrs, err := nl.ParseRouteAttr(m[nl.SizeofGenlmsg:])
		if err != nil {
			return false, fmt.Errorf("read XDP features of %s: %w", l.Attrs().Name, err)
		}
		for _, a := range attrs {
			if a.Attr.Type == netdevXDPFeatures && len(a.Value) >= 8 {
				return nl.NativeEndian().Uint64(a.Value)&featureNdoXmit != 0, nil
			}
		}
	}
	return false, nil
}

// A genlHeader is a command, a version and two reserved bytes, which the
// kernel wants to be zero: the library's own type leaves them to chance.
type genlHeader [nl.SizeofGenlmsg]byte

func (h genlHeader) Len() int          { return len(h) }
func (h genlHeader) Serialize() []byte { return h[:] }

// driverTransmits are drivers that are known to take XDP frames in Linux 6.1.
var driverTransmits = map[string]bool{
	"veth": true, "virtio_net": true, "tun": true, "bonding": true, "ena": true,
	"i40e": true, "ice": true, "igb": true, "igc": true, "ixgbe": true, "mlx5_core": true,
	"bnxt_en": true, "qede": true, "sfc": true, "mvneta": true, "mvpp2": true,
}

// driverOf returns the name of the driver of a link, "" if it does not say.
func driverOf(l netlink.Link) string {
	e, err := ethtool.NewEthtool()
	if err != nil {
		return ""
	}
	defer e.Close()
	name, err := e.DriverName(l.Attrs().Name)
	if err != nil {
		return ""
	}
	return name
}
