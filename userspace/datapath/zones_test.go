package datapath

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"fairlead/loader"
	"fairlead/userspace/balance"
	"fairlead/userspace/model"
)

// clientZones returns the zones of clients of these networks.
func clientZones(of map[string]string) *model.ClientZones {
	all := map[netip.Prefix]string{}
	for text, zone := range of {
		all[netip.MustParsePrefix(text)] = zone
	}
	return model.NewClientZones(all)
}

var someZones = []*model.ClientZones{
	nil,
	clientZones(map[string]string{"10.1.0.0/16": "east", "10.2.0.0/16": "west", "2001:db8:1::/48": "west"}),
	clientZones(map[string]string{"10.1.0.0/16": "north", "10.2.0.0/16": "west", "2001:db8:1::/48": "east"}),
	clientZones(map[string]string{"2001:db8:1::/48": "west"}),
}

// addZones puts backends and some clients of a want into zones.
func addZones(rng *rand.Rand, w *Want) {
	zones := someZones[rng.IntN(len(someZones))]
	for i := range w.Services {
		s := &w.Services[i]
		s.Zone, s.ZoneThreshold, s.PanicThreshold = []string{"", "east"}[rng.IntN(2)], 1+rng.IntN(100), rng.IntN(101)
		for b := range s.Backends {
			s.Backends[b].Zone = []string{"", "east", "west"}[rng.IntN(3)]
		}
		if rng.IntN(3) > 0 {
			s.ClientZones = zones
		}
	}
}

// checkZones wants each zone of a service to have the backends of its duty, and
// its networks to name it.
func checkZones(t *testing.T, step int, r *rows, s *Service) {
	t.Helper()
	own := &r.services[r.listeners[s.listeners()[0]]]
	names := s.ClientZones.Names()
	zones := r.zonesOf(own)
	if len(zones) != len(names) {
		t.Fatalf("step %d: %s has zones in rows %v, want %v", step, s.Name, zones, names)
	}
	for k, row := range zones {
		z := &r.services[row]
		if r.names[row] != names[k] || z.Zone == 0 || z.Gen == 0 {
			t.Fatalf("step %d: row %d of %s is of %s: %+v, want the one of %s", step, row, s.Name, r.names[row], z, names[k])
		}
		duty := balance.DutyOf(&s.Service, names[k], s.Down, s.Shares)
		var want, got []string
		for _, i := range balance.Slots(&s.Service, duty.Weights) {
			want = append(want, s.Backends[i].Address.Addr().String())
		}
		for _, b := range r.at(z.Slots) {
			got = append(got, r.backends[b].Addr.Addr().String())
			if r.backends[b].State != backendUp || r.backends[b].Weight == 0 {
				t.Fatalf("step %d: %s: zone %s has backend %+v", step, s.Name, names[k], r.backends[b])
			}
		}
		if !slices.Equal(got, want) {
			t.Fatalf("step %d: table of %s for zone %s = %v, want %v", step, s.Name, names[k], got, want)
		}
		for p, name := range s.ClientZones.Networks {
			if got := r.clients[network{everyService, p}]; p.Addr().Is4() == s.Listen.Addr().Is4() && name == names[k] && got != z.Zone {
				t.Fatalf("step %d: %s is in zone %d, want %d", step, p, got, z.Zone)
			}
		}
	}
}

// zoned returns a service with two backends in the east and one in the west, and
// clients of both.
func zoned() Service {
	s := service("a", 80, 1, 2, 1)
	s.ZoneThreshold, s.Zone, s.ClientZones = 50, "east", someZones[1]
	s.Backends[0].Zone, s.Backends[1].Zone, s.Backends[2].Zone = "east", "east", "west"
	return s
}

