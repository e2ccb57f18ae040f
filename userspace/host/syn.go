package host

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// SendSYN sends a SYN to a TCP port of an address of this host, from that address,
// and makes no connection. A listener there that answers all SYNs with cookies
// then takes cookies for two minutes.
func SendSYN(to netip.AddrPort) error {
	if err := sendSYN(to); err != nil {
		return fmt.Errorf("send SYN to %s: %w", to, err)
	}
	return nil
}

// sendSYN begins a connection whose socket hears no answer. A raw socket would do,
// but needs a capability of its own.
func sendSYN(to netip.AddrPort) error {
	family, own := sockaddr(netip.AddrPortFrom(to.Addr(), 0))
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if err != nil {
		return err
	}
	defer unix.Close(fd) // before an answer is sent again, which the kernel then refuses
	none := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K}
	if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &none}); err != nil {
		return err
	}
	if err := unix.Bind(fd, own); err != nil {
		return err
	}
	_, peer := sockaddr(to)
	if err := unix.Connect(fd, peer); !errors.Is(err, unix.EINPROGRESS) {
		return err
	}
	return nil
}

func sockaddr(a netip.AddrPort) (family int, sa unix.Sockaddr) {
	if a.Addr().Is4() {
		return unix.AF_INET, &unix.SockaddrInet4{Addr: a.Addr().As4(), Port: int(a.Port())}
	}
	return unix.AF_INET6, &unix.SockaddrInet6{Addr: a.Addr().As16(), Port: int(a.Port())}
}
