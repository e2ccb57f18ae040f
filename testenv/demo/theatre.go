package main

import (
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// interruptWait is how long an interrupted play may take to stop by itself.
const interruptWait = 5 * time.Second

// A theatre is the [testenv.TB] of a program: it keeps what is to be cleaned
// up. When it is interrupted, the play ends at its next call of Helper.
type theatre struct {
	interrupted, failed atomic.Bool

	mu       sync.Mutex
	cleanups []func()
}

// Name returns the name of the program.
func (t *theatre) Name() string { return "demo" }

// Helper ends the play if it was interrupted.
func (t *theatre) Helper() {
	if t.interrupted.Load() {
		runtime.Goexit()
	}
}

// Cleanup has f called at the end, last in first out.
func (t *theatre) Cleanup(f func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.cleanups = append(t.cleanups, f)
}

// Failed reports whether the play has failed.
func (t *theatre) Failed() bool { return t.failed.Load() }

// Logf tells what a failure may have come from.
func (t *theatre) Logf(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "demo: "+format+"\n", args...)
}

// Fatalf ends the play.
func (t *theatre) Fatalf(format string, args ...any) {
	if !t.interrupted.Load() {
		t.failed.Store(true)
		t.Logf(format, args...)
	}
	runtime.Goexit()
}

// Skipf ends the play, which has nothing to skip to.
func (t *theatre) Skipf(format string, args ...any) { t.Fatalf(format, args...) }

// interrupt ends the play, which closes done.
func (t *theatre) interrupt(done <-chan struct{}) {
	t.interrupted.Store(true)
	select {
	case <-done:
	case <-time.After(interruptWait):
	}
	t.interrupted.Store(false) // what cleans up calls Helper too
}

// cleanUp does what was asked for by Cleanup, also what is asked for meanwhile.
func (t *theatre) cleanUp() {
	for {
		t.mu.Lock()
		n := len(t.cleanups)
		if n == 0 {
			t.mu.Unlock()
			return
		}
		f := t.cleanups[n-1]
		t.cleanups = t.cleanups[:n-1]
		t.mu.Unlock()
		t.call(f)
	}
}

// call calls f, which may end its goroutine by Fatalf.
func (t *theatre) call(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	<-done
}
