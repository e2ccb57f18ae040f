package datapath

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"fairlead/loader"
	"fairlead/userspace/model"
)

// empty returns the rows of maps that nobody has written yet.
func empty(n int) *rows {
	return &rows{
		services: make([]loader.Service, n), names: make([]string, n), backends: make([]loader.Backend, 4*n),
		listeners: map[listener]uint32{}, vips: map[netip.Addr]uint32{},
		slots: make([]uint32, 64*n), snat: make([]loader.Address, 8), devices: map[uint32]loader.Device{}, clients: map[network]uint32{},
	}
}

// A watched store checks after each step that no packet could meet something
// half-made.
type watched struct {
	*rows
	t *testing.T
}

// execute carries out a plan on rows.
func execute(t *testing.T, r *rows, p *plan) {
	t.Helper()
	if err := p.carryOut(&watched{r, t}); err != nil {
		t.Fatal(err)
	}
	consistent(t, r)
}

// putServices writes one row after the other, as the kernel sees them.
func (w *watched) putServices(puts []put[loader.Service]) error {
	for _, p := range puts {
		consistent(w.t, w.rows)
		w.services[p.row] = p.value
	}
	consistent(w.t, w.rows)
	return nil
}

func (w *watched) putBackends(puts []put[loader.Backend]) error {
	defer consistent(w.t, w.rows)
	return w.rows.putBackends(puts)
}

func (w *watched) putSlots(runs []run[uint32]) error {
	defer consistent(w.t, w.rows)
	return w.rows.putSlots(runs)
}

func (w *watched) setListeners(c changes[listener, uint32]) error {
	defer consistent(w.t, w.rows)
	return w.rows.setListeners(c)
}

func (w *watched) deleteVIPs(keys []netip.Addr) error {
	defer consistent(w.t, w.rows)
	return w.rows.deleteVIPs(keys)
}

// consistent fails unless every slot of every service names a backend of it.
func consistent(t *testing.T, r *rows) {
	t.Helper()
	for i := range r.services {
		s := &r.services[i]
		if s.State == serviceNone || s.State == serviceZone {
			continue
		}
		tables := []uint64{s.Slots, s.SlotsAll}
		for _, zone := range r.zonesOf(s) {
			if state := r.services[zone].State; state == serviceNone && r.services[zone] == (loader.Service{Gen: r.services[zone].Gen}) {
				continue // no client's zone, so the service's own table serves
			} else if state != serviceZone {
				t.Fatalf("service %d: the row of a zone, %d, has state %d", i, zone, r.services[zone].State)
			}
			tables = append(tables, r.services[zone].Slots, r.services[zone].SlotsAll)
		}
		for k, table := range tables { // for now, as if all were up, and so on
			if table != 0 && r.at(table) == nil {
				t.Fatalf("service %d: table %#x lies outside the slots map", i, table)
			}
			for _, b := range r.at(table) {
				if s.State == serviceXDP && r.vips[r.backends[b].Addr.Addr()]&uint32(loader.LBAddressUseADDRESS_BACKEND) == 0 {
					t.Fatalf("service %d: nobody knows the fragments of backend row %d", i, b)
				}
				if k%2 == 0 && r.backends[b].State == backendDown {
					t.Fatalf("service %d: slot names backend row %d, which is down", i, b)
				}
				if r.backends[b].State == backendNone || r.backends[b].Service != uint32(i) {
					t.Fatalf("service %d: slot names backend row %d of service %d, state %d", i, b, r.backends[b].Service, r.backends[b].State)
				}
			}
		}
	}
	for i, s := range r.services {
		_, ok := r.clients[network{uint32(i), everybody(s.Addr.Addr())}]
		if s.State != serviceNone && s.Flags&serviceListed != 0 && !ok {
			t.Fatalf("service %d has lists, and no rule for everybody else", i)
		}
	}
	for l, id := range r.listeners {
		if r.services[id].State == serviceNone {
			t.Fatalf("listener %v names service row %d, which is free", l, id)
		}
	}
}

// everybody is the network of all clients of a family.
func everybody(of netip.Addr) netip.Prefix {
	all, err := of.Prefix(0)
	if err != nil {
		panic(err) // a length of 0 always fits
	}
	return all
}

