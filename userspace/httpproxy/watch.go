package httpproxy

import (
	"sync"
	"time"
)

// A watch calls a function if time is up. It is safe for concurrent use; the
// function must not use it.
type watch struct {
	mu    sync.Mutex
	fire  func(cause error)
	timer *time.Timer
	due   time.Time // zero: never
	cause error
	over  bool
}

// call makes f what is called from now on.
func (w *watch) call(f func(cause error)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fire = f
}

// arm makes time be up after d, because of cause; 0 is never.
func (w *watch) arm(d time.Duration, cause error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if d == 0 || w.over {
		w.due = time.Time{}
		return
	}
	w.due, w.cause = time.Now().Add(d), cause
	if w.timer == nil {
		w.timer = time.AfterFunc(d, w.ring)
	} else {
		w.timer.Reset(d)
	}
}

// stop makes time never be up any more. It waits for what is called already.
func (w *watch) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.due, w.over = time.Time{}, true
	if w.timer != nil {
		w.timer.Stop()
	}
}

// ring is called by the timer, perhaps when it was just armed anew.
func (w *watch) ring() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.due.IsZero() && !time.Now().Before(w.due) {
		w.due = time.Time{}
		w.fire(w.cause)
	}
}
