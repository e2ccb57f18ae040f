package latency

import (
	"math"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/google/go-cmp/cmp"

	"fairlead/testenv/leak"
)

func TestMain(m *testing.M) { leak.Each(m).Run() }

// drawn are distributions with which servers answer.
var drawn = []struct {
	name string
	draw func(*rand.Rand) time.Duration
}{
	{"uniform", func(r *rand.Rand) time.Duration { return time.Duration(r.Int64N(int64(200 * time.Millisecond))) }},
	{"log-normal", func(r *rand.Rand) time.Duration {
		return time.Duration(float64(3*time.Millisecond) * math.Exp(r.NormFloat64()))
	}},
	{"wide log-normal", func(r *rand.Rand) time.Duration {
		return min(time.Duration(float64(time.Millisecond)*math.Exp(3*r.NormFloat64())), time.Hour)
	}},
	{"bimodal", func(r *rand.Rand) time.Duration {
		if r.IntN(100) < 7 {
			return time.Second + time.Duration(r.Int64N(int64(time.Second)))
		}
		return 200*time.Microsecond + time.Duration(r.Int64N(int64(50*time.Microsecond)))
	}},
	{"all the same", func(*rand.Rand) time.Duration { return 12345 * time.Microsecond }},
}

// near reports whether a duration is within 2 % of what an oracle says in ns.
func near(got time.Duration, want int64) bool {
	return math.Abs(float64(int64(got)-want)) <= 0.02*float64(want)
}

func TestQuantilesAreThoseOfAnOracle(t *testing.T) {
	for _, row := range drawn {
		for _, n := range []int{1, 3, 100, 20_000} {
			source := rand.New(rand.NewPCG(7, uint64(n)))
			oracle := hdrhistogram.New(1, int64(2*time.Hour), 4)
			r, start := new(Recorder), time.Now()
			for i := range n {
				d := max(row.draw(source), 2*time.Microsecond)
				if err := oracle.RecordValue(int64(d)); err != nil {
					t.Fatal(err)
				}
				r.Record(d, start.Add(time.Duration(i)*280*time.Second/time.Duration(n)))
			}
			got := r.Recent(start.Add(280 * time.Second))
			if got.Count != uint64(n) || !near(got.Median, oracle.ValueAtQuantile(50)) || !near(got.P95, oracle.ValueAtQuantile(95)) || !near(got.P99, oracle.ValueAtQuantile(99)) {
				t.Errorf("%s: of %d: %+v, want %v, %v, %v", row.name, n, got, time.Duration(oracle.ValueAtQuantile(50)),
					time.Duration(oracle.ValueAtQuantile(95)), time.Duration(oracle.ValueAtQuantile(99)))
			}
		}
	}
}

func TestWhatIsOlderThanFiveMinutesIsGone(t *testing.T) {
	r, start := new(Recorder), epoch.Add(100*Window)
	r.Record(time.Second, start)
	for range 1000 {
		r.Record(time.Millisecond, start.Add(Window))
	}
	for _, row := range []struct {
		after time.Duration
		count uint64
	}{
		{-time.Nanosecond, 0},
		{0, 1},
		{Window, 1001},
		{Windows*Window - time.Nanosecond, 1001},
		{Windows * Window, 1000},
		{(Windows + 1) * Window, 0},
		{24 * time.Hour, 0},
	} {
		if got := r.Recent(start.Add(row.after)); got.Count != row.count || got.Count == 0 && got != (Summary{}) {
			t.Errorf("after %v: %+v, want %d", row.after, got, row.count)
		}
	}
	r.Record(time.Minute, start.Add(Windows*Window)) // in the place of the first
	got := r.Recent(start.Add(Windows * Window))
	if got.Count != 1001 || !near(got.P99, int64(time.Millisecond)) {
		t.Errorf("%+v", got)
	}
	if n := total(r.Totals().Cells); n != 1002 {
		t.Errorf("%d in all, want 1002", n)
	}
}

// Who has looked at its clock before others may come after them.
func TestALateRecordIsNotLost(t *testing.T) {
	r, start := new(Recorder), epoch.Add(100*Window)
	r.Record(time.Second, start.Add(Windows*Window))
	r.Record(time.Second, start)
	if got := r.Recent(start.Add(Windows * Window)); got.Count != 2 {
		t.Errorf("%+v, want 2", got)
	}
}

func total(all []Cell) (n uint64) {
	for _, c := range all {
		n += c.Count
	}
	return n
}

