// Package registry lets backends register themselves and takes them away when they
// fall silent, so that small set-ups need no service registry of others.
//
// A backend POSTs its address to /register with a token, and again before its
// time-to-live is over; see docs/control.md for requests and answers. Tokens belong
// to a pool and to networks. What has registered is a backend of that pool by an
// edit with a lease, as package control keeps it: it is in the history, survives a
// restart, and then has its whole time-to-live again.
package registry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"fairlead/userspace/control"
	"fairlead/userspace/model"
)

// retryAfter is how soon backends that could not be taken away are tried again.
const retryAfter = 100 * time.Millisecond

// removedAtOnce is how many backends are taken away by one change: where many are known,
// each change takes its time.
const removedAtOnce = 32

// A Registry keeps the leases of backends.
type Registry struct {
	plane control.Plane
	log   *slog.Logger
	now   func() time.Time
	known chan struct{} // closed when leases are those of all who have registered

	mu     sync.Mutex
	conf   *model.Registration // nil: nobody may register
	leases map[key]*lease
	wrong  guesses
	// earlier holds an element when a lease may end sooner than all others.
	earlier chan struct{}
}

// A key is a backend of a pool, or of a service that lists backends itself, as the
// configuration would have it. No pool and such a service have one name.
type key struct{ pool, backend string }

// A lease is for how long a backend that registered may be silent.
type lease struct {
	id  string // as idOf has it
	ttl time.Duration
	end time.Time
	// revision is the one that the backend came with, or 0 if that is not known.
	revision uint64
	weight   int
	// going says that the backend is being taken away, told why that failed last.
	going bool
	told  string
}

// New returns a Registry whose backends come and go through plane. Requests wait for
// [Registry.Run], before which [Registry.Use] is called.
func New(plane control.Plane, log *slog.Logger) *Registry {
	return &Registry{
		plane: plane, log: log, now: time.Now, known: make(chan struct{}),
		leases: map[key]*lease{}, wrong: newGuesses(), earlier: make(chan struct{}, 1),
	}
}

// Use lets those register from now on who have a token of conf; nil is nobody. Who
// has registered with another goes when the lease is over.
func (r *Registry) Use(conf *model.Registration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.conf = conf
}

// Run takes backends away whose leases are over, until ctx is done. It is called once.
func (r *Registry) Run(ctx context.Context) {
	changes := r.plane.Watch(ctx)
	r.follow()
	close(r.known)
	for {
		wait := r.expire(ctx)
		var over <-chan time.Time
		if wait > 0 {
			over = time.After(wait)
		}
		select {
		case <-ctx.Done():
			return
		case <-changes:
			r.follow()
		case <-r.earlier:
		case <-over:
		}
	}
}

// follow makes the leases those of the edits in force: after a restart or a
// rollback, and where somebody else has taken a backend away.
func (r *Registry) follow() {
	r.mu.Lock() // nobody else tells of later edits meanwhile
	defer r.mu.Unlock()
	number := r.plane.Revision().Number
	edits := r.plane.Edits()
	found := map[key]bool{}
	for i := range edits {
		e := &edits[i]
		if !leases(e) {
			continue
		}
		k := keyOf(e)
		found[k] = true
		if r.leases[k] == nil {
			r.leases[k] = &lease{id: idOf(k), ttl: e.Lease, end: r.now().Add(e.Lease), weight: weightOf(e.Weight)}
		}
	}
	for k, l := range r.leases {
		if !found[k] && l.revision <= number && !l.going {
			delete(r.leases, k)
		}
	}
}

// leases reports whether an edit adds a backend that has registered.
func leases(e *control.Edit) bool { return e.Op == control.OpAddBackend && e.Lease > 0 }

// keyOf returns the backend that an edit adds.
func keyOf(e *control.Edit) key { return key{cmp.Or(e.Pool, e.Service), e.Backend} }

// expire takes away whoever was silent for too long, and returns when to look
// again; 0 is not before somebody registers.
func (r *Registry) expire(ctx context.Context) (wait time.Duration) {
	const who = "registration (silent)"
	failed := false
	for batch := range slices.Chunk(r.over(), removedAtOnce) {
		err := r.remove(ctx, who, batch...)
		if err == nil || len(batch) == 1 {
			failed = !r.ended(ctx, batch, err) || failed
			continue
		}
		for one := range slices.Chunk(batch, 1) { // whose fault it is
			failed = !r.ended(ctx, one, r.remove(ctx, who, one...)) || failed
		}
	}
	if failed {
		return retryAfter
	}
	return r.next()
}

// ended notes what became of backends that were to be taken away, and reports whether
// they are.
func (r *Registry) ended(ctx context.Context, gone []control.Edit, err error) bool {
	for i := range gone {
		k, news := keyOf(&gone[i]), false
		r.mu.Lock()
		if l := r.leases[k]; err == nil {
			delete(r.leases, k)
		} else if l != nil {
			news = l.told != err.Error()
			l.going, l.told = false, err.Error()
		}
		r.mu.Unlock()
		switch {
		case err == nil:
			r.log.Info("backend fell silent", "pool", k.pool, "backend", k.backend)
		case news && ctx.Err() == nil && !errors.Is(err, control.ErrUnavailable):
			r.log.Error("take silent backend away", "pool", k.pool, "backend", k.backend, "err", err)
		}
	}
	return err == nil
}

// over returns edits that take backends away whose leases are over; they are going from
// now on.
func (r *Registry) over() (all []control.Edit) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for k, l := range r.leases {
		if !l.going && !r.now().Before(l.end) {
			l.going = true
			all = append(all, removal(k, l))
		}
	}
	return all
}

// next returns how long it is until the next lease may be over.
func (r *Registry) next() (wait time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, l := range r.leases {
		if left := max(l.end.Sub(r.now()), time.Millisecond); !l.going && (wait == 0 || left < wait) {
			wait = left
		}
	}
	return wait
}

// removal returns the edit that ends a lease.
func removal(k key, l *lease) control.Edit {
	return control.Edit{Op: control.OpRemoveBackend, Pool: k.pool, Backend: k.backend, Lease: l.ttl}
}

// remove takes backends away, together. One alone may have gone already.
func (r *Registry) remove(ctx context.Context, who string, gone ...control.Edit) error {
	_, err := r.plane.Change(ctx, control.Request{Who: who, Edits: gone})
	if len(gone) == 1 && errors.Is(err, control.ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove backend: %w", err)
	}
	return nil
}

// weightOf returns what a backend without a weight has.
func weightOf(w *int) int {
	if w == nil {
		return 1
	}
	return *w
}
