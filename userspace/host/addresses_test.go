package host

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"fairlead/testenv"
)

var (
	vip6    = netip.MustParseAddr("2001:db8::10")     // of no link
	onLink6 = netip.MustParseAddr("2001:db8:2:1::10") // of the one to the peer
)

// in6 is in with IPv6 on both hosts: 2001:db8:2:1::1 and ::2.
func in6(t *testing.T, f func(h, peer *testenv.Host) error) {
	t.Helper()
	h, peer := testenv.NewHost(t, "balancer"), testenv.NewHost(t, "peer")
	h.EnableIPv6(t)
	peer.EnableIPv6(t)
	testenv.Cable(t, h, "10.2.1.1/24", peer, "10.2.1.2/24")
	h.Do(t, func() error { return f(h, peer) })
}

// put puts an address on the host and returns where it stands then.
func put(t *testing.T, addr netip.Addr) (standsOn []string) {
	t.Helper()
	look, err := LookAtAddresses()
	if err != nil {
		t.Fatal(err)
	}
	if err := look.Put(addr); err != nil {
		t.Error(err)
	}
	return stands(t, addr)
}

func stands(t *testing.T, addr netip.Addr) (on []string) {
	t.Helper()
	all, err := netlink.AddrList(nil, unix.AF_UNSPEC)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range all {
		if a.IP.Equal(addr.AsSlice()) {
			l, err := net.InterfaceByIndex(a.LinkIndex)
			if err != nil {
				t.Fatal(err)
			}
			on = append(on, l.Name)
		}
	}
	return on
}

func TestAddressesStandWhereTheyBelong(t *testing.T) {
	in6(t, func(h, _ *testenv.Host) error {
		for addr, want := range map[netip.Addr]string{vip: "lo", vip6: "lo", onLink6: "peer"} {
			for range 2 {
				if on := put(t, addr); !slices.Equal(on, []string{want}) {
					t.Errorf("%s stands on %v, want %s", addr, on, want)
				}
			}
			look, err := LookAtAddresses()
			if err != nil {
				return err
			}
			if home, err := look.Home(addr); err != nil || home != want {
				t.Errorf("the home of %s is %s, %v", addr, home, err)
			}
			if local, err := look.IsLocal(addr); err != nil || !local {
				t.Errorf("%s: IsLocal = %t, %v", addr, local, err)
			}
			for range 2 {
				if err := look.Remove(addr); err != nil {
					t.Error(err)
				}
			}
			if on := stands(t, addr); len(on) != 0 {
				t.Errorf("%s stands on %v after removing", addr, on)
			}
		}
		return nil
	})
}

func TestNoConnectionOfTheHostComesFromAServiceAddress(t *testing.T) {
	in6(t, func(h, _ *testenv.Host) error {
		// One that is nearer to the peer's than the host's own.
		put(t, netip.MustParseAddr("2001:db8:2:1::3"))
		r, err := new(Routes).To(netip.MustParseAddr("2001:db8:2:1::2"))
		if err != nil || r.Source.String() != "2001:db8:2:1::1" || r.Local || r.Interface != "peer" {
			t.Errorf("the way to the peer is %+v, %v", r, err)
		}
		return nil
	})
}

// An interface may get its network later than the balancer its address.
func TestAddressMovesToItsLink(t *testing.T) {
	in6(t, func(h, _ *testenv.Host) error {
		link, err := netlink.LinkByName("peer")
		if err != nil {
			return err
		}
		network := &netlink.Addr{IPNet: &net.IPNet{IP: net.ParseIP("2001:db8:2:1::1"), Mask: net.CIDRMask(64, 128)}}
		if err := netlink.AddrDel(link, network); err != nil {
			return err
		}
		if on := put(t, onLink6); !slices.Equal(on, []string{"lo"}) {
			t.Errorf("stands on %v before the link has its network", on)
		}
		if err := netlink.AddrAdd(link, network); err != nil {
			return err
		}
		if on := put(t, onLink6); !slices.Equal(on, []string{"peer"}) {
			t.Errorf("stands on %v then", on)
		}
		return nil
	})
}

