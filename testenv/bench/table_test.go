package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTable(t *testing.T) {
	tab := table{
		title: "Speed", columns: []string{"what", "m/s", "x snail"},
		targets: []target{
			{what: "hare / snail", got: 1.25, bound: 2, atLeast: true},
			{what: "hare / snail", got: 1.25, bound: 1.4},
		},
		notes: []string{"Both ran."},
	}
	tab.add("snail", "4", "1.00")
	tab.add("hare", "5", ratio(5, 4))
	var got bytes.Buffer
	tab.print(&got)
	want := `
Speed
  what    m/s   x snail
  snail     4      1.00
  hare      5      1.25
  target: hare / snail >= 2.00: 1.25, MISSED
  target: hare / snail <= 1.40: 1.25, met
  Both ran.
`
	if diff := cmp.Diff(want, got.String()); diff != "" {
		t.Errorf("table (-want +got):\n%s", diff)
	}
}

func TestMeasureTakesTurnsAndMedians(t *testing.T) {
	var order string
	results := map[string][]float64{"a": {1, 9, 2}, "b": {5, 4, 6}}
	subjects := []subject{}
	for _, name := range []string{"a", "b"} {
		subjects = append(subjects, subject{name, func() float64 {
			order += name
			r := results[name][0]
			results[name] = results[name][1:]
			return r
		}})
	}
	b := &bench{TB: t, ctx: t.Context(), out: io.Discard, log: io.Discard}
	if diff := cmp.Diff([]float64{2, 5}, b.measure("letters", 3, subjects)); diff != "" {
		t.Errorf("medians (-want +got):\n%s", diff)
	}
	if order != "abbaab" {
		t.Errorf("the order was %s", order)
	}
	if m := median([]float64{4, 1, 3, 2}); m != 2.5 {
		t.Errorf("median of four = %v", m)
	}
}

func TestSessionUndoesEverything(t *testing.T) {
	s := &session{name: "part", log: io.Discard}
	var order string
	err := s.run(func() {
		s.Cleanup(func() { order += "1" })
		s.Cleanup(func() { s.Fatalf("cannot undo") })
		s.Cleanup(func() { order += "3" })
		s.Fatalf("went %s", "wrong")
		order += "not reached"
	})
	if order != "31" || err == nil || err.Error() != "part: went wrong" {
		t.Errorf("undone %q with %v", order, err)
	}
}

func TestMeasureStopsWhenInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	s := &session{name: "part", log: io.Discard}
	runs := 0
	err := s.run(func() {
		b := &bench{TB: s, ctx: ctx, out: io.Discard, log: io.Discard}
		b.measure("nothing", 10, []subject{{"only", func() float64 {
			runs++
			cancel(errors.New("enough"))
			return 1
		}}})
	})
	if runs != 1 || err == nil || err.Error() != "part: stop: enough" {
		t.Errorf("%d runs, then %v", runs, err)
	}
}

func TestUnknownPart(t *testing.T) {
	if got := run([]string{"speed"}); got != 2 {
		t.Errorf("status %d for a part that does not exist, want 2", got)
	}
}
