package balance

import (
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"fairlead/userspace/model"
)

var virtual = netip.MustParseAddrPort("203.0.113.10:80")

// serviceOf returns a service with backends of some weights.
func serviceOf(b model.Balance, weights ...int) *model.Service {
	s := &model.Service{Listen: virtual, LastPort: virtual.Port(), Protocol: model.TCP, Balance: b}
	for i, w := range weights {
		addr := netip.AddrFrom4([4]byte{10, 2, byte(i >> 8), byte(i)})
		s.Backends = append(s.Backends, model.Backend{Address: netip.AddrPortFrom(addr, 8080), Weight: w})
	}
	return s
}

func chooserOf(s *model.Service) *Chooser { return NewChooser(s, DutiesOf(s, nil, nil), nil) }

// clientOf returns the n-th client.
func clientOf(n int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, byte(n >> 16), byte(n >> 8)}), uint16(1024+n&0xff))
}

// take chooses for n clients, whose flows go on, and returns what it got.
func take(t *testing.T, c *Chooser, n int, skip func(uint32) bool) []uint32 {
	t.Helper()
	got := make([]uint32, n)
	for k := range got {
		i, _, ok := c.Choose(clientOf(k), virtual, skip)
		if !ok {
			t.Fatal("nothing to choose")
		}
		got[k] = i
	}
	return got
}

func TestTurns(t *testing.T) {
	down := func(which ...uint32) func(uint32) bool {
		return func(i uint32) bool { return slices.Contains(which, i) }
	}
	for _, tt := range []struct {
		name string
		skip func(uint32) bool
		want []uint32
	}{
		{"turns are taken", nil, []uint32{0, 1, 2, 0, 1, 2}},
		{"nobody takes the turns of a skipped one", down(1), []uint32{0, 2, 0, 2, 0, 2}},
		{"the last one has them all", down(0, 1), []uint32{2, 2, 2, 2, 2, 2}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := take(t, chooserOf(serviceOf(model.Balance{}, 1, 1, 1)), 6, tt.skip)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("choices (-want +got):\n%s", diff)
			}
		})
	}
}

var everyMethod = []model.Method{
	model.RoundRobin, model.Random, model.Maglev, model.SourceHash, model.P2C, model.LeastConnections, model.ResponseTime,
}

func TestNobodyIsChosenWhereThereIsNobody(t *testing.T) {
	for _, m := range everyMethod {
		b := model.Balance{Method: m, TableSize: 31}
		for name, c := range map[string]*Chooser{"no backends": chooserOf(serviceOf(b)), "drained": chooserOf(serviceOf(b, 0, 0))} {
			if i, _, ok := c.Choose(clientOf(0), virtual, nil); ok {
				t.Errorf("%s, %s: chose %d", m, name, i)
			}
		}
		c := chooserOf(serviceOf(b, 1, 1))
		if i, _, ok := c.Choose(clientOf(0), virtual, func(uint32) bool { return true }); ok {
			t.Errorf("%s: chose %d though all are skipped", m, i)
		}
		if i, _, ok := c.Choose(clientOf(0), virtual, func(i uint32) bool { return i == 0 }); !ok || i != 1 {
			t.Errorf("%s: chose %d, %t of two of which one is skipped", m, i, ok)
		}
	}
}

// TestSharesFollowWeights wants each backend's share of many flows, which all go
// on, within 1 % of what its weight says.
func TestSharesFollowWeights(t *testing.T) {
	weights := []int{5, 0, 3, 2}
	for _, m := range everyMethod {
		n := 100_000
		switch m {
		case model.Random:
			n *= 10 // dice: 1 % is six standard deviations of the smallest share then
		case model.SourceHash:
			continue // below
		}
		c := chooserOf(serviceOf(model.Balance{Method: m, TableSize: 65537}, weights...))
		checkEven(t, string(m), weights, count(weights, take(t, c, n, nil)))
	}
}

func TestNetworksAreSharedByWeight(t *testing.T) {
	weights := []int{5, 0, 3, 2}
	c := chooserOf(serviceOf(model.Balance{Method: model.SourceHash, TableSize: 65537}, weights...))
	got := make([]int, len(weights))
	for n := range 100_000 {
		client := netip.AddrPortFrom(netip.AddrFrom4([4]byte{100, byte(n >> 16), byte(n >> 8), byte(n)}), 40000)
		i, _, _ := c.Choose(client, virtual, nil)
		got[i]++
	}
	checkEven(t, "source-hash", weights, got)
}

func checkEven(t *testing.T, name string, weights, got []int) {
	t.Helper()
	total, flows := 0, 0
	for i := range weights {
		total, flows = total+weights[i], flows+got[i]
	}
	for i, n := range got {
		want := float64(flows) * float64(weights[i]) / float64(total)
		if off := float64(n) - want; off > 0.01*want || off < -0.01*want {
			t.Errorf("%s: backend %d of weight %d has %d of %d flows, want %.0f", name, i, weights[i], n, flows, want)
		}
	}
}

func TestLeastConnectionsStayWithinOne(t *testing.T) {
	c := chooserOf(serviceOf(model.Balance{Method: model.LeastConnections}, 1, 2, 1))
	var open []func()
	for k := range 4000 {
		_, done, _ := c.Choose(clientOf(k), virtual, nil)
		if open = append(open, done); len(open) > 100 {
			open[k%7]()
			open = slices.Delete(open, k%7, k%7+1)
		}
	}
	for i, want := range []int{25, 50, 25} {
		if got := c.Flows(i); got < want-1 || got > want+1 {
			t.Errorf("backend %d has %d flows, want %d give or take one", i, got, want)
		}
	}
	for _, done := range open {
		done()
	}
	for i := range 3 {
		if got := c.Flows(i); got != 0 {
			t.Errorf("backend %d has %d flows after all have ended", i, got)
		}
	}
}

