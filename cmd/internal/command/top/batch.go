package top

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"fairlead/userspace/view"
)

// batchFormat has the widest of what IPv4 has in its columns: lines of one log
// stand below each other, whatever comes.
const batchFormat = "%-20s %-20s %-21s %-7s %7s %9s %9s %11s %13s %11s %13s %9s %9s %9s\n"

// batch prints each sample as lines, or as one line of JSON, by the clock of UTC.
func (t *top) batch(ctx context.Context, asJSON bool) error {
	if err := t.start(); err != nil {
		return err
	}
	if asJSON {
		lines := json.NewEncoder(t.out)
		return t.each(ctx, func(s *Sample) error {
			s.Time = s.Time.UTC()
			return lines.Encode(s)
		})
	}
	_, err := fmt.Fprintf(t.out, batchFormat, "TIME", "SERVICE", "BACKEND", "STATE", "FLOWS", "NEW/S", "REQ/S", "PKT/S IN", "B/S IN", "PKT/S OUT", "B/S OUT", "P50 MS", "P95 MS", "P99 MS")
	if err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return t.each(ctx, func(s *Sample) error {
		_, err := io.WriteString(t.out, batchLines(s))
		return err
	})
}

// batchLines returns a line for each service and backend. Each tells the time, so
// that it can be found alone.
func batchLines(s *Sample) string {
	var b strings.Builder
	at := s.Time.UTC().Format(time.RFC3339)
	if s.Reason != "" {
		fmt.Fprintf(&b, "%-20s %s\n", at, s.without())
	}
	line := func(service, backend, state string, r Row, l *view.Latency) {
		cells := []any{at, clean(service), clean(backend), state, "-", "-", "-", "-", "-", "-", "-", "-", "-", "-"}
		if s.known() {
			cells[4] = fmt.Sprint(r.Live)
		}
		if v := r.Rates; v != nil {
			for i, c := range rateColumns {
				if r.counts&c.who != 0 {
					cells[5+i] = fmt.Sprintf("%.1f", c.of(v))
				}
			}
		}
		if l != nil {
			for i, n := range []float64{l.Median, l.P95, l.P99} {
				cells[11+i] = fmt.Sprintf("%.3f", 1000*n)
			}
		}
		fmt.Fprintf(&b, batchFormat, cells...)
	}
	for i := range s.Services {
		v := &s.Services[i]
		line(v.Name, "-", rung(v), v.Row, nil)
		for _, k := range v.Backends {
			line(v.Name, k.name(), k.State, k.Row, k.Latency)
		}
	}
	return b.String()
}
