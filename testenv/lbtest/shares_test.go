package lbtest

import (
	"net/netip"
	"os"
	"testing"

	"fairlead/loader"
	"fairlead/testenv"
)

// shares are how many of some SYNs each of the weights 1, 2, 3 and 4 gets.
type shares [4]int

// total is the sum of the weights.
const total = 10

// newShares returns a world of a service with four backends, which stand in the
// slots as often as they weigh, but once where all slots are looked at.
func newShares(t *testing.T, how loader.LBBalance, edit func(*loader.Service)) *world {
	t.Helper()
	w := &world{tb: t, Datapath: Load(t, map[string]uint32{loader.LBMapFlows: uint32(slow(1<<15, 1<<17))}, 0)}
	w.at(now)
	w.control(func(*loader.Control) {})
	w.put(loader.LBMapDevices, uint32(uplink), loader.Device{})
	slot := uint32(0)
	for i := range uint32(4) {
		at := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(2 + i)}), 80)
		w.backend(i, at, 1, func(b *loader.Backend) { b.Weight = 1 + i })
		w.route(at, RouteFound, uplink)
		for n := range 1 + i {
			if how != least || n == 0 {
				w.put(loader.LBMapSlots, slot, i)
				slot++
			}
		}
	}
	w.service(1, web, tcp, func(s *loader.Service) {
		s.Slots, s.Balance, s.Weights = uint64(slot), uint8(how), total
		edit(s)
	})
	w.must(w.SetRandom(1))
	return w
}

// open sends a SYN, from the port and the address of a number, and returns it.
func (w *world) open(i int) netip.AddrPort {
	w.tb.Helper()
	from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, byte(i >> 10), byte(i)}), uint16(1024+i%977))
	w.route(from, RouteFound, Ingress)
	if action, _, _, err := w.Run(segment(from, web, syn)); err != nil || action != Redirect {
		w.tb.Fatalf("SYN %d: action %d, %v", i, action, err)
	}
	return from
}

// connected returns how many connections each backend has.
func (w *world) connected() (s shares) {
	w.tb.Helper()
	for i, c := range readAll[loader.LBConnections](w, loader.LBMapBackendConns)[:len(s)] {
		s[i] = int(c.Count)
	}
	return s
}

// off returns how far off their ideal n connections are, the worst of them.
func (s shares) off(n int) (worst float64) {
	for i, got := range s {
		ideal := float64(n*(1+i)) / total
		worst = max(worst, float64(got)-ideal, ideal-float64(got))
	}
	return worst
}

// slow chooses between the quick and the thorough variant of a number.
func slow(quick, thorough int) int {
	if os.Getenv("FAIRLEAD_SLOW") != "" {
		return thorough
	}
	return quick
}

// TestSharesAreTheWeights makes many flows, with FAIRLEAD_SLOW 100 000, and
// counts where they are. Who throws dice or hashes may be off by one in a hundred
// of them, four standard deviations of the fewer ones.
func TestSharesAreTheWeights(t *testing.T) {
	flows := slow(20_000, 100_000)
	hundredth := float64(flows) / 100
	for _, test := range []struct {
		how     loader.LBBalance
		maxLoad uint32
		limit   float64 // of the difference to the ideal
	}{
		{loader.LBBalanceBALANCE_ROUND_ROBIN, 0, 1},
		{loader.LBBalanceBALANCE_RANDOM, 0, hundredth},
		{loader.LBBalanceBALANCE_HASH, 0, hundredth},
		{loader.LBBalanceBALANCE_HASH, 101, 0.4 * hundredth},
		{loader.LBBalanceBALANCE_SOURCE_HASH, 0, hundredth},
		{p2c, 0, 10},
		{least, 0, 1},
	} {
		t.Run(test.how.String(), func(t *testing.T) {
			testenv.PinThread(t)
			w := newShares(t, test.how, func(s *loader.Service) {
				s.MaxLoad = test.maxLoad
				s.SourceMask = loader.AddressOf(netip.MustParseAddr("255.255.255.255"))
			})
			for i := range flows {
				w.open(i)
			}
			got := w.connected()
			if off := got.off(flows); off > test.limit {
				t.Errorf("connections are %v: %.0f off, want at most %.0f", got, off, test.limit)
			}
		})
	}
}

// TestFewestConnectionsAreEven looks after each flow, of which some end.
func TestFewestConnectionsAreEven(t *testing.T) {
	testenv.PinThread(t)
	w := newShares(t, least, unchanged)
	live := 0
	for i := range 3000 {
		from := w.open(i)
		live++
		if i%3 == 2 { // as if it had never been
			w.send(segment(from, web, rst))
			live--
		}
		if got := w.connected(); got.off(live) > 1 {
			t.Fatalf("of %d connections the backends have %v", live, got)
		}
	}
}

// TestLongRunsAreNotLookedThrough has a free backend in the last slot of runs
// around the limit.
func TestLongRunsAreNotLookedThrough(t *testing.T) {
	testenv.PinThread(t)
	for _, test := range []struct {
		slots uint32
		want  shares
	}{{4096, shares{9, 1}}, {4097, shares{10, 0}}} {
		w := &world{tb: t, Datapath: Load(t, map[string]uint32{loader.LBMapSlots: 1 << 13}, 0)}
		w.reset()
		weighted(1, 1)(w)
		for slot := range test.slots - 1 {
			w.put(loader.LBMapSlots, slot, uint32(2))
		}
		w.put(loader.LBMapSlots, test.slots-1, uint32(3))
		busy := loader.LBConnections{Gen: 22, Count: 9}
		w.put(loader.LBMapBackendConns, uint32(2), busy)
		w.service(1, web, tcp, func(s *loader.Service) { s.Slots, s.Balance = uint64(test.slots), uint8(least) })
		w.send(segment(client, web, syn))
		all := readAll[loader.LBConnections](w, loader.LBMapBackendConns)
		if got := (shares{int(all[2].Count), int(all[3].Count)}); got != test.want {
			t.Errorf("with %d slots connections are %v, want %v", test.slots, got, test.want)
		}
	}
}
