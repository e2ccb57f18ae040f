package host

import (
	"fmt"
	"strings"

	"github.com/safchain/ethtool"
	"github.com/vishvananda/netlink"
)

// PartialChecksums returns, in words, why packets that arrive on an interface
// may carry unfinished checksums, which translation would leave wrong; ""
// when nothing speaks for it. Senders on this host (containers, virtual
// machines) leave the checksum to a device that is not there.
func PartialChecksums(name string) (string, error) {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return "", fmt.Errorf("look at interface %s: %w", name, err)
	}
	switch link.Type() {
	case "tun", "tuntap":
		return "the far side of tap " + name + " cannot be seen; switch its TX checksum offload off", nil
	case "veth":
	default:
		return "", nil
	}
	if link.Attrs().NetNsID >= 0 && link.Attrs().ParentIndex > 0 {
		return "the far end of veth " + name + " is in another namespace and cannot be seen; switch its TX checksum offload off there (ethtool -K IFACE tx off)", nil
	}
	peer, err := netlink.LinkByIndex(link.Attrs().ParentIndex)
	if err != nil {
		return "the far end of veth " + name + " cannot be seen; switch its TX checksum offload off", nil
	}
	e, err := ethtool.NewEthtool()
	if err != nil {
		return "", fmt.Errorf("open ethtool: %w", err)
	}
	defer e.Close()
	features, err := e.Features(peer.Attrs().Name)
	if err != nil {
		return "", fmt.Errorf("read offloads of %s: %w", peer.Attrs().Name, err)
	}
	for f, on := range features {
		if on && strings.HasPrefix(f, "tx-checksum-ip") {
			return fmt.Sprintf("veth %s, the far end of %s, leaves checksums to hardware; run: ethtool -K %s tx off",
				peer.Attrs().Name, name, peer.Attrs().Name), nil
		}
	}
	return "", nil
}
