package httpproxy

import (
	"sync"
	"sync/atomic"
	"time"

	"fairlead/userspace/model"
)

// outs are when and how often a backend was left out.
type outs struct {
	until atomic.Int64 // in nanoseconds since 1970

	mu       sync.Mutex
	failures int // in a row
	times    int // without a good while between them
	told     time.Time
}

// tellEvery is how often the log says at most that a backend fails.
const tellEvery = time.Minute

// end returns until when the backend is left out.
func (o *outs) end() time.Time {
	if at := o.until.Load(); at != 0 {
		return time.Unix(0, at)
	}
	return time.Time{}
}

// succeed notes an answer.
func (o *outs) succeed() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.failures = 0
}

// fail notes that there was none, and returns how long the backend is to be left
// out: 0 for not at all, or no longer than it is already.
func (o *outs) fail(e *model.Eject, now time.Time) time.Duration {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.failures++
	ended := o.end()
	if e.Failures == 0 || o.failures < e.Failures || ended.After(now) {
		return 0
	}
	length := span(e, o.times)
	if o.times > 0 && now.Sub(ended) > length {
		o.times, length = 0, e.Time // it was good for as long as it would be out
	}
	return length
}

// tell reports whether the log is to say that the backend fails.
func (o *outs) tell(now time.Time) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if now.Sub(o.told) < tellEvery {
		return false
	}
	o.told = now
	return true
}

// eject leaves the backend out.
func (o *outs) eject(until time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.failures = 0
	o.times++
	o.until.Store(until.UnixNano())
}

// span returns how long who was out so many times is left out.
func span(e *model.Eject, times int) time.Duration {
	length := e.Time
	for range times {
		if length *= 2; length >= e.Most {
			return e.Most
		}
	}
	return length
}

// judge notes how a backend has served a request, and leaves it out if that was
// too bad too often and not too many others are out.
func (p *Pool) judge(t *turn, failure error) {
	if failure == nil {
		t.backend.outs.succeed()
		return
	}
	t.backend.tally.failures.Add(1)
	p.updating.Lock()
	defer p.updating.Unlock()
	now, conf := time.Now(), &t.set.conf
	if t.backend.outs.tell(now) {
		p.log.Warn("backend fails", "pool", conf.Name, "backend", t.backend.Address, "err", failure)
	}
	length := t.backend.outs.fail(&conf.Eject, now)
	if length == 0 {
		return
	}
	out := 1
	for _, b := range t.set.backends {
		if b.outs.end().After(now) {
			out++
		}
	}
	if 100*out > conf.Eject.Share*len(t.set.backends) {
		return
	}
	t.backend.outs.eject(now.Add(length))
	p.log.Warn("backend is left out", "pool", conf.Name, "backend", t.backend.Address, "time", length, "err", failure)
}