func TestZonesOfClientsHaveTablesOfTheirOwn(t *testing.T) {
	r := empty(8)
	s := zoned()
	plan := mustPlan(t, r, &Want{Services: []Service{s}})
	execute(t, r, plan)
	checkZones(t, 0, r, &s)
	east, west := r.services[r.zonesOf(&r.services[0])[0]], r.services[r.zonesOf(&r.services[0])[1]]
	if east.Slots != r.services[0].Slots || west.Slots == east.Slots {
		t.Errorf("slots of east, of west and of others are %#x, %#x and %#x", east.Slots, west.Slots, r.services[0].Slots)
	}
	if r.services[0].Weights != 4 || r.backends[2].Weight != 1 {
		t.Errorf("all weigh %d, the one in the west %d", r.services[0].Weights, r.backends[2].Weight)
	}
	want := map[network]uint32{
		{everyService, netip.MustParsePrefix("10.1.0.0/16")}: 1, {everyService, netip.MustParsePrefix("10.2.0.0/16")}: 2,
	}
	if diff := cmp.Diff(want, r.clients, cmp.AllowUnexported(network{}), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Errorf("networks (-want +got):\n%s", diff)
	}

	execute(t, r, mustPlan(t, r, &Want{}))
	for i := range r.services {
		if r.services[i].State != serviceNone {
			t.Errorf("row %d is left: %+v", i, r.services[i])
		}
	}
	if len(r.clients) != 0 {
		t.Errorf("networks are left: %v", r.clients)
	}
}

// zoneOf returns the zone by whose slots clients of a network are served by the
// service in row 0, "" if by the service's own.
func zoneOf(r *rows, clients string) string {
	number := r.clients[network{everyService, netip.MustParsePrefix(clients)}]
	for _, row := range r.zonesOf(&r.services[0]) {
		if r.services[row].Zone == number {
			return r.names[row]
		}
	}
	return ""
}

// TestZonesThatComeAndGoMoveNoOtherClients looks at them while networks are written
// and rows are not.
func TestZonesThatComeAndGoMoveNoOtherClients(t *testing.T) {
	east, west := "10.1.0.0/16", "10.2.0.0/16"
	r := empty(16)
	w := &Want{Services: []Service{zoned()}}
	execute(t, r, mustPlan(t, r, w))
	for _, zones := range []map[string]string{
		{east: "east", west: "west", "10.9.0.0/16": "alpha"}, // sorts before the others
		{east: "east", west: "west", "10.9.0.0/16": "beta"},
		{east: "east", west: "west"},
		{east: "east", west: "west", "10.9.0.0/16": "alpha", "10.8.0.0/16": "beta"},
	} {
		w.Services[0].ClientZones = clientZones(zones)
		p := mustPlan(t, r, w)
		if err := r.putClients(p); err != nil {
			t.Fatal(err)
		}
		for network, zone := range zones {
			if now := zoneOf(r, network); now != zone && (now != "" || network == east || network == west) {
				t.Errorf("%v: clients of %s choose by %q meanwhile", zones, zone, now)
			}
		}
		execute(t, r, p)
		checkZones(t, 0, r, &w.Services[0])
		for network, zone := range zones {
			if now := zoneOf(r, network); now != zone {
				t.Errorf("%v: clients of %s choose by %q", zones, zone, now)
			}
		}
	}
}

// TestZonesLeadToNobodyWhomTheServiceCannotSendTo changes how a service forwards, and
// its backends at once: no zone may lead to a new one before the service's own row
// says how to send there, which is thus the first; or the last, when the kernel did not
// use its row before.
func TestZonesLeadToNobodyWhomTheServiceCannotSendTo(t *testing.T) {
	const dnat, full, proxy = model.ForwardDNAT, model.ForwardFullNAT, model.ForwardProxy
	for _, way := range [][2]model.Forward{{dnat, full}, {full, dnat}, {dnat, proxy}, {full, proxy}, {proxy, dnat}, {proxy, full}} {
		r := empty(16)
		w := &Want{Services: []Service{zoned()}, Sources: map[netip.Addr][]netip.Addr{}}
		s := &w.Services[0]
		forward := func(way model.Forward, net byte) {
			s.Forward, s.Proxy = way, way == proxy
			for i := range s.Backends {
				addr := netip.AddrFrom4([4]byte{10, net, byte(i), 9})
				s.Backends[i].Address, w.Sources[addr] = netip.AddrPortFrom(addr, 8080), addrs(net, 1)
			}
		}
		forward(way[0], 1)
		execute(t, r, mustPlan(t, r, w))
		forward(way[1], 2)
		p := mustPlan(t, r, w)
		at := 0
		if way[0] == proxy {
			at = 2
		}
		if len(p.services) != 3 || p.services[at].row != 0 {
			t.Errorf("%s to %s: rows %+v are written, want that of the service at %d", way[0], way[1], p.services, at)
		}
		execute(t, r, p)
		checkZones(t, 0, r, s)
	}
}

