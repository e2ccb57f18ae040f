package balance

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"fairlead/userspace/model"
)

// members returns n of them, all of weight 1.
func members(n int) []Member {
	all := make([]Member, n)
	for i := range all {
		addr := netip.AddrFrom4([4]byte{10, 2, byte(i >> 8), byte(i)})
		all[i] = Member{netip.AddrPortFrom(addr, 8080), 1}
	}
	return all
}

func weightsOf(all []Member) []int {
	weights := make([]int, len(all))
	for i, m := range all {
		weights[i] = m.Weight
	}
	return weights
}

func TestMaglevWithoutMembersIsEmpty(t *testing.T) {
	for _, all := range [][]Member{nil, {{Weight: 0}}, {{Weight: -1}}} {
		if got := Maglev(all, 7, 0); got == nil || len(got) != 0 {
			t.Errorf("table of %v = %v, want an empty one", all, got)
		}
	}
}

// TestMaglevIsTheSameEverywhere holds what balancers agree on: a change of this
// table moves flows between balancers of different versions.
func TestMaglevIsTheSameEverywhere(t *testing.T) {
	all := []Member{
		{netip.MustParseAddrPort("10.2.1.2:8080"), 2}, {netip.MustParseAddrPort("10.2.1.3:8080"), 1},
		{netip.MustParseAddrPort("[2001:db8::2]:0"), 1},
	}
	want := []uint32{1, 0, 0, 2, 1, 0, 1, 0, 2, 2, 0, 0, 0}
	if diff := cmp.Diff(want, Maglev(all, 13, 7)); diff != "" {
		t.Errorf("slots (-want +got):\n%s", diff)
	}
	order := []int{2, 0, 1}
	other := []Member{all[2], all[0], all[1], {netip.MustParseAddrPort("10.2.1.9:80"), 0}}
	got := Maglev(other, 13, 7)
	for i := range got {
		got[i] = uint32(order[got[i]])
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("slots of members in another order (-want +got):\n%s", diff)
	}
	if slices.Equal(want, Maglev(all, 13, 8)) {
		t.Error("another seed makes the same table")
	}
}

func TestMaglevSharesAreEven(t *testing.T) {
	const n = 1000
	all := members(n)
	counts := count(weightsOf(all), Maglev(all, model.DefaultTableSize, 1))
	mean := float64(model.DefaultTableSize) / n
	if most := float64(slices.Max(counts)); most > 1.01*mean {
		t.Errorf("the largest share is %.4f of the mean, want at most 1.01", most/mean)
	}
}

// TestMaglevSharesFollowWeights wants everybody to have its share, rounded, which
// is within 1 % for all who have 100 slots.
func TestMaglevSharesFollowWeights(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for range 50 {
		all := members(1 + r.IntN(40))
		total := 0
		for i := range all {
			all[i].Weight = r.IntN(1 + r.IntN(1000))
			total += all[i].Weight
		}
		if total == 0 {
			continue
		}
		weights := weightsOf(all)
		for i, n := range count(weights, Maglev(all, model.DefaultTableSize, seed)) {
			share := float64(model.DefaultTableSize) * float64(weights[i]) / float64(total)
			if off := float64(n) - share; off >= 1 || off <= -1 {
				t.Errorf("weights %v: %d has %d slots, want %.1f", weights, i, n, share)
			}
		}
	}
}

// TestMaglevMovesLittle removes members of each of some tables.
func TestMaglevMovesLittle(t *testing.T) {
	for _, n := range []int{3, 10, 100, 1000} {
		all := members(n)
		before := Maglev(all, model.DefaultTableSize, 1)
		for _, gone := range []int{0, n / 2, n - 1} {
			fewer := slices.Clone(all)
			fewer[gone].Weight = 0
			moved := 0
			for i, m := range Maglev(fewer, model.DefaultTableSize, 1) {
				if before[i] != m && before[i] != uint32(gone) {
					moved++
				}
			}
			if share := float64(moved) / model.DefaultTableSize; share > 0.01 {
				t.Errorf("removing %d of %d moved %.2f %% of the others' slots, want at most 1 %%", gone, n, 100*share)
			}
		}
	}
}

func BenchmarkMaglev(b *testing.B) {
	for _, n := range []int{3, 1000} {
		for _, size := range []int{1021, model.DefaultTableSize} {
			all := members(n)
			b.Run(fmt.Sprintf("%d/%d", n, size), func(b *testing.B) {
				for b.Loop() {
					Maglev(all, size, 1)
				}
			})
		}
	}
}