func service(name string, port uint16, weights ...int) Service {
	s := Service{Service: model.Service{
		Name: name, Listen: netip.AddrPortFrom(netip.MustParseAddr("203.0.113.1"), port), LastPort: port,
		Protocol: model.TCP, Forward: model.ForwardDNAT, Balance: model.Balance{Method: model.RoundRobin}, OnDown: model.DownReset,
	}}
	for i, w := range weights {
		s.Backends = append(s.Backends, model.Backend{
			Address: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 2, byte(i), 2}), 8080), Weight: w,
		})
	}
	return s
}

// sixth returns the IPv6 address that ofIPv6 has for one of IPv4.
func sixth(a netip.Addr) netip.Addr {
	four := a.As4()
	return netip.AddrFrom16([16]byte{0: 0x20, 1: 0x01, 2: 0x0d, 3: 0xb8, 12: four[0], 13: four[1], 14: four[2], 15: four[3]})
}

// ofIPv6 returns a service like s.
func ofIPv6(s Service) Service {
	networks := func(list []netip.Prefix) (all []netip.Prefix) {
		for _, p := range list {
			all = append(all, netip.PrefixFrom(sixth(p.Addr()), v4Bits+p.Bits()))
		}
		return all
	}
	s.Listen = netip.AddrPortFrom(sixth(s.Listen.Addr()), s.Listen.Port())
	s.Clients.Allow, s.Clients.Deny = networks(s.Clients.Allow), networks(s.Clients.Deny)
	s.Backends = slices.Clone(s.Backends)
	for i := range s.Backends {
		b := &s.Backends[i]
		b.Address = netip.AddrPortFrom(sixth(b.Address.Addr()), b.Address.Port())
	}
	return s
}

func mustPlan(t *testing.T, r *rows, w *Want) *plan {
	t.Helper()
	p, err := makePlan(r, w)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// table returns the addresses in a service's slots, in order.
func table(r *rows, id uint32) (addrs []string) {
	for _, b := range r.at(r.services[id].Slots) {
		addrs = append(addrs, r.backends[b].Addr.Addr().String())
	}
	return addrs
}

func TestPlanIsIdempotent(t *testing.T) {
	r := empty(8)
	w := &Want{Services: []Service{service("a", 80, 3, 2, 1), service("b", 81, 1)}, Devices: map[uint32]Device{2: {TX: true}, 3: {}}}
	w.Services[0].Down = []bool{false, true, false}
	execute(t, r, mustPlan(t, r, w))
	if p := mustPlan(t, r, w); !p.empty() {
		t.Errorf("a second plan writes %d entries, want 0: %+v", p.writes(), p)
	}
}

func TestBackendThatComesBackKeepsItsRow(t *testing.T) {
	r := empty(4)
	w := &Want{Services: []Service{service("a", 80, 1, 1)}}
	execute(t, r, mustPlan(t, r, w))
	before := slices.Clone(r.backends)
	slotsBefore := r.services[0].Slots

	w.Services[0].Down = []bool{true, false}
	execute(t, r, mustPlan(t, r, w))
	if got := table(r, 0); !slices.Equal(got, []string{"10.2.1.2"}) {
		t.Errorf("table with one down = %v", got)
	}
	if all := len(r.at(r.services[0].SlotsAll)); all != 2 {
		t.Errorf("table of all has %d slots, want 2", all)
	}
	if r.backends[0].Gen != before[0].Gen || r.backends[0].State != backendDown {
		t.Errorf("row of the backend that is down = %+v", r.backends[0])
	}
	w.Services[0].Down = nil
	execute(t, r, mustPlan(t, r, w))
	if diff := cmp.Diff(before, r.backends); diff != "" {
		t.Errorf("rows after coming back (-want +got):\n%s", diff)
	}
	if r.services[0].Slots != slotsBefore {
		t.Errorf("table = %#x, want the first one, %#x, again", r.services[0].Slots, slotsBefore)
	}
}

func TestRemovedRowsGetANewGeneration(t *testing.T) {
	r := empty(1)
	execute(t, r, mustPlan(t, r, &Want{Services: []Service{service("a", 80, 1)}}))
	old, oldBackend := r.services[0], r.backends[0]
	execute(t, r, mustPlan(t, r, &Want{}))
	if r.services[0].State != serviceNone || len(r.listeners) != 0 || len(r.vips) != 0 {
		t.Fatalf("rows after removal: %+v, %v", r.services[0], r.listeners)
	}
	execute(t, r, mustPlan(t, r, &Want{Services: []Service{service("a", 80, 1)}}))
	if r.services[0].Gen == old.Gen || r.backends[0].Gen == oldBackend.Gen {
		t.Errorf("generations %d, %d are used again", old.Gen, oldBackend.Gen)
	}
}

func TestRenamedServiceKeepsItsRow(t *testing.T) {
	r := empty(2)
	execute(t, r, mustPlan(t, r, &Want{Services: []Service{service("a", 80, 1)}}))
	gen := r.services[0].Gen
	p := mustPlan(t, r, &Want{Services: []Service{service("b", 80, 1)}})
	if len(p.names) != 1 || p.writes() != 1 {
		t.Errorf("renaming writes %d entries, want the name alone", p.writes())
	}
	execute(t, r, p)
	if r.services[0].Gen != gen || r.names[0] != "b" {
		t.Errorf("row = %+v, name %q", r.services[0], r.names[0])
	}
}

func TestChangedPortRangeKeepsItsRow(t *testing.T) {
	r := empty(2)
	s := service("a", 8000, 1)
	s.LastPort = 8003
	execute(t, r, mustPlan(t, r, &Want{Services: []Service{s}}))
	before := r.services[0]
	s.LastPort = 8001
	execute(t, r, mustPlan(t, r, &Want{Services: []Service{s}}))
	if got := r.services[0]; got.Gen != before.Gen || be16(got.LastPort) != 8001 || got.Slots != before.Slots {
		t.Errorf("row = %+v, was %+v", got, before)
	}
	if len(r.listeners) != 2 {
		t.Errorf("%d listeners, want 2", len(r.listeners))
	}
}

func TestFullMapsAreSaidSo(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*rows)
	}{
		{"services", func(r *rows) { r.services, r.names = r.services[:1], r.names[:1] }},
		{"backends", func(r *rows) { r.backends = r.backends[:1] }},
		{"slots", func(r *rows) { r.slots = r.slots[:1] }},
	} {
		r := empty(2)
		test.change(r)
		_, err := makePlan(r, &Want{Services: []Service{service("a", 80, 1), service("b", 81, 1, 1)}})
		if !errors.Is(err, ErrFull) {
			t.Errorf("%s: error %v, want ErrFull", test.name, err)
		}
	}
}

