package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"fairlead/userspace/config"
	"fairlead/userspace/control"
	"fairlead/userspace/model"
	"fairlead/userspace/state"
	"fairlead/userspace/view"
)

// A plane carries out changes of the configuration, one after the other, and keeps
// the history of them. It is what [control.Plane] asks for.
//
// A change is in force first, kept then, and answered at last. So an agent that dies
// on the way comes back with the configuration of before, or with the new one.
type plane struct {
	agent   *agent
	log     *slog.Logger
	history *state.History
	store   *lent

	requests chan *request
	over     chan struct{} // closed when nobody takes requests any more

	file atomic.Pointer[base] // what the file says
	// last is what files that the configuration names had last.
	last *config.LastRead

	mu       sync.Mutex
	conf     *conf // in force
	revision control.Revision
	watchers map[chan struct{}]bool
}

var _ control.Plane = (*plane)(nil)

// A request waits to be carried out. Its answer does not block.
type request struct {
	control.Request
	rollback uint64 // the revision to restore; 0: the edits count
	answer   chan answer
	reread   func(context.Context) // reads the file again; nil: it is a change
}

type answer struct {
	revision control.Revision
	err      error
}

// openStore opens where the agent keeps its state, which may be the server of conf.
func openStore(ctx context.Context, dir string, conf *model.Vault, log *slog.Logger) (state.Store, error) {
	if path, ok := config.StateInVault(dir); ok {
		return openVaultStore(ctx, path, conf, log)
	}
	f, broken, err := state.OpenFile(dir)
	if err != nil {
		return nil, err
	}
	if broken != nil {
		log.Error("state is lost, the configuration is that of the file", "err", broken)
	}
	return f, nil
}

// newPlane returns a plane that begins with what a store holds, on top of the file.
func newPlane(ctx context.Context, file *config.Tree, store *lent, o *Options) (*plane, error) {
	p := &plane{log: o.Log, store: store, requests: make(chan *request), over: make(chan struct{}), watchers: map[chan struct{}]bool{}}
	var err error
	if p.history, err = state.NewHistory(ctx, store, state.DefaultLimit); err != nil {
		return nil, err
	}
	p.last = config.NewLastRead(func(name string, err error) {
		p.log.Warn("file is not usable, what it had last counts", "file", name, "err", err)
	})
	b, err := baseOf(file.Beside(p.last))
	if err != nil {
		return nil, err
	}
	p.file.Store(b)
	var kept state.Config
	p.revision, kept = p.history.Last()
	p.revision = shown(p.revision)
	if o.Quick != nil && len(kept.Edits) > 0 && !kept.Applied && kept.Base != b.digest {
		p.log.Warn("another command line than that which changes of the API were made on: they do not count; fairlead rollback brings them back", "revision", p.revision.Number, "changes", len(kept.Edits))
		kept = state.Config{Base: b.digest}
	}
	if p.conf, err = p.restore(ctx, kept, o.Config); err != nil {
		p.log.Error("what changes of the API stand on is not usable, the file counts", "revision", p.revision.Number, "err", err)
		if p.conf, err = p.file.Load().with(kept.Edits); err != nil {
			return nil, err
		}
	}
	p.last.Use(p.conf.tree, p.conf.base.tree)
	p.conf.warn(p.log)
	return p, nil
}

// restore returns a configuration that is kept, on top of the file unless another
// document stands in its place.
func (p *plane) restore(ctx context.Context, kept state.Config, path string) (*conf, error) {
	b, err := p.keptBase(ctx, kept, path)
	if err != nil {
		return nil, err
	}
	return b.with(kept.Edits)
}

// keptBase returns what the edits of a configuration that is kept are on top of.
func (p *plane) keptBase(ctx context.Context, kept state.Config, path string) (*base, error) {
	if !kept.Applied || kept.Base == p.file.Load().digest {
		return p.file.Load(), nil
	}
	document, err := p.history.Document(ctx, kept.Base)
	if err != nil {
		return nil, err
	}
	return p.applied(path, document)
}

// noteFile makes a file that has changed since the last revision one of its own.
func (p *plane) noteFile(ctx context.Context) {
	last, kept := p.history.Last()
	now := p.inForce()
	if last.Number > 0 && kept.Base == now.base.digest && kept.Applied == now.base.applied {
		return
	}
	steps := []state.Step{now.step(control.Revision{Time: time.Now(), Who: "file"})}
	if err := p.history.Append(ctx, steps); err != nil {
		p.log.Error("keep the revision of the file", "err", err)
		return
	}
	p.settle(now, steps[0].Revision)
}

// tellOverlay says what decides about the configuration beside the file.
func (p *plane) tellOverlay() {
	now, number := p.inForce(), p.Revision().Number
	if p.agent.opts.StateDir == state.Off {
		p.log.Info("changes of the API end with the process", "state-dir", state.Off)
	}
	if now.base.applied {
		p.log.Info("a configuration that was applied stands in the place of the file", "revision", number)
	}
	if n := len(now.edits) - len(now.dormant); n > 0 {
		p.log.Info("changes of the API lie on top", "changes", n, "revision", number)
	}
}

// settle makes a configuration the one in force.
func (p *plane) settle(c *conf, r control.Revision) {
	p.last.Use(c.tree, c.base.tree)
	p.mu.Lock()
	p.conf, p.revision = c, shown(r)
	p.mu.Unlock()
	p.tell()
}

