package httpproxy

import (
	"container/list"
	"context"
	"errors"
	"sync"
	"time"
)

// A queue holds requests until a backend has a place for them, first come first
// served.
type queue struct {
	mu      sync.Mutex
	waiting list.List // of chan struct{} with room for one
}

func (q *queue) empty() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.waiting.Len() == 0
}

// join adds a request, first or last, unless there are so many already.
func (q *queue) join(most int, first bool) (ready chan struct{}, leave func(), ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.waiting.Len() >= most && !first {
		return nil, nil, false
	}
	ready = make(chan struct{}, 1)
	var e *list.Element
	if first {
		e = q.waiting.PushFront(ready)
	} else {
		e = q.waiting.PushBack(ready)
	}
	return ready, func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		q.waiting.Remove(e) // nothing if it was woken
	}, true
}

// wake lets the first request try.
func (q *queue) wake() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if e := q.waiting.Front(); e != nil {
		q.waiting.Remove(e).(chan struct{}) <- struct{}{}
	}
}

// wakeAll lets all of them try.
func (q *queue) wakeAll() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for e := q.waiting.Front(); e != nil; e = q.waiting.Front() {
		q.waiting.Remove(e).(chan struct{}) <- struct{}{}
	}
}

// wait is take for a request that has to wait.
func (p *Pool) wait(ctx context.Context, x *exchange) (*turn, error) {
	conf := &p.set.Load().conf
	late := time.NewTimer(conf.Queue.Timeout)
	defer late.Stop()
	for first := false; ; first = true {
		ready, leave, ok := p.queue.join(conf.Queue.Size, first)
		if !ok {
			return nil, errBusy
		}
		if t, err := p.try(x, nil); !errors.Is(err, errBusy) { // a place has become free before the queue was joined
			leave()
			p.pass(ready)
			return t, err
		}
		var err error
		select {
		case <-ready:
			continue // first again, for somebody may be quicker
		case <-late.C:
			err = errBusy
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
		leave()
		p.pass(ready)
		return nil, err
	}
}

// pass wakes the next in place of one that was woken and does not need it.
func (p *Pool) pass(ready chan struct{}) {
	select {
	case <-ready:
		p.queue.wake()
	default:
	}
}
