package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"fairlead/userspace/control"
	"fairlead/userspace/model"
	"fairlead/userspace/state"
)

var (
	// errLent says that a successor has the state, and may fail yet.
	errLent = fmt.Errorf("%w: another process is about to take over: try again", control.ErrUnavailable)
	// errMoved says that somebody who is no successor had the state meanwhile.
	errMoved = errors.New("another agent has changed the state while it was away: restart this one, and give each a place of its own")
)

// A lent store is one that a successor may have for a while.
type lent struct {
	open func() (state.Store, error)
	mu   sync.RWMutex
	own  state.Store // nil while it is away
	head state.Head  // what it held when it went
	away error       // why it is; nil if it could not be opened, which is tried again
}

// openLent opens where the agent keeps its state, which may be the server of conf.
func openLent(ctx context.Context, dir string, conf *model.Vault, log *slog.Logger) (*lent, error) {
	l := &lent{open: func() (state.Store, error) { return openStore(ctx, dir, conf, log) }}
	if dir == state.Off { // there is nothing that another process could have
		memory := state.NewMemory()
		l.open = func() (state.Store, error) { return memory, nil }
	}
	var err error
	l.own, err = l.open()
	return l, err
}

// lend closes the store, so that another process can open it. Nobody uses it then,
// even after an error.
func (l *lent) lend(ctx context.Context) error {
	head, err := l.Head(ctx)
	if err == nil {
		l.mu.Lock()
		l.head = head
		l.mu.Unlock()
	}
	return errors.Join(err, l.Close())
}

// takeBack opens the store again, which must hold what it held. If that cannot be done
// now, whoever uses the store tries it again.
func (l *lent) takeBack(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.own == nil {
		l.away = nil
	}
	return l.reopen(ctx)
}

// reopen opens the store again, unless it is here, or away for a reason. The caller
// holds l.mu.
func (l *lent) reopen(ctx context.Context) error {
	if l.own != nil || l.away != nil {
		return l.away
	}
	own, err := l.open()
	if err != nil {
		return err
	}
	head, err := own.Head(ctx)
	if err == nil && (head.Last != l.head.Last || !slices.Equal(head.Documents, l.head.Documents)) {
		l.away, err = errMoved, errMoved
	}
	if err != nil {
		return errors.Join(err, own.Close())
	}
	l.own = own
	return nil
}

// use calls f with the store, if it is here.
func (l *lent) use(ctx context.Context, f func(state.Store) error) error {
	l.mu.RLock()
	defer l.mu.RUnlock()
	for l.own == nil {
		l.mu.RUnlock()
		l.mu.Lock()
		err := l.reopen(ctx)
		l.mu.Unlock()
		l.mu.RLock()
		if err != nil {
			return err
		}
	}
	return f(l.own)
}

// What follows is of [state.Store].

func (l *lent) Head(ctx context.Context) (h state.Head, err error) {
	err = l.use(ctx, func(s state.Store) error {
		h, err = s.Head(ctx)
		return err
	})
	return h, err
}

func (l *lent) Append(ctx context.Context, h state.Head, entries []state.Entry, documents map[string][]byte) error {
	return l.use(ctx, func(s state.Store) error { return s.Append(ctx, h, entries, documents) })
}

func (l *lent) Entries(ctx context.Context, first, last uint64) (all []state.Entry, err error) {
	err = l.use(ctx, func(s state.Store) error {
		all, err = s.Entries(ctx, first, last)
		return err
	})
	return all, err
}

func (l *lent) Document(ctx context.Context, digest string) (data []byte, err error) {
	err = l.use(ctx, func(s state.Store) error {
		data, err = s.Document(ctx, digest)
		return err
	})
	return data, err
}

func (l *lent) Keep(ctx context.Context, name string, data []byte) error {
	return l.use(ctx, func(s state.Store) error { return s.Keep(ctx, name, data) })
}

func (l *lent) Kept(ctx context.Context, name string) (data []byte, at time.Time, err error) {
	err = l.use(ctx, func(s state.Store) error {
		data, at, err = s.Kept(ctx, name)
		return err
	})
	return data, at, err
}

func (l *lent) Most() (n int) {
	_ = l.use(context.Background(), func(s state.Store) error {
		n = s.Most()
		return nil
	})
	return n
}

// Close closes the store, if it is here.
func (l *lent) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	own := l.own
	l.own, l.away = nil, errLent
	if own == nil {
		return nil
	}
	return own.Close()
}
