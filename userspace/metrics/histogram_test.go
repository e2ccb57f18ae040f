package metrics

import (
	"math"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"

	"fairlead/userspace/latency"
)

// decoded returns the native buckets of a metric, by the upper bound of each.
func decoded(t *testing.T, m *dto.Histogram) map[float64]int64 {
	t.Helper()
	all, at, next, count := map[float64]int64{}, int32(0), 0, int64(0)
	for _, s := range m.GetPositiveSpan() {
		at += s.GetOffset()
		for range s.GetLength() {
			count += m.GetPositiveDelta()[next]
			next++
			all[math.Exp2(float64(at)/math.Exp2(float64(m.GetSchema())))] = count
			at++
		}
	}
	if next != len(m.GetPositiveDelta()) {
		t.Errorf("%d buckets in spans, %d counts", next, len(m.GetPositiveDelta()))
	}
	return all
}

func TestNativeHistogramsAreWhatWasRecorded(t *testing.T) {
	r := new(latency.Recorder)
	recorded := map[time.Duration]uint64{time.Microsecond: 3, 700 * time.Microsecond: 5, 730 * time.Microsecond: 2, 40 * time.Millisecond: 1, 41 * time.Millisecond: 9, 3 * time.Second: 4}
	for d, n := range recorded {
		for range n {
			r.Record(d, time.Now())
		}
	}
	totals := r.Totals()
	var m dto.Metric
	if err := newHistogram(backendTimes, &totals, "", "p", "b").Write(&m); err != nil {
		t.Fatal(err)
	}
	h, sum := m.GetHistogram(), int64(0)
	native := decoded(t, h)
	for bound, n := range native {
		want := int64(0)
		for d, k := range recorded {
			if s := d.Seconds(); s <= bound && s > bound/math.Exp2(1.0/8) {
				want += int64(k)
			}
		}
		if sum += n; n != want {
			t.Errorf("%d up to %v s, want %d", n, bound, want)
		}
	}
	if sum != 24 || h.GetSampleCount() != 24 || len(native) != 5 {
		t.Errorf("%d in %d buckets, %d in all, want 24 in 5", sum, len(native), h.GetSampleCount())
	}
	if b := h.GetBucket(); len(b) != len(latency.Bounds) || b[0].GetCumulativeCount() != 10 || b[0].GetUpperBound() != 0.001 || b[12].GetCumulativeCount() != 24 {
		t.Errorf("buckets %v", b)
	}
}

func TestAnEmptyNativeHistogramIsOne(t *testing.T) {
	var m dto.Metric
	if err := newHistogram(backendTimes, new(latency.Totals), "", "p", "b").Write(&m); err != nil {
		t.Fatal(err)
	}
	if h := m.GetHistogram(); len(h.GetPositiveSpan()) != 1 || h.GetSampleCount() != 0 || len(decoded(t, h)) != 0 {
		t.Errorf("%v", h)
	}
}
