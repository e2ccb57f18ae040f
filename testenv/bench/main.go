// Command bench measures what a packet and a request cost through Fairlead,
// beside references that are measured in the same run, in turns.
//
// Everything happens in network namespaces of its own. It prints a table for
// each part and says which targets are met; a missed target is a result, not a
// failure. What the numbers mean, and do not mean: docs/benchmarks.md.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
)

// A part is a benchmark that can be run alone, by its name.
type part struct {
	name string
	run  func(*bench)
}

var parts = []part{
	{"packets", packets},
	{"frames", frames},
	{"requests", requests},
	{"http", httpMode},
	{"reconcile", reconcile},
	{"cookies", cookies},
}

func main() {
	os.Exit(run(os.Args[1:]))
}

func run(names []string) int {
	var known []string
	for _, p := range parts {
		known = append(known, p.name)
	}
	for _, n := range names {
		if !slices.Contains(known, n) {
			fmt.Fprintf(os.Stderr, "bench: there is no part %q, only %s\n", n, strings.Join(known, ", "))
			return 2
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second one ends it at once
	status := 0
	for _, p := range parts {
		if len(names) > 0 && !slices.Contains(names, p.name) {
			continue
		}
		if ctx.Err() != nil {
			return 130
		}
		s := &session{name: p.name, log: os.Stderr}
		b := &bench{TB: s, ctx: ctx, out: os.Stdout, log: os.Stderr}
		if err := s.run(func() { p.run(b) }); err != nil {
			fmt.Fprintf(os.Stderr, "bench: %v\n", err)
			status = 1
		}
	}
	if ctx.Err() != nil {
		return 130
	}
	return status
}
