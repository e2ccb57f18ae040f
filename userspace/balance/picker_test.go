package balance

import (
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// take picks n times and returns what it got.
func take(t *testing.T, p *Picker, n int, skip func(uint32) bool) []uint32 {
	t.Helper()
	var got []uint32
	for range n {
		i, ok := p.Pick(skip)
		if !ok {
			t.Fatal("nothing to pick")
		}
		got = append(got, i)
	}
	return got
}

func TestPick(t *testing.T) {
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
			got := take(t, NewPicker([]uint32{0, 1, 2}), 6, tt.skip)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("picks (-want +got):\n%s", diff)
			}
		})
	}
}

func TestPickFindsNobody(t *testing.T) {
	if i, ok := NewPicker(nil).Pick(nil); ok {
		t.Errorf("picked %d from an empty table", i)
	}
	p := NewPicker([]uint32{0, 1})
	if i, ok := p.Pick(func(uint32) bool { return true }); ok {
		t.Errorf("picked %d though all are skipped", i)
	}
	if i, ok := p.Pick(nil); !ok || i != 0 {
		t.Errorf("then picked %d, %v, want 0: a failed pick takes no turn", i, ok)
	}
}

// TestPickTogether wants shares to stay exact when many pick at once.
func TestPickTogether(t *testing.T) {
	const goroutines, turns = 8, 3000
	p := NewPicker(RoundRobin([]int{3, 2, 1, 4}))
	var mu sync.Mutex
	got := make(map[uint32]int)
	var wg sync.WaitGroup
	for range goroutines {
		wg.Go(func() {
			mine := make(map[uint32]int)
			for range turns {
				i, ok := p.Pick(func(i uint32) bool { return i == 3 })
				if !ok {
					t.Error("nothing to pick")
					return
				}
				mine[i]++
			}
			mu.Lock()
			defer mu.Unlock()
			for i, n := range mine {
				got[i] += n
			}
		})
	}
	wg.Wait()
	want := map[uint32]int{0: goroutines * turns / 2, 1: goroutines * turns / 3, 2: goroutines * turns / 6}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("picks (-want +got):\n%s", diff)
	}
}
