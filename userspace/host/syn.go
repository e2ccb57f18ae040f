package host

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// synPort is where SYNs of our own come from: nobody listens there, so that the
// kernel refuses what answers them.
const synPort = 1

// SendSYN sends a SYN to a TCP port of an address of this host, as if from that
// address, and makes no connection. A listener there that answers all SYNs with
// cookies then takes cookies for two minutes.
func SendSYN(to netip.AddrPort) error {
	if err := sendSYN(to); err != nil {
		return fmt.Errorf("send SYN to %s: %w", to, err)
	}
	return nil
}

func sendSYN(to netip.AddrPort) error {
	family, own := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Addr: to.Addr().As16()})
	if to.Addr().Is4() {
		family, own = unix.AF_INET, &unix.SockaddrInet4{Addr: to.Addr().As4()}
	}
	fd, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, own); err != nil {
		return err
	}
	return unix.Sendto(fd, synTo(to), unix.MSG_DONTWAIT, own)
}

// synTo returns a TCP header, whose checksum is right if it comes from where it goes.
func synTo(to netip.AddrPort) []byte {
	b := make([]byte, 20)
	binary.BigEndian.PutUint16(b, synPort)
	binary.BigEndian.PutUint16(b[2:], to.Port())
	b[12], b[13] = 5<<4, 2
	sum := uint32(unix.IPPROTO_TCP + len(b))
	addr := to.Addr().AsSlice()
	for _, part := range [][]byte{addr, addr, b} {
		for ; len(part) > 0; part = part[2:] {
			sum += uint32(binary.BigEndian.Uint16(part))
		}
	}
	sum = sum>>16 + sum&0xffff
	binary.BigEndian.PutUint16(b[16:], ^uint16(sum>>16+sum))
	return b
}
