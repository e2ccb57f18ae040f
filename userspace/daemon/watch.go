package daemon

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vishvananda/netlink"
)

// settle is how long the host must be quiet before changes are looked at.
const settle = 100 * time.Millisecond

// errWatch says that the kernel no longer tells of changes.
var errWatch = errors.New("netlink subscription ended")

// watchHost looks after links, addresses and routes until ctx is done. What
// the kernel could not tell, because too much happened at once, is made up for
// by a fresh subscription and a look at all.
func (a *agent) watchHost(ctx context.Context) error {
	for ctx.Err() == nil {
		err := a.watchOnce(ctx)
		if ctx.Err() != nil {
			break
		}
		a.log.Warn("watch the host", "err", err)
		select {
		case <-ctx.Done():
		case <-time.After(beat):
			a.send(ctx, func() { a.hostChanged(ctx) })
		}
	}
	return nil
}

func (a *agent) watchOnce(ctx context.Context) error {
	done := make(chan struct{})
	defer close(done)
	links := make(chan netlink.LinkUpdate, 64)
	routes := make(chan netlink.RouteUpdate, 64)
	addrs := make(chan netlink.AddrUpdate, 64)
	if err := errors.Join(
		netlink.LinkSubscribe(links, done),
		netlink.RouteSubscribe(routes, done),
		netlink.AddrSubscribe(addrs, done),
	); err != nil {
		return fmt.Errorf("subscribe: %w", err)
	}
	quiet := time.NewTimer(settle)
	defer quiet.Stop()
	for {
		ok := true
		select {
		case <-ctx.Done():
			return nil
		case <-quiet.C:
			a.send(ctx, func() { a.hostChanged(ctx) })
			continue
		case _, ok = <-links:
		case _, ok = <-routes:
		case _, ok = <-addrs:
		}
		if !ok {
			return errWatch
		}
		quiet.Reset(settle)
	}
}
