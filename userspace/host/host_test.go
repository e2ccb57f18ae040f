package host

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"fairlead/testenv"
	"fairlead/userspace/model"
)

var vip = netip.MustParseAddr("203.0.113.10")

// in runs f in a namespace of its own, cabled to a peer at 10.2.1.2.
func in(t *testing.T, f func(peer *testenv.Host) error) {
	t.Helper()
	h, peer := testenv.NewHost(t, "balancer"), testenv.NewHost(t, "peer")
	testenv.Cable(t, h, "10.2.1.1/24", peer, "10.2.1.2/24")
	h.Do(t, func() error { return f(peer) })
}

func TestRoutes(t *testing.T) {
	in(t, func(*testenv.Host) error {
		r, err := new(Routes).To(netip.MustParseAddr("10.2.1.2"))
		if err != nil || r.Interface != "peer" || r.NextHop.String() != "10.2.1.2" || r.Local {
			t.Errorf("on the link: %+v, %v", r, err)
		}
		if _, err := new(Routes).To(netip.MustParseAddr("192.0.2.1")); !errors.Is(err, ErrNoRoute) {
			t.Errorf("without a route: %v, want ErrNoRoute", err)
		}
		for _, kind := range []int{unix.RTN_BLACKHOLE, unix.RTN_PROHIBIT, unix.RTN_UNREACHABLE} {
			refusing := &netlink.Route{Dst: &net.IPNet{IP: net.IPv4(192, 0, 2, 0), Mask: net.CIDRMask(24, 32)}, Type: kind}
			if err := netlink.RouteAdd(refusing); err != nil {
				return err
			}
			if _, err := new(Routes).To(netip.MustParseAddr("192.0.2.1")); !errors.Is(err, ErrNoRoute) {
				t.Errorf("route of type %d: %v, want ErrNoRoute", kind, err)
			}
			if err := netlink.RouteDel(refusing); err != nil {
				return err
			}
		}
		err = netlink.RouteAdd(&netlink.Route{Dst: &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}, Gw: net.IPv4(10, 2, 1, 2)})
		if err != nil {
			return err
		}
		if r, err = new(Routes).To(netip.MustParseAddr("192.0.2.1")); err != nil || r.NextHop.String() != "10.2.1.2" {
			t.Errorf("through a gateway: %+v, %v", r, err)
		}
		hops, err := NextHops([]netip.Addr{netip.MustParseAddr("10.2.1.9"), netip.MustParseAddr("10.2.1.1")}, nil)
		want := []Neighbour{{r.Ifindex, netip.MustParseAddr("10.2.1.9")}, {r.Ifindex, netip.MustParseAddr("10.2.1.2")}}
		if err != nil || !slices.Equal(hops, want) {
			t.Errorf("next hops = %v, %v, want %v: one's own address has none", hops, err, want)
		}
		return nil
	})
}

