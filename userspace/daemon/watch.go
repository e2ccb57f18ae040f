package daemon

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
)

// settle is how long after a change the host is looked at: one seldom comes
// alone.
const settle = 100 * time.Millisecond

// errWatch says that the kernel no longer tells of changes.
var errWatch = errors.New("netlink subscription ended")

// watchHost looks after links, addresses and routes until ctx is done. What
// the kernel could not tell, because too much happened at once, is made up for
// by a fresh subscription and a look at all.
func (a *agent) watchHost(ctx context.Context) {
	for said := ""; ctx.Err() == nil; {
		err := a.watchOnce(ctx)
		if ctx.Err() != nil {
			return
		}
		if err.Error() != said {
			said = err.Error()
			a.log.Warn("watch the host", "err", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(beat):
			a.send(ctx, func() { a.hostChanged(ctx) })
		}
	}
}

// watchOnce calls hostChanged after changes until the subscriptions end.
func (a *agent) watchOnce(ctx context.Context) error {
	w := &watch{done: make(chan struct{}), changed: make(chan struct{}, 1), ended: make(chan struct{}, 3)}
	defer w.running.Wait()
	defer close(w.done)
	if err := errors.Join(
		subscribe(w, netlink.LinkSubscribe), subscribe(w, netlink.RouteSubscribe), subscribe(w, netlink.AddrSubscribe),
	); err != nil {
		return fmt.Errorf("subscribe: %w", err)
	}
	w.changed <- struct{}{} // whatever happened before
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-w.ended:
			return errWatch
		case <-w.changed:
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(settle):
			a.send(ctx, func() { a.hostChanged(ctx) })
		}
	}
}

// A watch is what subscriptions share.
type watch struct {
	done    chan struct{} // closed to end them
	changed chan struct{} // holds one element after a change
	ended   chan struct{} // one element for each that has ended
	running sync.WaitGroup
}

func subscribe[T any](w *watch, to func(chan<- T, <-chan struct{}) error) error {
	updates := make(chan T)
	if err := to(updates, w.done); err != nil {
		return err
	}
	w.running.Go(func() {
		for range updates { // until the library closes it
			select {
			case w.changed <- struct{}{}:
			default: // it is said already
			}
		}
		w.ended <- struct{}{}
	})
	return nil
}
