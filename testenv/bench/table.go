package main

import (
	"fmt"
	"io"
	"strings"
)

// A table is what a part prints: rows of cells, then targets.
type table struct {
	title   string
	columns []string
	rows    [][]string
	targets []target
	notes   []string
}

// A target is a bound that a result should keep to.
type target struct {
	what    string
	got     float64
	bound   float64
	atLeast bool // else at most
}

func (t target) met() bool {
	if t.atLeast {
		return t.got >= t.bound
	}
	return t.got <= t.bound
}

func (t target) String() string {
	sign, verdict := "<=", "MISSED"
	if t.atLeast {
		sign = ">="
	}
	if t.met() {
		verdict = "met"
	}
	return fmt.Sprintf("target: %s %s %.2f: %.2f, %s", t.what, sign, t.bound, t.got, verdict)
}

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

// print writes the table, the first column flush left and the others right.
func (t *table) print(w io.Writer) {
	rows := append([][]string{t.columns}, t.rows...)
	widths := make([]int, len(t.columns))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], len(cell))
		}
	}
	fmt.Fprintf(w, "\n%s\n", t.title)
	for _, row := range rows {
		line := fmt.Sprintf("  %-*s", widths[0], row[0])
		for i, cell := range row[1:] {
			line += fmt.Sprintf("   %*s", widths[i+1], cell)
		}
		fmt.Fprintln(w, strings.TrimRight(line, " "))
	}
	for _, g := range t.targets {
		fmt.Fprintf(w, "  %s\n", g)
	}
	for _, n := range t.notes {
		fmt.Fprintf(w, "  %s\n", n)
	}
}

// ratio returns a/b as a cell.
func ratio(a, b float64) string { return fmt.Sprintf("%.2f", a/b) }