// randomWant returns up to eight services of both families.
func randomWant(rng *rand.Rand) *Want {
	w := &Want{Devices: map[uint32]Device{uint32(rng.IntN(3)): {TX: rng.IntN(2) == 0}}}
	for i := range rng.IntN(8) {
		weights := make([]int, 1+rng.IntN(4))
		down := make([]bool, len(weights))
		for j := range weights {
			weights[j], down[j] = rng.IntN(4), rng.IntN(3) == 0
		}
		s := service(fmt.Sprint("s", i), uint16(80+10*i), weights...)
		s.LastPort += uint16(rng.IntN(3))
		s.Down, s.Proxy, s.Local = down, rng.IntN(4) == 0, rng.IntN(2) == 0
		s.Clients = randomClients(rng)
		if rng.IntN(2) == 0 {
			s = ofIPv6(s)
		}
		w.Services = append(w.Services, s)
	}
	addZones(rng, w)
	return w
}

// TestRandomChanges makes thousands of plans, each from what the last one left,
// and checks that none meets a half-made service and that each gets there.
func TestRandomChanges(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	r := empty(64)
	for step := range 3000 {
		w := randomWant(rng)
		execute(t, r, mustPlan(t, r, w))
		if p := mustPlan(t, r, w); !p.empty() {
			t.Fatalf("step %d: a second plan writes %d entries", step, p.writes())
		}
		for i := range w.Services {
			checkService(t, step, r, &w.Services[i])
		}
	}
}

func checkService(t *testing.T, step int, r *rows, s *Service) {
	t.Helper()
	duties := s.duties()
	tables := s.tables(&duties)[0]
	checkClients(t, step, r, s)
	checkZones(t, step, r, s)
	for _, l := range s.listeners() {
		id, ok := r.listeners[l]
		if !ok {
			t.Fatalf("step %d: %s has no listener %v", step, s.Name, l)
		}
		var want []string
		for _, i := range tables.up {
			want = append(want, s.Backends[i].Address.Addr().String())
		}
		if got := table(r, id); !slices.Equal(got, want) {
			t.Fatalf("step %d: table of %s = %v, want %v", step, s.Name, got, want)
		}
	}
}