// TestHealthChangesZonesInPlace lets backends die, one after the other: no row
// moves, and nothing else is written.
func TestHealthChangesZonesInPlace(t *testing.T) {
	r := empty(8)
	w := &Want{Services: []Service{zoned()}}
	execute(t, r, mustPlan(t, r, w))
	zones := r.zonesOf(&r.services[0])
	for _, down := range [][]bool{{false, false, true}, {false, true, true}, {true, true, false}, {true, true, true}, {false, false, false}} {
		w.Services[0].Down = down
		p := mustPlan(t, r, w)
		if p.clients.len()+len(p.freshServices)+len(p.names) != 0 || len(p.services) > 3 {
			t.Errorf("%v: a plan writes %+v", down, p)
		}
		execute(t, r, p)
		checkZones(t, 0, r, &w.Services[0])
		if got := r.zonesOf(&r.services[0]); !slices.Equal(got, zones) {
			t.Errorf("%v: zones moved from rows %v to %v", down, zones, got)
		}
	}
}

// TestPanicOfAZoneIsUpForTheKernel lets most backends of the west die: its
// clients get them all the same, so none of them may count as down.
func TestPanicOfAZoneIsUpForTheKernel(t *testing.T) {
	r := empty(8)
	s := zoned()
	s.Backends = append(s.Backends, model.Backend{Address: netip.MustParseAddrPort("10.2.7.2:8080"), Weight: 1, Zone: "west"})
	s.PanicThreshold, s.Down = 100, []bool{false, false, true, true}
	execute(t, r, mustPlan(t, r, &Want{Services: []Service{s}}))
	checkZones(t, 0, r, &s)
	west := r.services[r.zonesOf(&r.services[0])[1]]
	if n := len(r.at(west.Slots)); n != 5 {
		t.Errorf("the west has %d slots, want all 5", n)
	}
}

func TestNetworksStandInTheTablesOfTheirServices(t *testing.T) {
	four, six, mixed := zoned(), ofIPv6(zoned()), zoned()
	six.ClientZones, mixed.ClientZones = four.ClientZones, four.ClientZones
	mixed.Listen, mixed.LastPort = netip.AddrPortFrom(four.Listen.Addr(), 90), 90
	mixed.Backends = ofIPv6(mixed).Backends
	got := map[string]uint32{}
	services := []Service{four, six, mixed}
	for n, zone := range networksOf(services, empty(1).numbersOf(services)) {
		got[n.prefix.String()] = zone
	}
	want := map[string]uint32{
		"10.1.0.0/16": 1, "10.2.0.0/16": 2, "2001:db8:1::/48": 2, "::ffff:10.1.0.0/112": 1, "::ffff:10.2.0.0/112": 2,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("networks (-want +got):\n%s", diff)
	}
}

func TestNeedsOfZones(t *testing.T) {
	state := &model.State{Services: []model.Service{zoned().Service}}
	needs := Needs(nil, state)
	if needs.Services != 3 || needs.Slots != 3*4*4 || needs.Clients != 2 || needs.Clients6 != 0 {
		t.Errorf("needs %+v", needs)
	}
	r := empty(8)
	execute(t, r, mustPlan(t, r, &Want{Services: []Service{zoned()}}))
	if again := Needs(&Writer{rows: r}, state); again != needs {
		t.Errorf("with the same there needs %+v, want %+v", again, needs)
	}
}