func TestHashesChooseAlikeEverywhere(t *testing.T) {
	s := serviceOf(model.Balance{Method: model.Maglev, TableSize: 1021, Seed: 7}, 1, 1, 1)
	other := *s
	other.Backends = []model.Backend{s.Backends[2], s.Backends[0], s.Backends[1]}
	a, b := chooserOf(s), chooserOf(&other)
	slots := Slots(s, Weights(s.Backends, nil))
	for k := range 1000 {
		i, _, _ := a.Choose(clientOf(k), virtual, nil)
		j, _, _ := b.Choose(clientOf(k), virtual, nil)
		if s.Backends[i] != other.Backends[j] {
			t.Fatalf("client %d: %v here, %v there", k, s.Backends[i], other.Backends[j])
		}
		if want := slots[Hash(s, clientOf(k), virtual)%1021]; want != i {
			t.Fatalf("client %d: backend %d, want %d of the table", k, i, want)
		}
	}
}

func TestMaxLoadPassesTheLoadedOver(t *testing.T) {
	s := serviceOf(model.Balance{Method: model.Maglev, TableSize: 1021, MaxLoad: 125}, 1, 1, 1, 1)
	c := chooserOf(s)
	const flows = 1000
	slots := Slots(s, Weights(s.Backends, nil))
	for k, n := 0, 0; n < flows; k++ {
		if slots[Hash(s, clientOf(k), virtual)%1021] != 0 {
			continue // of those whose hash has them go to the first backend only
		}
		if _, _, ok := c.Choose(clientOf(k), virtual, nil); !ok {
			t.Fatal("nothing to choose")
		}
		n++
	}
	for i := range s.Backends {
		if got := c.Flows(i); got > flows/4*125/100+1 {
			t.Errorf("backend %d has %d flows, more than 125 %% of %d", i, got, flows/4)
		}
	}
}

func TestClientsComeBackToTheirBackend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serviceOf(model.Balance{}, 1, 1, 1)
		s.Affinity, s.SourcePrefix = 10*time.Second, 24
		c := chooserOf(s)
		choose := func(client string) uint32 {
			t.Helper()
			i, _, ok := c.Choose(netip.MustParseAddrPort(client), virtual, nil)
			if !ok {
				t.Fatal("nothing to choose")
			}
			return i
		}
		first := choose("198.51.100.1:1000")
		if other := choose("198.51.101.1:1000"); other == first {
			t.Errorf("another network has backend %d, too", other)
		}
		for range 5 {
			time.Sleep(9 * time.Second)
			if again := choose("198.51.100.2:1000"); again != first {
				t.Errorf("backend %d, want %d again", again, first)
			}
		}
		s.Backends[first].Weight = 0
		c = NewChooser(s, DutiesOf(s, nil, nil), c)
		s.Backends[first].Weight = 1
		second := choose("198.51.100.1:1000")
		if second == first {
			t.Error("a drained backend gets a flow")
		}
		c = chooserOf(s)
		first = choose("198.51.100.1:1000")
		time.Sleep(11 * time.Second)
		if again := choose("198.51.100.1:1000"); again == first {
			t.Error("affinity outlives its time")
		}
	})
}

func TestAChooserGoesOnWhereTheLastStood(t *testing.T) {
	s := serviceOf(model.Balance{}, 1, 1, 1)
	c := chooserOf(s)
	_, done, _ := c.Choose(clientOf(0), virtual, nil)
	c = NewChooser(s, DutiesOf(s, nil, nil), c)
	if got := c.Flows(0); got != 1 {
		t.Errorf("backend 0 has %d flows, want 1", got)
	}
	if i, _, _ := c.Choose(clientOf(1), virtual, nil); i != 1 {
		t.Errorf("backend %d has the turn, want 1", i)
	}
	done()
	if got := c.Flows(0); got != 0 {
		t.Errorf("backend 0 has %d flows, want 0", got)
	}
}

func TestAffinityForgetsTheLongestSilentNetwork(t *testing.T) {
	a := newAffinity()
	begin := time.Now()
	network := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{100, byte(i >> 16), byte(i >> 8), byte(i)}) }
	for i := range maxNetworks {
		a.put(network(i), virtual, begin)
	}
	a.put(network(0), virtual, begin)
	a.put(network(maxNetworks), virtual, begin)
	for i, want := range map[int]bool{0: true, 1: false, 2: true, maxNetworks: true} {
		if _, got := a.get(network(i), begin); got != want {
			t.Errorf("network %d is remembered: %t, want %t", i, got, want)
		}
	}
}

// TestChoiceTogether wants shares to stay exact when many choose at once.
func TestChoiceTogether(t *testing.T) {
	const goroutines, turns = 8, 3000
	for _, m := range []model.Method{model.RoundRobin, model.LeastConnections} {
		c := chooserOf(serviceOf(model.Balance{Method: m}, 3, 2, 1))
		var wg sync.WaitGroup
		for g := range goroutines {
			wg.Go(func() {
				for k := range turns {
					if _, _, ok := c.Choose(clientOf(g*turns+k), virtual, nil); !ok {
						t.Error("nothing to choose")
						return
					}
				}
			})
		}
		wg.Wait()
		got := []int{c.Flows(0), c.Flows(1), c.Flows(2)}
		if diff := cmp.Diff([]int{goroutines * turns / 2, goroutines * turns / 3, goroutines * turns / 6}, got); diff != "" {
			t.Errorf("%s: flows (-want +got):\n%s", m, diff)
		}
	}
}
