package host

import (
	"net"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"

	"fairlead/testenv"
)

func TestForwardingIsAskedForAndSet(t *testing.T) {
	in(t, func(*testenv.Host) error {
		if err := (Sysctl{"net.ipv4.conf.peer.forwarding", "0"}).Set(); err != nil {
			return err
		}
		missing, err := MissingForwarding([]string{"peer"})
		if err != nil || len(missing) != 1 || missing[0].String() != "net.ipv4.conf.peer.forwarding=1" {
			t.Fatalf("missing = %v, %v", missing, err)
		}
		if was, err := missing[0].Current(); err != nil || was != "0" {
			t.Errorf("now it is %q, %v, want 0", was, err)
		}
		if err := missing[0].Set(); err != nil {
			t.Error(err)
		}
		if missing, err = MissingForwarding([]string{"peer"}); err != nil || len(missing) != 0 {
			t.Errorf("missing = %v, %v after setting", missing, err)
		}
		return nil
	})
}

// setAll makes settings, in their order.
func setAll(settings []Sysctl) error {
	for _, s := range settings {
		if err := s.Set(); err != nil {
			return err
		}
	}
	return nil
}

func TestForwardingIPv6HearsRouters(t *testing.T) {
	in6(t, func(h, _ *testenv.Host) error {
		router := testenv.NewHost(t, "router")
		router.EnableIPv6(t)
		testenv.Cable(t, h, "10.2.2.1/24", router, "10.2.2.2/24")
		for _, name := range []string{"peer", "router"} {
			err := setAll([]Sysctl{ofInterface("ipv6", name, "forwarding", "0"), ofInterface("ipv6", name, "accept_ra", "1")})
			if err != nil {
				return err
			}
		}
		advertise(t, router)
		hear := Sysctl{"net.ipv6.conf.router.accept_ra", "2"}
		missing, err := MissingForwarding6([]string{"peer"})
		want := []Sysctl{{"net.ipv6.conf.peer.accept_ra", "2"}, hear, {"net.ipv6.conf.peer.forwarding", "1"}}
		if err != nil || !slices.Equal(missing, want) {
			t.Errorf("missing beside an interface that hears a router = %v, %v, want %v", missing, err, want)
		}
		missing, err = MissingForwarding6([]string{"router"})
		want = []Sysctl{hear, {"net.ipv6.conf.router.forwarding", "1"}}
		if err != nil || !slices.Equal(missing, want) {
			t.Errorf("missing = %v, %v, want %v", missing, err, want)
		}
		if err := setAll(missing); err != nil {
			return err
		}
		if missing, err = MissingForwarding6([]string{"router"}); err != nil || len(missing) != 0 {
			t.Errorf("missing = %v, %v after setting", missing, err)
		}
		routes, err := defaultRoutes(unix.AF_INET6)
		if err != nil || len(routes) != 1 {
			t.Fatalf("default routes are %v, %v, want the one from the router", routes, err)
		}
		if err := netlink.RouteDel(&routes[0]); err != nil {
			return err
		}
		advertise(t, router)
		return nil
	})
}

// advertise lets a host tell the one that calls it that it is a router, and waits
// until that has heard it.
func advertise(t *testing.T, router *testenv.Host) {
	t.Helper()
	router.Do(t, func() error {
		l, err := netlink.LinkByName("balancer")
		if err != nil {
			return err
		}
		local := &netlink.Addr{IPNet: &net.IPNet{IP: net.ParseIP("fe80::1"), Mask: net.CIDRMask(64, 128)}, Flags: unix.IFA_F_NODAD}
		if err := netlink.AddrReplace(l, local); err != nil {
			return err
		}
		zone := strconv.Itoa(l.Attrs().Index) // names are remembered across namespaces
		c, err := net.ListenPacket("ip6:ipv6-icmp", "fe80::1%"+zone)
		if err != nil {
			return err
		}
		defer c.Close()
		if err := ipv6.NewPacketConn(c).SetMulticastHopLimit(255); err != nil {
			return err
		}
		// RFC 4861, 4.2: hop limit 64, no flags, a router for half an hour.
		_, err = c.WriteTo([]byte{134, 0, 0, 0, 64, 0, 7, 8, 15: 0}, &net.IPAddr{IP: net.IPv6linklocalallnodes, Zone: zone})
		return err
	})
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		names, err := advertised()
		if err != nil || time.Now().After(deadline) {
			t.Fatalf("no router was heard: %v", err)
		}
		if len(names) > 0 {
			return
		}
	}
}
