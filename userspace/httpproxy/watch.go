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
	rings time.Time // when the timer does; zero: not again
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
	w.wind(d)
}

// wind has the timer ring after d, or before. It is dear to set it anew each time
// that something moves: one that rings too early sees so, and is set then.
func (w *watch) wind(d time.Duration) {
	switch {
	case w.timer == nil:
		w.timer = time.AfterFunc(d, w.ring)
	case w.rings.IsZero() || w.due.Before(w.rings):
		w.timer.Reset(d)
	default:
		return
	}
	w.rings = w.due
}

// strike makes time be up now, because of cause.
func (w *watch) strike(cause error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.over {
		return
	}
	w.due = time.Time{}
	w.fire(cause)
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

// ring is called by the timer, perhaps too early, or when it was just set anew.
func (w *watch) ring() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rings = time.Time{}
	if w.due.IsZero() {
		return
	}
	if left := time.Until(w.due); left > 0 {
		w.wind(left)
		return
	}
	w.due = time.Time{}
	w.fire(w.cause)
}
