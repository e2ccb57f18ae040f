package host

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"fairlead/testenv"
)

// lend gives the interface to the peer an address with a lifetime.
func lend(t *testing.T, cidr string, flags, preferred int) {
	t.Helper()
	link, err := netlink.LinkByName("peer")
	if err != nil {
		t.Fatal(err)
	}
	ip, network, err := net.ParseCIDR(cidr)
	if err != nil {
		t.Fatal(err)
	}
	err = netlink.AddrReplace(link, &netlink.Addr{
		IPNet: &net.IPNet{IP: ip, Mask: network.Mask}, Flags: flags | unix.IFA_F_NODAD, ValidLft: 3600, PreferedLft: preferred,
	})
	if err != nil {
		t.Fatal(err)
	}
}

// prefer makes an address the one that the kernel sends from to the peer.
func prefer(t *testing.T, source string) {
	t.Helper()
	link, err := netlink.LinkByName("peer")
	if err != nil {
		t.Fatal(err)
	}
	err = netlink.RouteReplace(&netlink.Route{
		LinkIndex: link.Attrs().Index, Src: net.ParseIP(source), Priority: 1,
		Dst: &net.IPNet{IP: net.ParseIP("2001:db8:2:1::2"), Mask: net.CIDRMask(128, 128)},
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestSourcesLast(t *testing.T) {
	peer, own := netip.MustParseAddr("2001:db8:2:1::2"), "2001:db8:2:1::1"
	for _, row := range []struct {
		name    string
		prepare func(t *testing.T)
		want    string
	}{
		{"one permanent address", func(*testing.T) {}, own},
		{"a permanent one beside a lent one", func(t *testing.T) {
			lend(t, "2001:db8:2:1::aa/64", 0, 3600)
			prefer(t, "2001:db8:2:1::aa")
		}, own},
		{"the kernel's of two permanent ones", func(t *testing.T) {
			link, err := netlink.LinkByName("peer")
			if err != nil {
				t.Fatal(err)
			}
			addr := &netlink.Addr{IPNet: &net.IPNet{IP: net.ParseIP("2001:db8:2:1::9"), Mask: net.CIDRMask(64, 128)}, Flags: unix.IFA_F_NODAD}
			if err := netlink.AddrAdd(link, addr); err != nil {
				t.Fatal(err)
			}
			prefer(t, "2001:db8:2:1::9")
		}, "2001:db8:2:1::9"},
		{"a lent one of the same prefix, not a permanent one of another", func(t *testing.T) {
			lend(t, "2001:db8:77::aa/64", 0, 3600)
			lend(t, "2001:db8:77::bb/64", 0, 0)
			prefer(t, "2001:db8:77::bb")
		}, "2001:db8:77::aa"},
		{"a permanent one of another prefix, not a deprecated one", func(t *testing.T) {
			lend(t, "2001:db8:77::bb/64", 0, 0)
			prefer(t, "2001:db8:77::bb")
		}, own},
		{"a service address, which is deprecated", func(t *testing.T) {
			put(t, netip.MustParseAddr("2001:db8:2:1::3"))
			prefer(t, "2001:db8:2:1::3")
		}, own},
		{"what an administrator has put on another interface", func(t *testing.T) {
			put(t, vip6)
			prefer(t, vip6.String())
		}, vip6.String()},
	} {
		t.Run(row.name, func(t *testing.T) {
			in6(t, func(h, _ *testenv.Host) error {
				row.prepare(t)
				got, err := new(Routes).Source(peer)
				if err != nil || got.String() != row.want {
					t.Errorf("source %s, %v, want %s", got, err, row.want)
				}
				return nil
			})
		})
	}
}

func TestSourcesAreNotTemporary(t *testing.T) {
	in6(t, func(h, _ *testenv.Host) error {
		if err := ofInterface("ipv6", "peer", "use_tempaddr", "2").Set(); err != nil {
			return err
		}
		// The kernel makes a temporary address of this one, and prefers it.
		lend(t, "2001:db8:2:1::aa/64", unix.IFA_F_MANAGETEMPADDR, 3600)
		peer, own := netip.MustParseAddr("2001:db8:2:1::2"), netip.MustParseAddr("2001:db8:2:1::1")
		var temporary netip.Addr
		for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
			r, err := new(Routes).To(peer)
			if err != nil || time.Now().After(deadline) {
				t.Fatalf("the kernel sends from %s, %v", r.Source, err)
			}
			if temporary = r.Source; temporary != own && temporary.String() != "2001:db8:2:1::aa" {
				break
			}
		}
		if got, err := new(Routes).Source(peer); err != nil || got != own {
			t.Errorf("source %s, %v, want %s, not the temporary %s", got, err, own, temporary)
		}
		return nil
	})
}
