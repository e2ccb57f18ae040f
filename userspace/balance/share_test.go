package balance

import (
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"fairlead/userspace/model"
)

func TestRampGrowsFromATenthToTheWhole(t *testing.T) {
	const full = 18 * time.Second
	for _, row := range []struct {
		age  time.Duration
		want int
	}{
		{-time.Second, 2}, {0, 2}, {999 * time.Millisecond, 2}, {time.Second, 3}, {9 * time.Second, 11},
		{full - 1, 19}, {full, Whole}, {time.Hour, Whole},
	} {
		if got := Ramp(row.age, full); got != row.want {
			t.Errorf("after %s of %s the share is %d, want %d", row.age, full, got, row.want)
		}
	}
}

func TestQuickness(t *testing.T) {
	ms := func(times ...int) (all []time.Duration) {
		for _, n := range times {
			all = append(all, time.Duration(n)*time.Millisecond)
		}
		return all
	}
	for _, row := range []struct {
		name  string
		times []time.Duration
		want  []int
	}{
		{"nobody", nil, []int{}},
		{"nothing is known", ms(0, 0), []int{20, 20}},
		{"one is known", ms(0, 7), []int{20, 20}},
		{"twice as long", ms(10, 20, 40), []int{20, 10, 5}},
		{"nobody starves", ms(1, 10000), []int{20, 2}},
	} {
		if diff := cmp.Diff(row.want, Quickness(row.times)); diff != "" {
			t.Errorf("%s: shares (-want +got):\n%s", row.name, diff)
		}
	}
}

func TestWeightsOfShares(t *testing.T) {
	backends := []model.Backend{{Weight: 3}, {Weight: 0}, {Weight: 1}}
	for _, row := range []struct {
		name         string
		shares, want []int
	}{
		{"none", nil, []int{3, 0, 1}},
		{"whole ones", []int{Whole, Whole, Whole}, []int{3, 0, 1}},
		{"half of the first", []int{10, Whole, Whole}, []int{30, 0, 20}},
		{"hardly anything", []int{1, 1, 1}, []int{3, 0, 1}},
	} {
		if diff := cmp.Diff(row.want, Weights(backends, row.shares)); diff != "" {
			t.Errorf("%s: weights (-want +got):\n%s", row.name, diff)
		}
	}
	for a := 1; a <= Whole; a++ {
		for b := 1; b <= Whole; b++ {
			if p := Product(a, b); p < 1 || p > min(a, b) {
				t.Errorf("%d of %d is %d", a, b, p)
			}
		}
	}
}

func TestMostSlotsIsEnough(t *testing.T) {
	for _, m := range everyMethod {
		s := serviceOf(model.Balance{Method: m, TableSize: 1021}, 7, 0, 3, 5)
		s.SlowStart = time.Second
		most := MostSlots(s)
		for share := 1; share <= Whole; share++ {
			if n := len(Slots(s, Weights(s.Backends, []int{share, 1, 19, Whole}))); n > most {
				t.Errorf("%s: %d slots, at most %d were expected", m, n, most)
			}
		}
	}
}

func TestEvenSharesFollowLoads(t *testing.T) {
	for _, row := range []struct {
		name          string
		shares, loads []float64
		want          []float64
	}{
		{"as loaded as each other", []float64{1, 0.5}, []float64{0.4, 0.4}, []float64{1, 0.5}},
		{"four times as loaded", []float64{1, 1}, []float64{0.2, 0.8}, []float64{1, 0.5}},
		{"nobody starves", []float64{1, 0.1}, []float64{0.1, 1}, []float64{1, 0.1}},
		{"who says nothing has a whole share", []float64{0.5, 0.5, 0.5}, []float64{-1, 0.2, 0.8}, []float64{1, 1, 0.5}},
		{"nobody says anything", []float64{0.5, 1}, []float64{-1, -1}, []float64{1, 1}},
		{"idle ones are alike", []float64{1, 1}, []float64{0, 0.005}, []float64{1, 1}},
		{"one alone", []float64{0.3}, []float64{2}, []float64{1}},
	} {
		got := Even(row.shares, row.loads)
		for i := range row.want {
			if math.Abs(got[i]-row.want[i]) > 1e-9 {
				t.Errorf("%s: %v, want %v", row.name, got, row.want)
				break
			}
		}
	}
}

// Loads that follow the shares come to be the same, whatever backends can do.
func TestEvenSharesComeToBeAsCapacities(t *testing.T) {
	capacities := []float64{100, 300, 50}
	shares, loads := []float64{1, 1, 1}, []float64{0, 0, 0}
	for range 30 {
		total := shares[0] + shares[1] + shares[2]
		for i, c := range capacities {
			loads[i] += 0.63 * (200*shares[i]/total/c - loads[i]) // a second of settling
		}
		shares = Even(shares, loads)
	}
	for i, l := range loads {
		if math.Abs(l-200.0/450) > 0.02 {
			t.Errorf("backend %d has a load of %.3f with a share of %.2f, want %.3f", i, l, shares[i], 200.0/450)
		}
	}
}
