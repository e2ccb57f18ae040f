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

// between is a service of each family whose backends are of the other one.
func between() *Want {
	w := both()
	four, six := &w.Services[0], &w.Services[1]
	four.Backends, six.Backends = six.Backends, four.Backends
	for b := range w.Sources {
		w.Sources[b] = []netip.Addr{b.Prev()}
	}
	w.Settings = SettingsOf(&model.State{Services: []model.Service{four.Service, six.Service}})
	return w
}

func TestRowsBetweenFamiliesStandAmongThoseOfIPv6(t *testing.T) {
	state := &model.State{}
	for _, s := range between().Services {
		state.Services = append(state.Services, s.Service)
	}
	sizes := Needs(nil, state)
	if !sizes.Mixed || sizes.Listeners != 0 || sizes.VIPs != 0 || sizes.Clients != 0 || sizes.Listeners6 != 6 || sizes.VIPs6 != 6 {
		t.Errorf("sizes are %+v", sizes)
	}
	m := sizedMaps(t, sizes)
	w, err := New(m)
	if err != nil {
		t.Fatal(err)
	}
	wantWrites(t, w, both(), -1)
	wantWrites(t, w, between(), -1)
	wantWrites(t, w, between(), 0)
	again, err := New(m)
	if err != nil {
		t.Fatal(err)
	}
	wantWrites(t, again, between(), 0)
	for name, n := range map[string]int{
		"listeners": entriesOf[loader.Listener](t, m.Listeners), "vips": entriesOf[uint32](t, m.VIPs), "clients": entriesOf[loader.ClientPrefix](t, m.Clients),
	} {
		if n != 0 {
			t.Errorf("%d entries of %s are left", n, name)
		}
	}
	v, err := Read(m)
	if err != nil {
		t.Fatal(err)
	}
	want := &ClientsView{Allow: networks("10.0.0.0/8", "198.51.100.7/32"), Deny: networks("0.0.0.0/0"), Limit: &LimitView{Rate: 3, Burst: 7, Prefix: 24}}
	if diff := cmp.Diff(want, v.Services[0].Clients, cmpopts.EquateComparable(netip.Prefix{})); diff != "" {
		t.Errorf("clients of IPv4 (-want +got):\n%s", diff)
	}
	if first, last := m.ControlView().SourcePorts(); first != 10000 || last != 19999 {
		t.Errorf("flows of one family have ports %d-%d", first, last)
	}
	if first, n := m.ControlView().MixedPorts(); first != 20000 || n != 10000 {
		t.Errorf("flows to IPv4 have %d ports from %d on", n, first)
	}
	wantWrites(t, again, both(), -1)
	if _, n := m.ControlView().MixedPorts(); n != 0 {
		t.Errorf("flows to IPv4 still have %d ports", n)
	}
}

func TestStandbyFlowsOfBothFamilies(t *testing.T) {
	m := sizedMaps(t, loader.Sizes{Flows: 64, Flows6: 64})
	for i, virtual := range []string{"203.0.113.1:53", "[2001:db8::1]:53"} {
		client := netip.AddrPortFrom(netip.MustParseAddrPort(virtual).Addr().Next(), 4000)
		if err := HoldStandby(m, client, netip.MustParseAddrPort(virtual)); err != nil {
			t.Error(err)
		}
		if four, six := entriesOf[loader.FlowKey](t, m.Standby), entriesOf[loader.FlowKey6](t, m.Standby6); four != 1 || six != i+1 { // who is asked for IPv4 may be the program between families
			t.Errorf("after %s: %d and %d flows are held", virtual, four, six)
		}
	}
	six := netip.MustParseAddrPort("[2001:db8::2]:4000")
	for range 2 {
		if err := ReleaseStandby(m, six, netip.MustParseAddrPort("[2001:db8::1]:53")); err != nil {
			t.Error(err)
		}
	}
	if err := ClearStandby(m, nil); err != nil {
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