func TestManagedNeighbourBecomesKnownByItself(t *testing.T) {
	in(t, func(*testenv.Host) error {
		link, err := netlink.LinkByName("peer")
		if err != nil {
			return err
		}
		n := Neighbour{link.Attrs().Index, netip.MustParseAddr("10.2.1.2")}
		hops := []Neighbour{n}
		if todo, err := Unmanaged(hops); err != nil || len(todo) != 0 {
			t.Errorf("unmanaged = %v, %v, want a permanent entry left alone", todo, err)
		}
		have, err := entries(hops)
		if err != nil {
			return err
		}
		permanent := have[n]
		if err := netlink.NeighDel(&permanent); err != nil {
			return err
		}
		if todo, err := Unmanaged(hops); err != nil || !slices.Equal(todo, hops) {
			t.Errorf("unmanaged = %v, %v, want %v", todo, err, hops)
		}
		if err := n.Manage(); err != nil {
			return err
		}
		if todo, err := Unmanaged(hops); err != nil || len(todo) != 0 {
			t.Errorf("unmanaged = %v, %v after Manage", todo, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		if unknown, err := AwaitNeighbours(ctx, []Neighbour{n}); err != nil || len(unknown) != 0 {
			t.Errorf("unknown = %v, %v", unknown, err)
		}
		if err := n.Release(); err != nil {
			t.Error(err)
		}
		if have, err := entries(hops); err != nil || have[n].FlagsExt&netlink.NTF_EXT_MANAGED != 0 {
			t.Errorf("after release: %+v, %v, want nothing", have, err)
		}
		return nil
	})
}

func TestUnknownNeighbourIsNamed(t *testing.T) {
	in(t, func(*testenv.Host) error {
		link, err := netlink.LinkByName("peer")
		if err != nil {
			return err
		}
		n := Neighbour{link.Attrs().Index, netip.MustParseAddr("10.2.1.77")}
		if err := n.Manage(); err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if unknown, err := AwaitNeighbours(ctx, []Neighbour{n}); err != nil || !slices.Equal(unknown, []Neighbour{n}) {
			t.Errorf("unknown = %v, %v, want %v", unknown, err, n)
		}
		return n.Release()
	})
}

func TestSocketsThatClash(t *testing.T) {
	h := testenv.NewHost(t, "balancer")
	h.EnableIPv6(t)
	h.Listen(t, "tcp", "127.0.0.1:8080")
	h.Listen(t, "tcp4", "0.0.0.0:22")
	h.ListenPacket(t, "udp", "127.0.0.1:53")
	h.Listen(t, "tcp", ":25")
	h.Do(t, func() error {
		sockets, err := Sockets()
		if err != nil {
			return err
		}
		for _, row := range []struct {
			name  string
			addr  string
			port  uint16
			proto model.Protocol
			want  bool
		}{
			{"same address and port", "127.0.0.1", 8080, model.TCP, true},
			{"another address", "203.0.113.10", 8080, model.TCP, false},
			{"another protocol", "127.0.0.1", 8080, model.UDP, false},
			{"a socket on every address", "203.0.113.10", 22, model.TCP, true},
			{"an unconnected UDP socket", "127.0.0.1", 53, model.UDP, true},
			{"another port", "127.0.0.1", 8081, model.TCP, false},
			{"IPv6, a socket on every IPv4 address", "2001:db8::10", 22, model.TCP, false},
			{"IPv6, a socket on every address", "2001:db8::10", 25, model.TCP, true},
			{"IPv4, a socket on every address", "203.0.113.10", 25, model.TCP, true},
		} {
			got := slices.ContainsFunc(sockets, func(s Socket) bool {
				return s.Clashes(netip.MustParseAddr(row.addr), row.port, row.port, row.proto)
			})
			if got != row.want {
				t.Errorf("%s: clash %t, want %t (%v)", row.name, got, row.want, sockets)
			}
		}
		return nil
	})
}

func TestFirewallRulesThatNameAnAddress(t *testing.T) {
	for _, row := range []struct {
		family   nftables.TableFamily
		vip, not netip.Addr
		offset   uint32 // of the destination in the IP header
	}{
		{nftables.TableFamilyIPv4, vip, vip.Next(), 16},
		{nftables.TableFamilyIPv6, vip6, vip6.Next(), 24},
	} {
		h := testenv.NewHost(t, "balancer")
		h.Do(t, func() error {
			c, err := nftables.New()
			if err != nil {
				return err
			}
			table := c.AddTable(&nftables.Table{Family: row.family, Name: "guard"})
			chain := c.AddChain(&nftables.Chain{Name: "input", Table: table})
			keyType := map[bool]nftables.SetDatatype{true: nftables.TypeIPAddr, false: nftables.TypeIP6Addr}[row.vip.Is4()]
			set := &nftables.Set{Table: table, Name: "refused", KeyType: keyType}
			if err := c.AddSet(set, []nftables.SetElement{{Key: row.vip.AsSlice()}}); err != nil {
				return err
			}
			load := &expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: row.offset, Len: uint32(row.vip.BitLen() / 8)}
			for _, match := range []expr.Any{
				&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: row.vip.AsSlice()},
				&expr.Lookup{SourceRegister: 1, SetName: set.Name, SetID: set.ID},
			} {
				c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{load, match, &expr.Verdict{Kind: expr.VerdictDrop}}})
			}
			if err := c.Flush(); err != nil {
				return err
			}
			rules, err := FirewallRules([]netip.Addr{row.not, row.vip})
			if want := (Rule{"guard", "input", row.vip}); err != nil || !slices.Equal(rules, []Rule{want, want}) {
				t.Errorf("rules = %v, %v, want %v by itself and in a set", rules, err, want)
			}
			return nil
		})
	}
}

func TestDevices(t *testing.T) {
	in(t, func(*testenv.Host) error {
		if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "plain", Flags: net.FlagUp}, PeerName: "far"}); err != nil {
			return err
		}
		for _, row := range []struct {
			name    string
			generic bool
			device  string
			want    bool
			why     bool
		}{
			{"lo is never a way out", true, "lo", false, true},
			{"a veth whose far end polls takes XDP frames", false, "peer", true, false},
			{"generic XDP sends out of anything Ethernet", true, "plain", true, false},
		} {
			devices, err := Devices(row.generic)
			if err != nil {
				return err
			}
			i := slices.IndexFunc(devices, func(d Device) bool { return d.Name == row.device })
			if i < 0 || devices[i].Transmits != row.want || (devices[i].Why != "") != row.why {
				t.Errorf("%s: %+v", row.name, devices)
			}
		}
		return nil
	})
}

func TestPartialChecksums(t *testing.T) {
	h := testenv.NewHost(t, "balancer")
	h.Do(t, func() error {
		near := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "near"}, PeerName: "far"}
		if err := netlink.LinkAdd(near); err != nil {
			return err
		}
		if why, err := PartialChecksums("near"); err != nil || why == "" {
			t.Errorf("a peer that offloads: %q, %v, want a reason", why, err)
		}
		return nil
	})
}
