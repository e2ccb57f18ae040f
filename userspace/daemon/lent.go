package daemon

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"fairlead/userspace/model"
	"fairlead/userspace/state"
)

// errLent says that a successor has the state, and may fail yet.
var errLent = errors.New("another process is about to take over: try again")

// A lent store is one that a successor may have for a while.
type lent struct {
	open func() (state.Store, error)
	mu   sync.RWMutex
	own  state.Store // nil while it is away
}

// openLent opens where the agent keeps its state, which may be the server of conf.
func openLent(ctx context.Context, dir string, conf *model.Vault, log *slog.Logger) (*lent, error) {
	l := &lent{open: func() (state.Store, error) { return openStore(ctx, dir, conf, log) }}
	if dir == state.Off { // there is nothing that another process could have
		memory := state.NewMemory()
		l.open = func() (state.Store, error) { return memory, nil }
	}
	return l, l.takeBack()
}

// lend closes the store, so that another process can open it.
func (l *lent) lend() error { return l.Close() }

// takeBack opens the store again, which must hold what it held.
func (l *lent) takeBack() (err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.own, err = l.open()
	return err
}

// use calls f with the store, if it is here.
func (l *lent) use(f func(state.Store) error) error {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.own == nil {
		return errLent
	}
	return f(l.own)
}

// What follows is of [state.Store].

func (l *lent) Head(ctx context.Context) (h state.Head, err error) {
	err = l.use(func(s state.Store) error {
		h, err = s.Head(ctx)
		return err
	})
	return h, err
}

func (l *lent) Append(ctx context.Context, h state.Head, entries []state.Entry, documents map[string][]byte) error {
	return l.use(func(s state.Store) error { return s.Append(ctx, h, entries, documents) })
}

func (l *lent) Entries(ctx context.Context, first, last uint64) (all []state.Entry, err error) {
	err = l.use(func(s state.Store) error {
		all, err = s.Entries(ctx, first, last)
		return err
	})
	return all, err
}

func (l *lent) Document(ctx context.Context, digest string) (data []byte, err error) {
	err = l.use(func(s state.Store) error {
		data, err = s.Document(ctx, digest)
		return err
	})
	return data, err
}

func (l *lent) Keep(ctx context.Context, name string, data []byte) error {
	return l.use(func(s state.Store) error { return s.Keep(ctx, name, data) })
}

func (l *lent) Kept(ctx context.Context, name string) (data []byte, at time.Time, err error) {
	err = l.use(func(s state.Store) error {
		data, at, err = s.Kept(ctx, name)
		return err
	})
	return data, at, err
}

func (l *lent) Most() (n int) {
	_ = l.use(func(s state.Store) error {
		n = s.Most()
		return nil
	})
	return n
}

// Close closes the store, if it is here.
func (l *lent) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.own == nil {
		return nil
	}
	own := l.own
	l.own = nil
	return own.Close()
}
