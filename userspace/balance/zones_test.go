package balance

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"fairlead/userspace/model"
)

// zonesOf returns a service with two backends in the east, three in the west and
// clients of both; the balancer is in the east.
func zonesOf(b model.Balance, weights ...int) *model.Service {
	s := serviceOf(b, weights...)
	for i := range s.Backends {
		s.Backends[i].Zone = []string{"east", "west"}[min(i/2, 1)]
	}
	s.Zone, s.ZoneThreshold = "east", 50
	s.ClientZones = model.NewClientZones(map[netip.Prefix]string{
		netip.MustParsePrefix("10.1.0.0/16"): "east", netip.MustParsePrefix("10.2.0.0/16"): "west",
		netip.MustParsePrefix("10.2.3.0/24"): "north",
	})
	return s
}

func TestDutiesOfZones(t *testing.T) {
	s := zonesOf(model.Balance{}, 1, 2, 3, 4, 5)
	s.PanicThreshold = 60
	down := []bool{false, false, false, true, true}
	all := DutiesOf(s, down, nil)
	if len(all) != 4 {
		t.Fatalf("%d duties, want those of no zone, the east, the north and the west", len(all))
	}
	wantDuty(t, "no zone", all[0], model.ServingZone, []int{1, 2, 0, 0, 0})
	wantDuty(t, "east", all[1], model.ServingZone, []int{1, 2, 0, 0, 0})
	wantDuty(t, "north", all[2], model.ServingUp, []int{1, 2, 3, 0, 0})
	wantDuty(t, "west", all[3], model.ServingUp, []int{1, 2, 3, 0, 0})
	for i, want := range []int{1, 2, 3, 0, 0} {
		if all.Weight(i) != want || all.Down(i) != down[i] {
			t.Errorf("backend %d weighs %d, down %t; want %d", i, all.Weight(i), all.Down(i), want)
		}
	}
	s.PanicThreshold = 61 // the west's clients get everybody, and nobody is down then
	all = DutiesOf(s, down, nil)
	wantDuty(t, "panic", all[3], model.ServingPanic, []int{1, 2, 3, 4, 5})
	for i := range s.Backends {
		if all.Down(i) || all.Weight(i) != i+1 {
			t.Errorf("in a panic backend %d weighs %d, down %t", i, all.Weight(i), all.Down(i))
		}
	}
}

func TestClientsChooseInTheirZone(t *testing.T) {
	clients := map[string]string{"192.0.2.1": "east", "10.1.2.3": "east", "10.2.2.3": "west", "10.2.3.4": "everywhere"}
	in := map[string][]bool{
		"east": {true, true, false, false, false}, "west": {false, false, true, true, true}, "everywhere": {true, true, true, true, true},
	}
	for _, m := range everyMethod {
		c := chooserOf(zonesOf(model.Balance{Method: m, TableSize: 31}, 1, 1, 1, 1, 1))
		for client, zone := range clients {
			got := make([]bool, 5)
			for port := range uint16(300) {
				from := netip.AddrPortFrom(netip.MustParseAddr(client), 1000+port)
				if m == model.SourceHash { // by address
					b := from.Addr().As4()
					b[3] = byte(port)
					from = netip.AddrPortFrom(netip.AddrFrom4(b), 1000)
				}
				i, done, ok := c.Choose(from, virtual, nil)
				if !ok {
					t.Fatal("nothing to choose")
				}
				done()
				got[i] = true
			}
			if diff := cmp.Diff(in[zone], got); diff != "" {
				t.Errorf("%s: backends of %s (-want +got):\n%s", m, client, diff)
			}
		}
	}
}

// TestEachZoneHasTurnsOfItsOwn lets two clients come one after the other: shared
// turns would give each of them half of its backends alone.
func TestEachZoneHasTurnsOfItsOwn(t *testing.T) {
	s := zonesOf(model.Balance{}, 1, 1, 1, 1)
	c := chooserOf(s)
	var got [4]int
	for range 10 {
		for _, client := range []string{"10.1.2.3:1000", "10.2.2.3:1000"} {
			i, _, _ := c.Choose(netip.MustParseAddrPort(client), virtual, nil)
			got[i]++
		}
		c = NewChooser(s, DutiesOf(s, nil, nil), c)
	}
	if want := [4]int{5, 5, 5, 5}; got != want {
		t.Errorf("flows %v, want %v", got, want)
	}
}

func TestAClientStaysWithABackendOfAnotherZone(t *testing.T) {
	s := zonesOf(model.Balance{}, 1, 1, 1)
	s.Affinity = 1e9 * 3600
	west := netip.MustParseAddrPort("10.2.2.3:1000")
	c := NewChooser(s, DutiesOf(s, []bool{false, false, true}, nil), nil)
	away, _, _ := c.Choose(west, virtual, nil)
	c = NewChooser(s, DutiesOf(s, nil, nil), c)
	if again, _, _ := c.Choose(west, virtual, nil); again != away || away == 2 {
		t.Errorf("backend %d, then %d, want the same of the east", away, again)
	}
}

// TestNobodyStaysWithADeadBackend lets one of two backends of the east die, and all of
// the west: a panic for clients of the west, who get everybody, but none for others.
func TestNobodyStaysWithADeadBackend(t *testing.T) {
	s := zonesOf(model.Balance{}, 1, 1, 1, 1, 1, 1)
	s.PanicThreshold, s.Affinity = 50, 1e9*3600
	for _, client := range []string{"10.1.2.3:1000", "10.2.2.3:1000", "192.0.2.1:1000"} {
		from := netip.MustParseAddrPort(client)
		c := NewChooser(s, DutiesOf(s, []bool{false, true, true, true, true, true}, nil), nil)
		c.stay.put(network(s, from.Addr()), s.Backends[0].Address, time.Now())
		if first, _, _ := c.Choose(from, virtual, nil); first != 0 {
			t.Errorf("%s, tied to backend 0, gets %d", client, first)
		}
		c = NewChooser(s, DutiesOf(s, []bool{true, false, true, true, true, true}, nil), c)
		c.turns["west"].Store(1) // which is not that of backend 0
		if again, _, _ := c.Choose(from, virtual, nil); again == 0 {
			t.Errorf("%s stays with backend 0, which is dead", client)
		}
	}
}

// TestBoundsAreOfAllZones loads the east: what its backends may have is a share of
// all flows by all weights.
func TestBoundsAreOfAllZones(t *testing.T) {
	s := zonesOf(model.Balance{Method: model.Maglev, TableSize: 31, MaxLoad: 200}, 1, 1, 1, 1)
	c := chooserOf(s)
	for port := range uint16(100) {
		c.Choose(netip.AddrPortFrom(netip.MustParseAddr("10.1.2.3"), 1000+port), virtual, nil)
	}
	// 100 flows by a weight of 4 are 25, so 51 is the most that one may have.
	if a, b := c.Flows(0), c.Flows(1); a+b != 100 || max(a, b) > 51 {
		t.Errorf("the east has %d and %d flows", a, b)
	}
}