func TestTotals(t *testing.T) {
	r := new(Recorder)
	for _, d := range []time.Duration{0, time.Millisecond, time.Millisecond + 1, 10 * time.Second, 10*time.Second + 1, 1000 * time.Hour} {
		r.Record(d, time.Now())
	}
	got := r.Totals()
	want := Totals{Counts: make([]uint64, 14), Sum: 1000*time.Hour + 20*time.Second + 2*time.Millisecond + 2}
	want.Counts[0], want.Counts[1], want.Counts[12], want.Counts[13] = 2, 1, 1, 2
	want.Cells = []Cell{{10, 1}, {995 * time.Microsecond, 1}, {1015 * time.Microsecond, 1}, {9950 * time.Millisecond, 1}, {10150 * time.Millisecond, 1}, {4975 * time.Second, 1}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestBounds(t *testing.T) {
	ms := time.Millisecond
	want := []time.Duration{ms, 5 * ms / 2, 5 * ms, 10 * ms, 25 * ms, 50 * ms, 100 * ms, 250 * ms, 500 * ms, 1000 * ms, 2500 * ms, 5000 * ms, 10000 * ms}
	if diff := cmp.Diff(want, Bounds); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	for p, end := range ends { // each belongs to what it ends
		before, last := place(end)
		after, first := place(end + 1)
		if p == len(ends)-1 {
			after, first = p+1, 0
		}
		if before != p || last != partCells-1 || after != p+1 || first != 0 {
			t.Errorf("%v is in cell %d of part %d, a nanosecond more in cell %d of part %d; want the last of %d and the first of the next", end, last, before, first, after, p)
		}
	}
}

func TestCellsHoldWhatIsNearTheirMiddle(t *testing.T) {
	source := rand.New(rand.NewPCG(1, 2))
	for range 100_000 {
		d := time.Duration(math.Exp2(10 + 32*source.Float64()))
		p, cell := place(d)
		if m := middleOf(p, cell); math.Abs(float64(m-d)) > 0.015*float64(d)+1 {
			t.Fatalf("%v is in cell %d of part %d, whose middle is %v", d, cell, p, m)
		}
	}
	for _, d := range []time.Duration{math.MinInt64, -1, 0, 1} {
		if p, cell := place(d); p != 0 || cell != 0 {
			t.Errorf("%d is in cell %d of part %d", d, cell, p)
		}
	}
}

func TestManyRecordAtOnce(t *testing.T) {
	r, start := new(Recorder), time.Now()
	const writers, each = 8, 5000
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			source := rand.New(rand.NewPCG(3, uint64(w)))
			for i := range each {
				r.Record(time.Duration(source.Int64N(int64(time.Second))), start.Add(time.Duration(i)*4*time.Minute/each))
			}
		})
	}
	all.Go(func() {
		for range 50 {
			s := r.Recent(start.Add(4 * time.Minute))
			if s.Median > s.P95 || s.P95 > s.P99 {
				t.Errorf("out of order: %+v", s)
			}
			if totals := r.Totals(); total(totals.Cells) < totals.Counts[0] {
				t.Errorf("%d in cells, %d below a millisecond", total(totals.Cells), totals.Counts[0])
			}
		}
	})
	all.Wait()
	if s := r.Recent(start.Add(4 * time.Minute)); s.Count != writers*each || total(r.Totals().Cells) != writers*each {
		t.Errorf("%d of the past, %d in all, want %d", s.Count, total(r.Totals().Cells), writers*each)
	}
}

func BenchmarkRecord(b *testing.B) {
	now := time.Now()
	b.Run("recorder", func(b *testing.B) {
		r := new(Recorder)
		for i := range b.N {
			r.Record(time.Duration(i&0xffffff), now)
		}
	})
	b.Run("hdrhistogram with a mutex", func(b *testing.B) {
		h, mu := hdrhistogram.New(1, int64(time.Hour), 2), sync.Mutex{}
		for i := range b.N {
			mu.Lock()
			_ = h.RecordValue(int64(i & 0xffffff))
			mu.Unlock()
		}
	})
}

func BenchmarkRecordFromAllCPUs(b *testing.B) {
	now := time.Now()
	b.Run("recorder", func(b *testing.B) {
		r := new(Recorder)
		b.RunParallel(func(p *testing.PB) {
			for i := 0; p.Next(); i++ {
				r.Record(time.Duration(i&0xffffff), now)
			}
		})
	})
	b.Run("hdrhistogram with a mutex", func(b *testing.B) {
		h, mu := hdrhistogram.New(1, int64(time.Hour), 2), sync.Mutex{}
		b.RunParallel(func(p *testing.PB) {
			for i := 0; p.Next(); i++ {
				mu.Lock()
				_ = h.RecordValue(int64(i & 0xffffff))
				mu.Unlock()
			}
		})
	})
}

func BenchmarkRecent(b *testing.B) {
	r, start := new(Recorder), time.Now()
	for i := range 100_000 {
		r.Record(time.Duration(i)*time.Microsecond, start.Add(time.Duration(i)*2*time.Millisecond))
	}
	for b.Loop() {
		r.Recent(start.Add(200 * time.Second))
	}
}
