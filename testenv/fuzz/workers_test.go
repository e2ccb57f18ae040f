package fuzz

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"fairlead/testenv"
)

// worthAWorker is how many packets take longer than to load the programs for a
// worker.
const worthAWorker = 500_000

// workTogether lets a fuzzer on each CPU take what it can of a queue, unless it
// is too short for so many, and returns what they have seen in all.
func workTogether(t *testing.T, q *queue, seed uint64) *fuzzer {
	t.Helper()
	cpus, err := testenv.CPUs()
	if err != nil {
		t.Fatal(err)
	}
	fuzzers := make([]*fuzzer, min(len(cpus), 1+q.packets/worthAWorker))
	stop := tell(t, q)
	t.Run("worker", func(t *testing.T) {
		for i := range fuzzers {
			t.Run(fmt.Sprint(i), func(t *testing.T) {
				t.Parallel()
				runtime.LockOSThread() // and never unlock: the thread ends here
				if err := testenv.PinCPU(cpus[i]); err != nil {
					t.Fatal(err)
				}
				fuzzers[i] = newFuzzer(newKernel(t, 0), seed, families...)
				fuzzers[i].shrinks = true
				fuzzers[i].find(t, q)
			})
		}
	})
	stop()
	all := newFuzzer(nil, seed, families...)
	for _, f := range fuzzers {
		if f == nil {
			continue // has failed
		}
		for family, seen := range f.seen {
			all.seen[family].merge(seen)
		}
	}
	return all
}

// find works until the queue is empty, or there is a difference, and tells it.
func (f *fuzzer) find(t *testing.T, q *queue) {
	t.Helper()
	d, err := f.work(q)
	if err != nil {
		t.Fatalf("seed %d: %v", f.seed, err)
	}
	if d != nil {
		t.Fatalf("%v\nto repeat it: make fuzz SEED=%d EPISODE=%d N=%d", d, d.Seed, d.Episode, episodeLen)
	}
}

// tell says all ten seconds how far a run is, until it is stopped.
func tell(t *testing.T, q *queue) (stop func()) {
	t.Helper()
	start, tick := time.Now(), time.NewTicker(10*time.Second)
	over, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-tick.C:
				t.Log(q.progress(time.Since(start)))
			case <-over:
				return
			}
		}
	}()
	return func() {
		tick.Stop()
		close(over)
		<-done
	}
}