// The reason for all this: nobody answers for an on-link address on lo.
func TestOnLinkAddressIsAnsweredForOnItsInterface(t *testing.T) {
	in6(t, func(h, peer *testenv.Host) error {
		peer.Sysctl(t, "net.ipv6.neigh.balancer.retrans_time_ms", "50")
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		if err := add(lo.Attrs().Index, onLink6); err != nil {
			return err
		}
		l := h.Listen(t, "tcp", "[::]:80")
		dial := func() error {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			c, err := peer.DialContext(ctx, "tcp", netip.AddrPortFrom(onLink6, 80).String())
			if err == nil {
				c.Close()
			}
			return err
		}
		if err := dial(); err == nil {
			t.Error("an on-link address on lo is answered for: it could stay there")
		}
		wantUnheard(t, "peer")
		put(t, onLink6)
		if err := dial(); err != nil {
			t.Error(err)
		}
		wantUnheard(t, "")
		return l.Close()
	})
}

// wantUnheard wants the on-link address to be asked for in vain on an interface.
func wantUnheard(t *testing.T, want string) {
	t.Helper()
	look, err := LookAtAddresses()
	if err != nil {
		t.Fatal(err)
	}
	if name, err := look.Unheard(onLink6); err != nil || name != want {
		t.Errorf("asked for in vain on %q, %v, want %q", name, err, want)
	}
}

func TestInterfaceWithoutIPv6IsNamedWithWhatToDo(t *testing.T) {
	in6(t, func(h, _ *testenv.Host) error {
		const want = "IPv6 is disabled there: run: sysctl -w net.ipv6.conf.lo.disable_ipv6=0"
		for _, disabled := range []bool{false, true} {
			if disabled {
				if err := ofInterface("ipv6", "lo", "disable_ipv6", "1").Set(); err != nil {
					return err
				}
			}
			look, err := LookAtAddresses()
			if err != nil {
				return err
			}
			fault, err := look.Fault(vip6)
			if has := strings.Contains(fault, want); err != nil || has != disabled {
				t.Errorf("disabled %t: fault %q, %v", disabled, fault, err)
			}
			err = look.Put(vip6)
			if disabled && (err == nil || !strings.Contains(err.Error(), want)) || !disabled && err != nil {
				t.Errorf("disabled %t: put: %v", disabled, err)
			}
		}
		return nil
	})
}

func TestNextHopsOfBothFamilies(t *testing.T) {
	in6(t, func(h, peer *testenv.Host) error {
		link, err := netlink.LinkByName("peer")
		if err != nil {
			return err
		}
		index := link.Attrs().Index
		err = netlink.RouteAdd(&netlink.Route{
			LinkIndex: index, Gw: net.ParseIP("fe80::7"), Dst: &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)},
		})
		if err != nil {
			return err
		}
		backend := netip.MustParseAddr("2001:db8:2:1::9")
		hops, err := NextHops([]netip.Addr{netip.MustParseAddr("10.2.1.9"), backend}, nil)
		want := []Neighbour{{index, netip.MustParseAddr("10.2.1.9")}, {index, backend}, {index, netip.MustParseAddr("fe80::7")}}
		if err != nil || !slices.Equal(hops, want) {
			t.Errorf("next hops = %v, %v, want %v", hops, err, want)
		}
		permanent := netip.MustParseAddr("2001:db8:2:1::2")
		peer.Do(t, func() error { // who answers for it
			l, err := netlink.LinkByName("balancer")
			if err != nil {
				return err
			}
			return netlink.AddrAdd(l, &netlink.Addr{IPNet: &net.IPNet{IP: backend.AsSlice(), Mask: net.CIDRMask(64, 128)}})
		})
		hops = []Neighbour{{index, permanent}, {index, backend}}
		if todo, err := Unmanaged(hops); err != nil || !slices.Equal(todo, hops[1:]) {
			t.Errorf("unmanaged = %v, %v, want %v", todo, err, hops[1:])
		}
		// Who solicits without a packet that waits needs a link-local address.
		local := &netlink.Addr{IPNet: &net.IPNet{IP: net.ParseIP("fe80::1"), Mask: net.CIDRMask(64, 128)}}
		if err := netlink.AddrAdd(link, local); err != nil {
			return err
		}
		if err := hops[1].Manage(); err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		if unknown, err := AwaitNeighbours(ctx, hops); err != nil || len(unknown) != 0 {
			t.Errorf("unknown = %v, %v", unknown, err)
		}
		return hops[1].Release()
	})
}
