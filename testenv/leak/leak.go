// Package leak finds what tests leave behind: goroutines, descriptors, mappings
// of BPF maps, and BPF objects in the kernel.
//
// Everything in it compares: what was there before a test is no leak of the
// test's. It knows what is the process's own; what other processes on the machine
// have does not count.
//
//	func TestMain(m *testing.M) { leak.Each(m).Run() }
package leak

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
)

// TB is the part of [testing.TB] that [Check] needs.
type TB interface {
	Name() string
	Helper()
	Cleanup(f func())
	Failed() bool
	Errorf(format string, args ...any)
}

// Each puts [Check] around every test and fuzz target of m, and the same around every
// example, and returns m. It looks at no subtest by itself. The options are for
// goroutines that stay.
func Each(m *testing.M, options ...goleak.Option) *testing.M {
	running.options = options
	tests := field[[]testing.InternalTest](m, "tests")
	for i, test := range tests {
		tests[i].F = func(t *testing.T) {
			Check(t)
			test.F(t)
		}
	}
	targets := field[[]testing.InternalFuzzTarget](m, "fuzzTargets")
	for i, target := range targets {
		targets[i].Fn = func(f *testing.F) {
			Check(f)
			target.Fn(f)
		}
	}
	examples := field[[]testing.InternalExample](m, "examples")
	for i, example := range examples {
		examples[i].F = func() { running.example(example.Name, example.F) }
	}
	return m
}

// field returns an unexported field. There is no other way to all tests of a
// package at once; the tests of this package notice if the field goes away.
func field[T any](m *testing.M, name string) T {
	f := reflect.ValueOf(m).Elem().FieldByName(name)
	if !f.IsValid() {
		panic("leak: testing.M has no field " + name)
	}
	return *reflect.NewAt(f.Type(), f.Addr().UnsafePointer()).Interface().(*T)
}

// Check fails the test if it leaves something behind. It is called before anything
// else, so that it looks when all other cleanups are done.
//
// Of tests that ran at the same time the last one fails for all: it names who
// was the first to end with the thing open. One that waits in t.Parallel runs already.
// A test that has failed anyway is not looked at, since it may have ended half-way.
// What the garbage collector has closed while the test ran is not found.
func Check(tb TB) {
	tb.Helper()
	running.check(tb)
}

// manyCleanups is more than any test has. The testing package holds what cleanups
// that are done refer to until new ones take their places.
const manyCleanups = 128

// A span is a test that runs, or ran, and what was open before and after it.
type span struct {
	name          string
	before, after Snapshot
}

// running is the tests that run now and those that ran beside them.
var running group

// A group is tests of which each ran at the same time as another.
type group struct {
	mu         sync.Mutex
	open       int
	failed     bool
	base       Snapshot
	options    []goleak.Option
	goroutines goleak.Option
	ended      []*span
}

func (g *group) check(tb TB) {
	tb.Helper()
	s := &span{name: tb.Name()}
	if err := g.begin(s); err != nil {
		tb.Errorf("look for leaks: %v", err)
		return
	}
	tb.Cleanup(func() {
		tb.Helper()
		for range manyCleanups {
			tb.Cleanup(func() {})
		}
		for _, fault := range g.end(s, tb.Failed()) {
			tb.Errorf("%s", fault)
		}
	})
}

// example runs one, and writes what it leaves to its output, where nobody wants it.
func (g *group) example(name string, run func()) {
	s := &span{name: name}
	if err := g.begin(s); err != nil {
		fmt.Println("look for leaks:", err)
		return
	}
	run()
	for _, fault := range g.end(s, false) {
		fmt.Println(fault)
	}
}

func (g *group) begin(s *span) (err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if s.before, err = Take(0); err != nil {
		return err
	}
	if g.open++; g.open == 1 {
		g.base, g.goroutines, g.failed, g.ended = s.before, goleak.IgnoreCurrent(), false, nil
	}
	return nil
}

// end returns the faults of the group if s was the last of it that ran.
func (g *group) end(s *span, failed bool) (faults []string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	var err error
	if s.after, err = Take(0); err != nil {
		faults = append(faults, err.Error())
	}
	g.failed = g.failed || failed
	g.ended = append(g.ended, s)
	if g.open--; g.open > 0 {
		return faults
	}
	if g.failed {
		takeNoted()
		return faults
	}
	defer forgetNothing()()
	if err := within(patience, func() error { return goleak.Find(append(g.options, g.goroutines)...) }); err != nil {
		faults = append(faults, fmt.Sprintf("%s left goroutines behind: %v", g.names(), err))
	}
	var left *Left
	if err := g.base.Await(); errors.As(err, &left) {
		for _, thing := range left.Things {
			faults = append(faults, fmt.Sprintf("%s left something open: %s", g.blame(thing), describe(thing)))
		}
	} else if err != nil {
		faults = append(faults, err.Error())
	}
	return append(faults, awaitNoted()...)
}

// blame returns the first test that ended with a thing open that was not before it.
func (g *group) blame(thing string) string {
	i := slices.IndexFunc(g.ended, func(s *span) bool { return !s.before.open[thing] && s.after.open[thing] })
	if i < 0 {
		return g.names()
	}
	if len(g.ended) == 1 {
		return g.ended[i].name
	}
	return g.ended[i].name + ", or a test beside it (run with -parallel 1 to see which),"
}

func (g *group) names() string {
	var names []string
	for _, s := range g.ended {
		names = append(names, s.name)
	}
	return strings.Join(names, " or ")
}
