package host

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"fairlead/testenv"
)

// sentCookies returns how many cookies the calling thread's host has made.
func sentCookies() (n int, err error) {
	b, err := os.ReadFile("/proc/thread-self/net/netstat")
	if err != nil {
		return 0, err
	}
	lines := strings.Split(string(b), "\n")
	for at, name := range strings.Fields(lines[0]) {
		if name == "SyncookiesSent" {
			_, err = fmt.Sscan(strings.Fields(lines[1])[at], &n)
		}
	}
	return n, err
}

// dropRaw takes from the calling thread what raw sockets need: an agent that is not
// root has it not.
func dropRaw() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var caps [2]unix.CapUserData
	if err := unix.Capget(&header, &caps[0]); err != nil {
		return err
	}
	caps[0].Effective &^= 1 << unix.CAP_NET_RAW
	return unix.Capset(&header, &caps[0])
}

func TestSendSYN(t *testing.T) {
	h := testenv.NewHost(t, "balancer")
	h.Sysctl(t, "net.ipv4.tcp_syncookies", "2")
	h.EnableIPv6(t)
	for i, addr := range []netip.Addr{vip, netip.MustParseAddr("2001:db8:ff::10")} {
		h.Do(t, func() error {
			lo, err := netlink.LinkByName("lo")
			if err != nil {
				return err
			}
			own := &net.IPNet{IP: addr.AsSlice(), Mask: net.CIDRMask(addr.BitLen(), addr.BitLen())}
			if err := netlink.AddrAdd(lo, &netlink.Addr{IPNet: own, Flags: unix.IFA_F_NODAD}); err != nil {
				return err
			}
			return awaitLocal(addr)
		})
		to := netip.AddrPortFrom(addr, 80)
		l := h.Listen(t, "tcp", to.String())
		h.Do(t, func() error {
			if err := dropRaw(); err != nil {
				return err
			}
			if err := SendSYN(to); err != nil {
				return err
			}
			for end := time.Now().Add(10 * time.Second); ; runtime.Gosched() {
				n, err := sentCookies()
				if err == nil && n != i+1 && time.Now().After(end) {
					err = fmt.Errorf("%s: the host has made %d cookies, want %d", addr, n, i+1)
				}
				if err != nil || n == i+1 {
					return err
				}
			}
		})
		if err := l.(*net.TCPListener).SetDeadline(time.Now().Add(time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		if c, err := l.Accept(); err == nil {
			t.Errorf("a connection was made from %s", c.RemoteAddr())
		}
	}
	h.Do(t, func() error {
		if err := SendSYN(netip.MustParseAddrPort("192.0.2.1:80")); err == nil {
			t.Error("there is no error for an address of nobody's")
		}
		return nil
	})
}