func (p *plane) inForce() *conf {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.conf
}

// tell wakes those who watch.
func (p *plane) tell() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for w := range p.watchers {
		select {
		case w <- struct{}{}:
		default: // it is said already
		}
	}
}

// Change implements [control.Plane].
func (p *plane) Change(ctx context.Context, r control.Request) (control.Revision, error) {
	if len(r.Edits) == 0 {
		return control.Revision{}, errNoEdits
	}
	if err := p.checkReach(&r, r.Edits, p.inForce()); err != nil {
		return control.Revision{}, err
	}
	if !r.Force {
		ctx, end := p.while(ctx)
		defer end()
		if err := p.probe(ctx, &r); err != nil {
			if errors.Is(context.Cause(ctx), control.ErrUnavailable) {
				err = control.ErrUnavailable
			}
			return control.Revision{}, faultOf(err)
		}
	}
	return p.ask(ctx, &request{Request: r})
}

// while returns ctx, which also ends, with [control.ErrUnavailable], when nobody takes
// requests any more. The caller must call end.
func (p *plane) while(ctx context.Context) (_ context.Context, end func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	var watching sync.WaitGroup
	watching.Go(func() {
		select {
		case <-p.over:
			cancel(control.ErrUnavailable)
		case <-ctx.Done():
		}
	})
	return ctx, func() {
		cancel(nil)
		watching.Wait()
	}
}

// checkReach refuses edits that name more of this host than the file, or now, the
// configuration in force, if who asks is elsewhere. Nothing is read before.
func (p *plane) checkReach(r *control.Request, edits []control.Edit, now *conf) error {
	if !r.Remote {
		return nil
	}
	return faultOf(config.CheckReach(edits, p.file.Load().tree, now.tree))
}

// Rollback implements [control.Plane].
func (p *plane) Rollback(ctx context.Context, number uint64, r control.Request) (control.Revision, error) {
	if number == 0 {
		return control.Revision{}, fmt.Errorf("revision 0: %w", control.ErrNotFound)
	}
	return p.ask(ctx, &request{Request: r, rollback: number})
}

var errNoEdits = fmt.Errorf("%w: it has no edits: give at least one", control.ErrInvalid)

// An invalid is a fault of the configuration that a change would make.
type invalid struct{ error }

func (e invalid) Unwrap() []error { return []error{control.ErrInvalid, e.error} }

// A refused is why a good configuration is not in force.
type refused struct{ error }

func (e refused) Unwrap() []error { return []error{control.ErrRefused, e.error} }

// faultOf returns an error of a change as [control.Plane] has it.
func faultOf(err error) error {
	if errors.Is(err, config.ErrInvalid) {
		return invalid{err}
	}
	return err
}

// ask has a request carried out.
func (p *plane) ask(ctx context.Context, r *request) (control.Revision, error) {
	r.answer = make(chan answer, 1)
	select {
	case p.requests <- r:
	case <-p.over:
		return control.Revision{}, control.ErrUnavailable
	case <-ctx.Done():
		return control.Revision{}, context.Cause(ctx)
	}
	select {
	case a := <-r.answer: // which comes always
		return a.revision, faultOf(a.err)
	case <-ctx.Done():
		return control.Revision{}, fmt.Errorf("await change, which may come in force yet: %w", context.Cause(ctx))
	}
}

// Plan implements [control.Plane].
func (p *plane) Plan(ctx context.Context, r control.Request) (difference string, err error) {
	before := p.inForce()
	if err := p.expected(&r, p.Revision().Number); err != nil {
		return "", err
	}
	if err := p.checkReach(&r, r.Edits, before); err != nil {
		return "", err
	}
	ctx, end := p.while(ctx)
	defer end()
	after, err := p.edit(before, r.Edits)
	if err == nil {
		err = p.possible(ctx, after, before)
	}
	if err != nil {
		return "", faultOf(err)
	}
	return before.difference(after)
}

// Revision implements [control.Plane].
func (p *plane) Revision() control.Revision {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.revision
}

// Edits implements [control.Plane].
func (p *plane) Edits() []control.Edit { return p.inForce().edits }

// Export implements [control.Plane].
func (p *plane) Export() ([]byte, error) { return p.inForce().tree.Export() }

// View implements [control.Plane].
func (p *plane) View() *view.View { return p.agent.latest.Load() }

// Now implements [control.Plane].
func (p *plane) Now(ctx context.Context) *view.View {
	if v := p.View(); v == nil || v.Revision >= p.Revision().Number {
		return v
	}
	published := make(chan struct{})
	select {
	case p.agent.events <- func() { p.agent.publishSoon(); close(published) }:
		<-published
	case <-p.over:
	case <-ctx.Done():
	}
	return p.View()
}

// Watch implements [control.Plane].
func (p *plane) Watch(ctx context.Context) <-chan struct{} {
	w := make(chan struct{}, 1)
	p.mu.Lock()
	p.watchers[w] = true
	p.mu.Unlock()
	context.AfterFunc(ctx, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.watchers, w)
	})
	return w
}

// expected refuses a request that expects another revision than number.
func (p *plane) expected(r *control.Request, number uint64) error {
	if r.Expect != 0 && r.Expect != number {
		return fmt.Errorf("%w: revision %d is in force, not %d: look at what has changed, and try again", control.ErrConflict, number, r.Expect)
	}
	return nil
}
