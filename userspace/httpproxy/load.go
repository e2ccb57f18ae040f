package httpproxy

import (
	"encoding/json"
	"math"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"fairlead/userspace/model"
)

// A load is what share of its capacity a backend says that it uses, smoothed.
type load struct {
	mu    sync.Mutex
	value float64
	at    time.Time // of the last report
}

// settles is how long a load takes to follow a report by two thirds.
const settles = time.Second

// mostLoad is what reports count as at most: beyond, a backend is no more than
// overloaded.
const mostLoad = 10

func (l *load) add(report float64, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	part := 1.0
	if !l.at.IsZero() {
		part = 1 - math.Exp(-float64(now.Sub(l.at))/float64(settles))
	}
	l.value += part * (min(report, mostLoad) - l.value)
	l.at = now
}

// get returns the load if there was a report at since or later, else -1.
func (l *load) get(since time.Time) float64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.at.IsZero() || l.at.Before(since) {
		return -1
	}
	return l.value
}

// Loads returns what share of its capacity each backend says that it uses, from 0,
// by its index of the last Update; -1 is not known, or not lately.
func (p *Pool) Loads() []float64 {
	s := p.set.Load()
	all, since := make([]float64, len(s.backends)), time.Now().Add(-s.conf.Load.Expiry)
	for i, b := range s.backends {
		all[i] = b.load.get(since)
	}
	return all
}

// hear takes what the backend says of its load out of the header, or trailers, of
// an answer.
func (t *turn) hear(h http.Header) {
	name := t.set.conf.Load.Header
	if name == "" {
		return
	}
	lines, read := h.Values(name), plainLoad
	if h.Del(name); strings.EqualFold(name, model.ORCAHeader) {
		h.Del(name + "-Bin")
		read = orcaLoad
	}
	for _, line := range lines {
		if v, ok := read(line); ok && v >= 0 { // NaN is not
			t.backend.load.add(v, time.Now())
		}
	}
}

// plainLoad reads a number, of which 1 is all that can be done, or percent.
func plainLoad(line string) (float64, bool) {
	text, percent := strings.CutSuffix(strings.TrimSpace(line), "%")
	v, err := strconv.ParseFloat(text, 64)
	if percent {
		v /= 100
	}
	return v, err == nil
}

// maxReport is how long a report may be.
const maxReport = 4 << 10

// orcaLoad reads an Open Request Cost Aggregation report as text or JSON: the use
// of the application, or else of the CPU.
func orcaLoad(line string) (float64, bool) {
	kind, report, _ := strings.Cut(strings.TrimSpace(line), " ")
	if len(report) > maxReport {
		return 0, false
	}
	all := map[string]float64{}
	switch kind {
	case "TEXT":
		for pair := range strings.SplitSeq(report, ",") {
			name, text, _ := strings.Cut(pair, "=")
			if v, err := strconv.ParseFloat(strings.TrimSpace(text), 64); err == nil {
				all[strings.TrimSpace(name)] = v
			}
		}
	case "JSON":
		var fields map[string]json.RawMessage
		if json.Unmarshal([]byte(report), &fields) != nil {
			return 0, false
		}
		for name, text := range fields {
			var v float64
			if json.Unmarshal(text, &v) == nil {
				all[name] = v
			}
		}
	}
	for _, name := range []string{"application_utilization", "cpu_utilization"} {
		if v, ok := all[name]; ok && v > 0 {
			return v, true
		}
	}
	v, ok := all["cpu_utilization"]
	return v, ok
}
