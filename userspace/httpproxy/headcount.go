package httpproxy

import (
	"context"
	"sync"
)

// A headcount counts what runs and lets others wait until nothing does. Unlike a
// [sync.WaitGroup] it may count up from nothing while somebody waits: net/http begins
// requests of HTTP/2 whose connection has ended already.
type headcount struct {
	mu   sync.Mutex
	n    int
	none chan struct{} // closed when nothing runs any more; nil if nobody waits
}

// add counts what begins, done what ends.
func (h *headcount) add() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.n++
}

func (h *headcount) done() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.n--; h.n == 0 && h.none != nil {
		close(h.none)
		h.none = nil
	}
}

// wait waits until nothing runs, or ctx is done.
func (h *headcount) wait(ctx context.Context) {
	h.mu.Lock()
	if h.n == 0 {
		h.mu.Unlock()
		return
	}
	if h.none == nil {
		h.none = make(chan struct{})
	}
	none := h.none
	h.mu.Unlock()
	select {
	case <-none:
	case <-ctx.Done():
	}
}
