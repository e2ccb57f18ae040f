// Package fragments holds the fragments that came before the first one of their
// datagram until that has come.
//
// Only a first fragment has ports, so the kernel, which cannot wait, does not
// know where the others go. It hands them over, and takes them back when it
// knows. What is held is bounded in time and memory; whatever is given up is
// counted. The package forwards nothing, and knows no ports either.
package fragments

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"
)

const (
	// MaxAge is how long a fragment is held, MaxBytes how much of them at
	// once, their overhead included.
	MaxAge   = 2 * time.Second
	MaxBytes = 16 << 20

	// overhead is what a fragment takes beside its frame, at most.
	overhead = 256
	// sweepEvery is how often all that is held is looked at, as the news of a
	// first fragment may be lost.
	sweepEvery = 500 * time.Millisecond
)

// A Datapath is where fragments come from. K names a datagram.
type Datapath[K comparable] interface {
	// Next returns the next frame to hold, which is valid until the next call,
	// and the interface that it came in by. No frame says that the first
	// fragment of that datagram has come. Errors wrap
	// [os.ErrDeadlineExceeded] when there is none until then.
	Next(deadline time.Time) (of K, ifindex uint32, frame []byte, err error)
	// HasFirst reports whether the first fragment of a datagram has come.
	HasFirst(of K) (bool, error)
	// GiveBack lets a frame come in by an interface again.
	GiveBack(ifindex uint32, frame []byte) error
	// Close ends Next, also one that waits, and may be called twice.
	Close() error
}

// Stats count fragments. The zero value is ready for use, by one keeper after
// another.
type Stats struct {
	Held      atomic.Int64  // now
	Bytes     atomic.Int64  // now, with their overhead
	Taken     atomic.Uint64 // from the kernel
	GivenBack atomic.Uint64
	TimedOut  atomic.Uint64 // dropped: their first one has not come
	NoRoom    atomic.Uint64 // dropped: others took more than there is
	Failed    atomic.Uint64 // dropped: the kernel did not take them back
}

// A Keeper holds fragments for one datapath. Run it once.
type Keeper[K comparable] struct {
	from  Datapath[K]
	stats *Stats
	log   *slog.Logger
	order list.List // of *datagram[K], the oldest first
	by    map[K]*list.Element
	said  bool // that the kernel did not do what it should
}

// A datagram is what is held of one, in the order in which it came.
type datagram[K comparable] struct {
	of     K
	pieces []piece
	since  time.Time
	bytes  int64
}

type piece struct {
	ifindex uint32
	frame   []byte
}

// New returns a keeper that counts in stats.
func New[K comparable](from Datapath[K], stats *Stats, log *slog.Logger) *Keeper[K] {
	return &Keeper[K]{from: from, stats: stats, log: log, by: map[K]*list.Element{}}
}

// Run holds fragments and gives them back until ctx is done, and returns its
// cause. Then, or after an error, it closes the datapath and drops what it holds.
func (k *Keeper[K]) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = k.from.Close() })
	err := k.run()
	stop()
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return errors.Join(err, k.from.Close())
}

func (k *Keeper[K]) run() error {
	defer func() {
		for k.order.Len() > 0 {
			k.drop(k.order.Front(), &k.stats.Failed)
		}
	}()
	sweep := time.Now().Add(sweepEvery)
	for {
		of, ifindex, frame, err := k.from.Next(sweep)
		now := time.Now()
		switch {
		case err == nil && len(frame) > 0:
			k.hold(of, piece{ifindex, append([]byte(nil), frame...)}, now)
		case err == nil:
			k.giveBack(of)
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return fmt.Errorf("hold fragments: %w", err)
		}
		if !now.Before(sweep) {
			k.sweep(now)
			sweep = now.Add(sweepEvery)
		}
	}
}

// hold keeps a fragment, unless the first one has come meanwhile.
func (k *Keeper[K]) hold(of K, p piece, now time.Time) {
	at := k.by[of]
	if at == nil {
		at = k.order.PushBack(&datagram[K]{of: of, since: now})
		k.by[of] = at
	}
	d := at.Value.(*datagram[K])
	size := int64(len(p.frame) + overhead)
	d.pieces = append(d.pieces, p)
	d.bytes += size
	k.stats.Taken.Add(1)
	k.stats.Held.Add(1)
	k.stats.Bytes.Add(size)
	if k.hasFirst(of) {
		k.giveBack(of)
	}
	for k.stats.Bytes.Load() > MaxBytes {
		k.drop(k.order.Front(), &k.stats.NoRoom)
	}
}

// hasFirst reports whether the first fragment of a datagram has come.
func (k *Keeper[K]) hasFirst(of K) bool {
	has, err := k.from.HasFirst(of)
	k.complain(err)
	return has
}

// giveBack gives what is held of a datagram back to the kernel.
func (k *Keeper[K]) giveBack(of K) {
	at := k.by[of]
	if at == nil {
		return
	}
	d := at.Value.(*datagram[K])
	for len(d.pieces) > 0 {
		p := d.pieces[0]
		if err := k.from.GiveBack(p.ifindex, p.frame); err != nil {
			k.complain(err)
			break
		}
		k.stats.GivenBack.Add(1)
		k.stats.Held.Add(-1)
		d.pieces = d.pieces[1:]
	}
	k.drop(at, &k.stats.Failed)
}

// drop gives up what is held of a datagram, and counts it there.
func (k *Keeper[K]) drop(at *list.Element, as *atomic.Uint64) {
	d := k.order.Remove(at).(*datagram[K])
	delete(k.by, d.of)
	as.Add(uint64(len(d.pieces)))
	k.stats.Held.Add(-int64(len(d.pieces)))
	k.stats.Bytes.Add(-d.bytes)
}

// sweep gives back what nobody has told of, and gives up what is too old.
func (k *Keeper[K]) sweep(now time.Time) {
	for of := range k.by {
		if k.hasFirst(of) {
			k.giveBack(of)
		}
	}
	for at := k.order.Front(); at != nil && now.Sub(at.Value.(*datagram[K]).since) >= MaxAge; at = k.order.Front() {
		k.drop(at, &k.stats.TimedOut)
	}
}

// complain logs the first error.
func (k *Keeper[K]) complain(err error) {
	if err != nil && !k.said {
		k.said = true
		k.log.Warn("keep fragments", "err", err)
	}
}
