package fuzz

import (
	"fmt"
	"reflect"
	"runtime"
	"sync"
	"testing"
	"time"

	"fairlead/testenv"
	m "fairlead/testenv/refmodel"
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
	return sum(seed, fuzzers)
}

// sum is what fuzzers of one seed have seen; one that could not begin is nil.
func sum(seed uint64, fuzzers []*fuzzer) *fuzzer {
	all := newFuzzer(nil, seed, families...)
	for _, f := range fuzzers {
		if f == nil {
			continue
		}
		all.packets += f.packets
		for family, seen := range f.seen {
			all.seen[family].merge(seen)
		}
	}
	return all
}

// TestWorkersSendTheSamePackets lets one, then three fuzzers do the same run.
func TestWorkersSendTheSamePackets(t *testing.T) {
	const seed, packets = 3, 20_300
	run := func(workers int) *fuzzer {
		q := &queue{packets: packets, first: 7}
		fuzzers := make([]*fuzzer, workers)
		var wg sync.WaitGroup
		for i := range fuzzers {
			fuzzers[i] = newFuzzer(&twin{}, seed, families...)
			wg.Go(func() {
				if d, err := fuzzers[i].work(q); d != nil || err != nil {
					t.Errorf("difference %v, error %v", d, err)
				}
			})
		}
		wg.Wait()
		return sum(seed, fuzzers)
	}
	alone, together := run(1), run(3)
	if alone.packets != packets {
		t.Errorf("%d packets were sent, want %d", alone.packets, packets)
	}
	if !reflect.DeepEqual(alone.seen, together.seen) {
		t.Error("three workers saw other packets than one")
	}
}

// TestWorkersEndAtADifference finds a fault by its episode alone.
func TestWorkersEndAtADifference(t *testing.T) {
	fault := func(w *world, res *m.Result) {
		if res.Verdict == m.PassICMP {
			w.Verdicts[m.PassICMP]--
		}
	}
	q := &queue{packets: 100_000}
	d, err := newFuzzer(&twin{fault: fault}, 2, families...).work(q)
	if err != nil || d == nil {
		t.Fatalf("difference %v, error %v", d, err)
	}
	if _, size := q.take(); size != 0 {
		t.Errorf("%d packets are sent after the difference", size)
	}
	again, err := newFuzzer(&twin{fault: fault}, 2, families...).work(&queue{packets: episodeLen, first: d.Episode})
	if err != nil || again == nil || again.Packet != d.Packet || again.Text != d.Text {
		t.Errorf("its episode alone gave %v, %v\nwant %v", again, err, d)
	}
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
	tick := time.NewTicker(10 * time.Second)
	over, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		before, sent := time.Now(), int64(0)
		for {
			select {
			case <-tick.C:
				t.Log(q.progress(sent, before))
				before, sent = time.Now(), q.sent.Load()
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
