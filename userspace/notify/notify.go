// Package notify tells others of what changes: it runs commands and posts to web
// hooks.
//
// A [Notifier] never makes anybody wait: events beyond what its receivers take in
// are dropped and counted. It does not try again, and does not know what events
// are about.
package notify

import (
	"context"
	"log/slog"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"fairlead/userspace/model"
)

// An Event is a change.
type Event struct {
	Time    time.Time `json:"time"`
	Service string    `json:"service"`           // or the pool
	Backend string    `json:"backend,omitempty"` // "" if it is about the service
	Name    string    `json:"name,omitempty"`    // of the backend
	State   string    `json:"state"`
	Reason  string    `json:"reason,omitempty"`
	// Dropped counts the events before this one that the receiver did not get.
	Dropped uint64 `json:"dropped,omitempty"`
}

// maxWaiting is how many events may wait for a receiver.
const maxWaiting = 256

// A receiver gets events, one at a time.
type receiver struct {
	conf    model.Notify
	waiting chan Event
	dropped atomic.Uint64
	pace    pace
}

// A Notifier hands events to receivers. Its methods may be called at any time.
type Notifier struct {
	log *slog.Logger

	mu        sync.Mutex
	receivers []*receiver
	changed   chan struct{} // holds one element after others were set
}

// New returns a Notifier without receivers, which does nothing before Run.
func New(log *slog.Logger) *Notifier {
	return &Notifier{log: log, changed: make(chan struct{}, 1)}
}

// Use makes these the receivers. Events that wait for one that stays are kept.
func (n *Notifier) Use(conf []model.Notify) {
	n.mu.Lock()
	defer n.mu.Unlock()
	fresh := make([]*receiver, len(conf))
	for i, c := range conf {
		for _, r := range n.receivers {
			if reflect.DeepEqual(r.conf, c) {
				fresh[i] = r
			}
		}
		if fresh[i] == nil {
			fresh[i] = &receiver{conf: c, waiting: make(chan Event, maxWaiting), pace: pace{gap: time.Minute / time.Duration(c.Rate)}}
		}
	}
	n.receivers = fresh
	select {
	case n.changed <- struct{}{}:
	default: // it is said already
	}
}

// Wanted reports whether anybody receives events.
func (n *Notifier) Wanted() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.receivers) > 0
}

// Tell has all receivers get an event. It never blocks.
func (n *Notifier) Tell(e Event) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, r := range n.receivers {
		select {
		case r.waiting <- e:
		default:
			r.dropped.Add(1)
		}
	}
}

// Run hands events out until ctx is done, and waits for what it has begun, which it
// breaks off.
func (n *Notifier) Run(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	stops := map[*receiver]context.CancelFunc{}
	for {
		n.mu.Lock()
		receivers := n.receivers
		n.mu.Unlock()
		for r, stop := range stops {
			if !slices.Contains(receivers, r) {
				stop()
				delete(stops, r)
			}
		}
		for _, r := range receivers {
			if stops[r] == nil {
				own, stop := context.WithCancel(ctx)
				stops[r] = stop
				running.Go(func() {
					defer stop()
					r.run(own, n.log)
				})
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-n.changed:
		}
	}
}

// run hands events to a receiver until ctx is done.
func (r *receiver) run(ctx context.Context, log *slog.Logger) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(r.pace.wait(time.Now())):
		}
		select {
		case <-ctx.Done():
			return
		case e := <-r.waiting:
			r.pace.spend(time.Now())
			e.Dropped = r.dropped.Swap(0)
			if err := r.deliver(ctx, e); err != nil && ctx.Err() == nil {
				log.Warn("notification not delivered", "service", e.Service, "backend", e.Backend, "state", e.State, "err", err)
			}
		}
	}
}

// A pace lets ten events through at once, and else one each gap (the generic cell
// rate algorithm).
type pace struct {
	gap  time.Duration
	full time.Time // when all of the ten may come at once again
}

const atOnce = 10

// wait returns how long to wait for the next.
func (p *pace) wait(now time.Time) time.Duration {
	if p.full.Before(now) {
		return 0
	}
	return max(0, p.full.Sub(now)-(atOnce-1)*p.gap)
}

func (p *pace) spend(now time.Time) {
	if p.full.Before(now) {
		p.full = now
	}
	p.full = p.full.Add(p.gap)
}
