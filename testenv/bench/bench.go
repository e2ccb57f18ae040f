package main

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"slices"
	"time"

	"fairlead/testenv"
)

// A bench is what a part of the benchmarks needs: a place to make things that
// go away with it, a context that ends with Ctrl-C, and somewhere to print.
type bench struct {
	testenv.TB
	ctx context.Context
	out io.Writer // results
	log io.Writer // progress
}

// cpu is the one that works on packets; the first one gets most interrupts.
func cpu() int { return runtime.NumCPU() - 1 }

// A subject is one of several things that are compared.
type subject struct {
	name string
	// measure returns one result; more is better or worse, but a number.
	measure func() float64
}

// measure measures every subject once in each of n rounds, so that noise hits
// all alike, and returns their medians. Each round begins with another one.
func (b *bench) measure(what string, n int, subjects []subject) []float64 {
	b.Helper()
	results := make([][]float64, len(subjects))
	said := time.Now()
	for round := range n {
		for i := range subjects {
			if b.ctx.Err() != nil {
				b.Fatalf("stop: %v", context.Cause(b.ctx))
			}
			k := (i + round) % len(subjects)
			if time.Since(said) > 5*time.Second {
				said = time.Now()
				fmt.Fprintf(b.log, "bench: %s: round %d of %d, %s\n", what, round+1, n, subjects[k].name)
			}
			results[k] = append(results[k], subjects[k].measure())
		}
	}
	medians := make([]float64, len(subjects))
	for i, r := range results {
		medians[i] = median(r)
	}
	return medians
}

// median returns the middle one of values, which it sorts.
func median(values []float64) float64 {
	slices.Sort(values)
	half := len(values) / 2
	if len(values)%2 == 1 {
		return values[half]
	}
	return (values[half-1] + values[half]) / 2
}
