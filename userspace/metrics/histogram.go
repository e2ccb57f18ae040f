package metrics

import (
	"math"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"fairlead/userspace/latency"
)

// schema is that of native histograms: eight buckets for each power of two, each
// 9 % wider than the one before.
const schema = 3

// A histogram is one with buckets for whoever reads text, and a native one for whoever
// reads protocol buffers.
type histogram struct {
	prometheus.Metric
	cells []latency.Cell
}

func newHistogram(d *prometheus.Desc, t *latency.Totals, of ...string) prometheus.Metric {
	var total uint64
	buckets := map[float64]uint64{}
	for i, n := range t.Counts {
		if total += n; i < len(latency.Bounds) {
			buckets[seconds(latency.Bounds[i])] = total
		}
	}
	return histogram{prometheus.MustNewConstHistogram(d, total, seconds(t.Sum), buckets, of...), t.Cells}
}

// newSummary tells quantiles of the past five minutes. Where there was nothing, they
// are no numbers, as Prometheus' own library has it.
func newSummary(d *prometheus.Desc, l *Latency, of ...string) prometheus.Metric {
	var total uint64
	for _, n := range l.Counts {
		total += n
	}
	quantiles := map[float64]float64{}
	for q, v := range map[float64]time.Duration{0.5: l.Recent.Median, 0.95: l.Recent.P95, 0.99: l.Recent.P99} {
		if quantiles[q] = seconds(v); l.Recent.Count == 0 {
			quantiles[q] = math.NaN()
		}
	}
	return prometheus.MustNewConstSummary(d, total, seconds(l.Sum), quantiles, of...)
}

// Write implements [prometheus.Metric].
func (h histogram) Write(m *dto.Metric) error {
	if err := h.Metric.Write(m); err != nil {
		return err
	}
	m.Histogram.Schema = new(int32(schema))
	m.Histogram.ZeroThreshold = new(float64(0))
	m.Histogram.ZeroCount = new(uint64(0))
	m.Histogram.PositiveSpan, m.Histogram.PositiveDelta = spansOf(h.cells)
	if len(h.cells) == 0 {
		m.Histogram.PositiveSpan = []*dto.BucketSpan{{Offset: new(int32(0)), Length: new(uint32(0))}} // so that it is one
	}
	return nil
}

// spansOf returns the buckets that cells are in: runs of those that hold any, each
// a number of buckets after the last, and the difference of each count to the one
// before.
func spansOf(cells []latency.Cell) (spans []*dto.BucketSpan, deltas []int64) {
	var next int32 // the bucket behind the last one
	var last int64 // its count
	for i := 0; i < len(cells); {
		at, count := bucketOf(cells[i].Middle), int64(0)
		for ; i < len(cells) && bucketOf(cells[i].Middle) == at; i++ {
			count += int64(cells[i].Count)
		}
		if len(spans) == 0 || at != next {
			spans = append(spans, &dto.BucketSpan{Offset: new(at - next), Length: new(uint32(0))})
		}
		*spans[len(spans)-1].Length++
		deltas = append(deltas, count-last)
		next, last = at+1, count
	}
	return spans, deltas
}

// bucketOf returns the number of a native bucket: it ends at 2^(n/8) seconds.
func bucketOf(d time.Duration) int32 {
	return int32(math.Ceil(math.Log2(d.Seconds()) * (1 << schema)))
}
