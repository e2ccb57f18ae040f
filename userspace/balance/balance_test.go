package balance

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRoundRobin(t *testing.T) {
	for _, tt := range []struct {
		name    string
		weights []int
		want    []uint32
	}{
		{"nobody makes an empty table", nil, []uint32{}},
		{"only drained ones make an empty table", []int{0, 0}, []uint32{}},
		{"one backend has one slot", []int{1000}, []uint32{0}},
		{"equal weights take turns", []int{7, 7, 7}, []uint32{0, 1, 2}},
		{"a drained one is absent", []int{1, 0, 1}, []uint32{0, 2}},
		{"a negative weight is absent", []int{1, -5, 1}, []uint32{0, 2}},
		{"three to two to one", []int{3, 2, 1}, []uint32{0, 1, 0, 2, 1, 0}},
		{"the divisor does not matter", []int{300, 200, 100}, []uint32{0, 1, 0, 2, 1, 0}},
		{"one large among small ones is spread", []int{5, 1, 1}, []uint32{0, 1, 0, 0, 0, 2, 0}},
		{"many small ones are spread", []int{4, 1, 1, 1, 1}, []uint32{0, 1, 0, 2, 0, 3, 0, 4}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, RoundRobin(tt.weights)); diff != "" {
				t.Errorf("slots (-want +got):\n%s", diff)
			}
		})
	}
}

// TestRoundRobinSpreads holds random weights against what every table promises.
func TestRoundRobinSpreads(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for range 300 {
		weights := make([]int, 1+r.IntN(12))
		for i := range weights {
			weights[i] = r.IntN(1 + r.IntN(60))
		}
		slots := RoundRobin(weights)
		checkShares(t, weights, slots)
		checkRuns(t, weights, slots)
		checkRotation(t, weights, slots)
	}
}

// checkShares wants the slots of each backend to be exactly its share.
func checkShares(t *testing.T, weights []int, slots []uint32) {
	t.Helper()
	total := sum(weights, func(w int) int { return w })
	counts := count(weights, slots)
	for i, w := range weights {
		if counts[i]*total != w*len(slots) {
			t.Errorf("weights %v: backend %d has %d of %d slots", weights, i, counts[i], len(slots))
		}
	}
	if len(slots) > total {
		t.Errorf("weights %v: %d slots", weights, len(slots))
	}
}

// checkRuns wants no backend to have a run of more than twice the slots that
// lie between two of the others on average, seen as a circle.
func checkRuns(t *testing.T, weights []int, slots []uint32) {
	t.Helper()
	runs, run := make([]int, len(weights)), 0
	for k := range 2 * len(slots) {
		i := slots[k%len(slots)]
		if k > 0 && slots[(k-1)%len(slots)] == i {
			run++
		} else {
			run = 1
		}
		runs[i] = max(runs[i], run)
	}
	total := sum(weights, func(w int) int { return w })
	for i, w := range weights {
		if w <= 0 || w == total {
			continue
		}
		rest := total - w
		if limit := 2 * ((w + rest - 1) / rest); runs[i] > limit {
			t.Errorf("weights %v: backend %d has a run of %d, want at most %d", weights, i, runs[i], limit)
		}
	}
}

// checkRotation wants each stretch of the table to be fair: nobody is more
// than a few turns ahead of its share or behind it.
func checkRotation(t *testing.T, weights []int, slots []uint32) {
	t.Helper()
	total := sum(weights, func(w int) int { return w })
	had := make([]int, len(weights))
	for k, i := range slots {
		had[i]++
		for j, w := range weights {
			off := float64(had[j]) - float64(w*(k+1))/float64(total)
			if off > 2.5 || off < -2.5 {
				t.Fatalf("weights %v: after %d turns backend %d is %.1f off", weights, k+1, j, off)
			}
		}
	}
}

func count(weights []int, slots []uint32) []int {
	counts := make([]int, len(weights))
	for _, i := range slots {
		counts[i]++
	}
	return counts
}

func TestRoundRobinBoundsTables(t *testing.T) {
	mixed := make([]int, 1000)
	for i := range mixed {
		mixed[i] = 1 + i
	}
	skewed := make([]int, 500)
	for i := range skewed {
		skewed[i] = 1000
	}
	skewed[0], skewed[1] = 1, 0
	many := make([]int, maxSlots+10)
	for i := range many {
		many[i] = 1 + i%1000
	}
	for _, tt := range []struct {
		name    string
		weights []int
		atMost  int
	}{
		{"a thousand different weights", mixed, maxSlots},
		{"a small one among large ones", skewed, maxSlots},
		{"more backends than slots", many, len(many)},
		{"two huge weights", []int{1 << 40, 1<<40 - 1}, maxSlots},
	} {
		t.Run(tt.name, func(t *testing.T) {
			slots := RoundRobin(tt.weights)
			if n := len(slots); n > tt.atMost || n < tt.atMost*99/100 {
				t.Errorf("%d slots, want at most %d and hardly fewer", n, tt.atMost)
			}
			for i, n := range count(tt.weights, slots) {
				if (n > 0) != (tt.weights[i] > 0) {
					t.Fatalf("weight %d has %d slots", tt.weights[i], n)
				}
			}
		})
	}
}

func TestScaledSharesAreClose(t *testing.T) {
	weights := make([]int, 200)
	for i := range weights {
		weights[i] = 801 + i
	}
	total := sum(weights, func(w int) int { return w })
	slots := RoundRobin(weights)
	for i, n := range count(weights, slots) {
		want := float64(weights[i]) * float64(len(slots)) / float64(total)
		if off := float64(n) - want; off > 1 || off < -1 {
			t.Errorf("weight %d has %d slots, want about %.1f", weights[i], n, want)
		}
	}
}

func TestMoved(t *testing.T) {
	for _, tt := range []struct {
		name          string
		before, after []uint32
		want          float64
	}{
		{"nothing of nothing", nil, []uint32{1}, 0},
		{"all, to nobody", []uint32{1, 2}, nil, 2},
		{"nothing, in another order", []uint32{1, 2, 2}, []uint32{2, 1, 2}, 0},
		{"nothing, with every slot twice", []uint32{1, 2}, []uint32{1, 2, 1, 2}, 0},
		{"those of one that goes", []uint32{1, 2, 3}, []uint32{1, 3}, 1},
		{"a quarter of each for one that comes", []uint32{1, 2, 3}, []uint32{1, 2, 3, 4}, 0.75},
		{"those of one for another", []uint32{1, 2, 1}, []uint32{1, 3, 1}, 1},
		{"half of one for a larger weight", []uint32{1, 2}, []uint32{1, 2, 2, 2}, 0.5},
	} {
		if got := Moved(tt.before, tt.after); got != tt.want {
			t.Errorf("%s: %v moved, want %v", tt.name, got, tt.want)
		}
	}
}

func BenchmarkRoundRobin(b *testing.B) {
	for _, n := range []int{3, 100, 1000, 10000} {
		weights := make([]int, n)
		for i := range weights {
			weights[i] = 1 + i%1000
		}
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				RoundRobin(weights)
			}
		})
	}
}
