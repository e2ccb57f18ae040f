package datapath

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"fairlead/loader"
	"fairlead/userspace/model"
)

// both is a service of each family, with lists, limits and sources.
func both() *Want {
	four := service("four", 80, 1, 2)
	four.LastPort, four.Forward = 82, model.ForwardFullNAT
	four.Clients = model.Clients{Allow: networks("10.0.0.0/8", "198.51.100.7/32"), Limit: model.Limit{Rate: 3, Burst: 7, Prefix: 24}}
	six := ofIPv6(four)
	six.Name, six.Clients.Limit.Prefix = "six", 48
	w := &Want{Services: []Service{four, six}, Sources: map[netip.Addr][]netip.Addr{}}
	for _, s := range w.Services {
		for _, b := range s.Backends {
			w.Sources[b.Address.Addr()] = []netip.Addr{s.Listen.Addr()}
		}
	}
	return w
}

func TestRowsOfBothFamiliesAreWrittenAndReadBack(t *testing.T) {
	m := sizedMaps(t, loader.Sizes{Services: 2, Backends: 4, Slots: 64, Listeners: 3, Listeners6: 3, Flows: 64, Flows6: 64})
	w, err := New(m)
	if err != nil {
		t.Fatal(err)
	}
	want := both()
	wantWrites(t, w, want, -1)
	again, err := New(m)
	if err != nil {
		t.Fatal(err)
	}
	wantWrites(t, again, want, 0)
	v, err := Read(m)
	if err != nil {
		t.Fatal(err)
	}
	six := v.Services[1]
	wantView := ServiceView{
		Name: "six", Listen: "[2001:db8::cb00:7101]:80-82", Protocol: model.TCP, Rung: "xdp", OnDown: "reset", FullNAT: true, Balance: "round-robin", Slots: 3,
		Clients: &ClientsView{
			Allow: networks("2001:db8::a00:0/104", "2001:db8::c633:6407/128"), Deny: networks("::/0"),
			Limit: &LimitView{Rate: 3, Burst: 7, Prefix: 48},
		},
		Backends: []BackendView{
			{Address: "[2001:db8::a02:2]:8080", State: "up", Weight: 1, Slots: 1, Sources: []netip.Addr{want.Services[1].Listen.Addr()}},
			{Address: "[2001:db8::a02:102]:8080", State: "up", Weight: 2, Slots: 2, Sources: []netip.Addr{want.Services[1].Listen.Addr()}},
		},
	}
	if diff := cmp.Diff(wantView, six, cmpopts.EquateComparable(netip.Prefix{}, netip.Addr{})); diff != "" {
		t.Errorf("view (-want +got):\n%s", diff)
	}
	wantWrites(t, again, &Want{}, -1)
	for name, left := range map[string]int{
		"listeners6": entriesOf[loader.Listener6](t, m.Listeners6), "vips6": entriesOf[loader.Address](t, m.VIPs6),
		"clients6": entriesOf[loader.ClientPrefix6](t, m.Clients6), "listeners": entriesOf[loader.Listener](t, m.Listeners),
	} {
		if left != 0 {
			t.Errorf("%d entries of %s are left", left, name)
		}
	}
}

func TestStandbyFlowsOfBothFamilies(t *testing.T) {
	m := sizedMaps(t, loader.Sizes{Flows: 64, Flows6: 64})
	for i, virtual := range []string{"203.0.113.1:53", "[2001:db8::1]:53"} {
		client := netip.AddrPortFrom(netip.MustParseAddrPort(virtual).Addr().Next(), 4000)
		if err := HoldStandby(m, client, netip.MustParseAddrPort(virtual)); err != nil {
			t.Error(err)
		}
		if four, six := entriesOf[loader.FlowKey](t, m.Standby), entriesOf[loader.FlowKey6](t, m.Standby6); four != 1 || six != i {
			t.Errorf("after %s: %d and %d flows are held", virtual, four, six)
		}
	}
	six := netip.MustParseAddrPort("[2001:db8::2]:4000")
	for range 2 {
		if err := ReleaseStandby(m, six, netip.MustParseAddrPort("[2001:db8::1]:53")); err != nil {
			t.Error(err)
		}
	}
	if err := ClearStandby(m); err != nil {
		t.Error(err)
	}
	if four, six := entriesOf[loader.FlowKey](t, m.Standby), entriesOf[loader.FlowKey6](t, m.Standby6); four+six != 0 {
		t.Errorf("%d and %d flows are left", four, six)
	}
}

func TestWithoutIPv6(t *testing.T) {
	m := newMaps(t)
	w, err := New(m)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Reconcile(&Want{Services: []Service{ofIPv6(service("six", 80, 1))}}); !errors.Is(err, ErrFull) {
		t.Errorf("a service of IPv6: %v, want %v", err, ErrFull)
	}
	if _, err := w.Reconcile(&Want{Services: []Service{service("four", 80, 1)}}); err != nil {
		t.Errorf("one of IPv4 then: %v", err)
	}
	client, virtual := netip.MustParseAddrPort("[2001:db8::2]:4000"), netip.MustParseAddrPort("[2001:db8::1]:53")
	if err := errors.Join(HoldStandby(m, client, virtual), ReleaseStandby(m, client, virtual)); err != nil {
		t.Errorf("datagrams that the kernel leaves anyway: %v", err)
	}
}

func entriesOf[K comparable](t *testing.T, m *ebpf.Map) int {
	t.Helper()
	all, err := loader.ReadHash[K, uint32](m)
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}