func TestPreviewOfZones(t *testing.T) {
	r := empty(8)
	s := zoned()
	s.ClientZones = nil
	execute(t, r, mustPlan(t, r, &Want{Services: []Service{s}}))
	preview := func(s Service) *Changes {
		c, err := (&Writer{rows: r}).Preview(&Want{Services: []Service{s}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	comes := preview(zoned())
	if diff := cmp.Diff([]FieldChange{{"client-zones", "0 networks", "2 new or changed, 0 gone"}}, comes.Settings); diff != "" {
		t.Errorf("settings (-want +got):\n%s", diff)
	}
	fields := []FieldChange{{"slots of zone east", "0", "3"}, {"slots of zone west", "0", "1"}}
	if len(comes.Services) != 1 {
		t.Fatalf("services %+v, want the one alone", comes.Services)
	}
	if diff := cmp.Diff(fields, comes.Services[0].Fields); diff != "" {
		t.Errorf("fields (-want +got):\n%s", diff)
	}
	execute(t, r, mustPlan(t, r, &Want{Services: []Service{zoned()}}))
	s = zoned()
	s.Down = []bool{false, false, true}
	if got, want := preview(s).Slots, (SlotShare{7, 1}); got != want {
		t.Errorf("slots %+v, want %+v", got, want)
	}
	zones := r.zoneViews(&r.services[0], r.homes())
	want := []ZoneView{{"east", 3, []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}}, {"west", 1, []netip.Prefix{netip.MustParsePrefix("10.2.0.0/16")}}}
	if diff := cmp.Diff(want, zones, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Errorf("zones (-want +got):\n%s", diff)
	}
}

// TestZonesGoRoundOnce reads rows that a writer of another version may have left.
func TestZonesGoRoundOnce(t *testing.T) {
	r := empty(4)
	r.services[1] = loader.Service{State: serviceZone, Zones: 3}
	r.services[2] = loader.Service{State: serviceZone, Zones: 2}
	if got := len(r.zonesOf(&loader.Service{Zones: 2})); got != model.MaxClientZones {
		t.Errorf("%d zones, want an end after %d", got, model.MaxClientZones)
	}
	if got := r.zonesOf(&loader.Service{Zones: 9}); got != nil {
		t.Errorf("zones %v beyond the end", got)
	}
	if !maps.Equal(r.zonesByName(&loader.Service{}), map[string]loader.Service{}) {
		t.Error("a service without zones has some")
	}
}

// BenchmarkZoneViews is what the networks of zones take of a view.
func BenchmarkZoneViews(b *testing.B) {
	const services, networks = 1000, 2000
	all := map[netip.Prefix]string{}
	for i := range networks {
		all[netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), 24)] = fmt.Sprint("zone", i%16)
	}
	zones := model.NewClientZones(all)
	w := &Want{}
	for i := range services {
		s := service("s", uint16(1000+i), 1)
		s.ClientZones = zones
		w.Services = append(w.Services, s)
	}
	have := empty(services * 17)
	p, err := makePlan(have, w)
	if err != nil {
		b.Fatal(err)
	}
	r := have.after(p)
	for b.Loop() {
		homes := r.homes()
		for i := range r.services {
			if s := &r.services[i]; s.State == serviceXDP {
				r.zoneViews(s, homes)
			}
		}
	}
}

func TestClientsOfNoZoneAreToldSoWhereThereAreZones(t *testing.T) {
	r := empty(3)
	r.services[1].Zones, r.names[2] = 3, "east"
	choice, zone := uint32(loader.LBToldPartTOLD_CHOICE), uint32(loader.LBToldPartTOLD_ZONE)
	for i, a := range []loader.Told{{}, {Parts: choice}, {Parts: choice, Service: 1}, {Parts: choice | zone, Service: 1, Zone: 2}} {
		got := r.clientZone(&loader.Answer{Told: a})
		if want := []string{"", "", "", "east"}[i]; (got != nil) != (i > 1) || got != nil && *got != want {
			t.Errorf("answer %d: zone %v, want %q, or none", i, got, want)
		}
	}
}

// TestWhoIsDownForSomeIsUnsure has one of two backends of the east die, and the
// only one of the west: a panic for clients of the west alone.
func TestWhoIsDownForSomeIsUnsure(t *testing.T) {
	s := service("web", 80, 1, 1, 1)
	s.Zone, s.ZoneThreshold, s.PanicThreshold, s.Down = "east", 50, 50, []bool{true, false, true}
	for i := range s.Backends {
		s.Backends[i].Zone = []string{"east", "east", "west"}[i]
	}
	for _, clients := range []*model.ClientZones{clientZones(map[string]string{"10.2.0.0/16": "west"}), nil} {
		s.ClientZones = clients
		r := empty(64)
		execute(t, r, mustPlan(t, r, &Want{Services: []Service{s}}))
		for i, b := range s.Backends {
			var row loader.Backend
			for _, have := range r.backends {
				if have.Addr == loader.AddressOf(b.Address.Addr()) {
					row = have
				}
			}
			unsure := uint8(0)
			if clients != nil && s.Down[i] {
				unsure = uint8(loader.LBBackendFlagBACKEND_UNSURE)
			}
			if row.State == 0 || row.Flags != unsure {
				t.Errorf("backend %d of a service with zones of clients %v: %+v, want flags %d", i, clients.Names(), row, unsure)
			}
		}
	}
}
