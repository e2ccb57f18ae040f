package daemon

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"fairlead/internal/crashpoint"
	"fairlead/userspace/config"
	"fairlead/userspace/control"
	"fairlead/userspace/model"
	"fairlead/userspace/state"
)

// most is how many requests are carried out together.
const most = 64

// linger is how long requests wait for others. It is shorter than what a change takes,
// and there is one only while there are several writers.
const linger = 500 * time.Microsecond

// run carries out requests until ctx is done: all that wait at a time.
func (p *plane) run(ctx context.Context) {
	defer close(p.over)
	for writers := 1; ; {
		batch := p.gather(ctx, writers)
		if len(batch) == 0 {
			return
		}
		p.carryAll(ctx, batch)
		writers = len(batch)
	}
}

// gather returns the requests that wait, none when ctx is done. Those who had an answer
// together come again one after the other: it lingers until there are so many.
func (p *plane) gather(ctx context.Context, writers int) (batch []*request) {
	select {
	case <-ctx.Done():
		return nil
	case r := <-p.requests:
		batch = append(batch, r)
	}
	var over <-chan time.Time
	if writers > 1 {
		over = time.After(linger)
	}
	for len(batch) < most {
		select {
		case r := <-p.requests:
			batch = append(batch, r)
			continue
		default:
		}
		if len(batch) >= writers {
			break
		}
		select {
		case r := <-p.requests:
			batch = append(batch, r)
		case <-over:
			writers = 0
		}
	}
	return batch
}

// carryAll carries out requests in their order, changes that follow each other
// together.
func (p *plane) carryAll(ctx context.Context, batch []*request) {
	var changes []*request
	for _, r := range batch {
		if r.reread == nil {
			changes = append(changes, r)
			continue
		}
		p.carry(ctx, changes)
		changes = nil
		r.reread(ctx)
		r.answer <- answer{}
	}
	p.carry(ctx, changes)
}

// carry carries out changes: those that are good come in force together, are kept,
// and then all are answered.
func (p *plane) carry(ctx context.Context, changes []*request) {
	before := p.inForce()
	now, good, steps := p.together(before, changes)
	if now == nil {
		now, good, steps = p.inTurn(ctx, before, changes)
	}
	if len(steps) == 0 {
		answerAll(good, p.Revision(), nil)
		return
	}
	crashpoint.Pass()
	err := p.force(ctx, now, before)
	crashpoint.Pass()
	if err != nil && len(good) > 1 {
		for _, g := range good { // whose fault it is
			p.carry(ctx, []*request{g.request})
		}
		return
	}
	was := p.Revision()
	if err == nil {
		if err = p.history.Append(ctx, steps); err == nil {
			p.settle(now, steps[len(steps)-1].Revision)
		} else {
			err = errors.Join(err, p.force(ctx, before, now))
		}
		p.agent.send(ctx, p.agent.settle) // behind it the revision is published
	}
	crashpoint.Pass()
	if err != nil {
		answerAll(good, control.Revision{}, err)
		return
	}
	for _, s := range steps {
		p.log.Info("configuration changed", "revision", s.Revision.Number, "who", s.Revision.Who, "change", changeText(&s.Revision))
	}
	for _, g := range good {
		r := was
		if g.steps > 0 {
			r = steps[g.steps-1].Revision
		}
		g.request.answer <- answer{revision: r}
	}
}

// A taken request is a good one of several.
type taken struct {
	request *request
	steps   int // how many revisions there are of it and those before it: none of its own if it changes nothing
}

func answerAll(good []taken, r control.Revision, err error) {
	for _, g := range good {
		g.request.answer <- answer{revision: r, err: err}
	}
}

// together returns what requests make of a configuration, and their revisions, by
// looking at the result alone; nil if that would not do, or some are at fault.
func (p *plane) together(before *conf, changes []*request) (now *conf, good []taken, steps []state.Step) {
	var all [][]control.Edit
	for _, r := range changes {
		if r.rollback != 0 || r.Expect != 0 {
			return nil, nil, nil
		}
		all = append(all, r.Edits)
	}
	if len(changes) < 2 || len(before.dormant) > 0 || !config.Independent(all) {
		return nil, nil, nil
	}
	draft := config.NewDraft(before.base.tree, before.edits)
	for _, r := range changes {
		was := draft.Changes()
		for _, e := range r.Edits {
			if draft.Add(e) != nil {
				return nil, nil, nil
			}
		}
		if draft.Changes() > was {
			c := conf{base: before.base, edits: slices.Clone(draft.Edits())}
			steps = append(steps, c.step(control.Revision{Time: time.Now(), Who: r.Who, Edits: r.Edits}))
		}
		good = append(good, taken{r, len(steps)})
	}
	if len(steps) == 0 {
		return before, good, nil
	}
	now, err := before.base.strictly(steps[len(steps)-1].Config.Edits, nil)
	if err != nil {
		return nil, nil, nil
	}
	return now, good, steps
}

// inTurn is together for requests of any kind, of which it answers those that are at
// fault and returns the others.
func (p *plane) inTurn(ctx context.Context, now *conf, changes []*request) (_ *conf, good []taken, steps []state.Step) {
	number := p.Revision().Number
	for _, r := range changes {
		next, step, err := p.next(ctx, now, r, number+uint64(len(steps)))
		if err != nil {
			r.answer <- answer{err: err}
			continue
		}
		if next != now {
			now, steps = next, append(steps, step)
		}
		good = append(good, taken{r, len(steps)})
	}
	return now, good, steps
}

// next returns what a request makes of a configuration, which is that of revision
// number: itself if nothing changes.
func (p *plane) next(ctx context.Context, c *conf, r *request, number uint64) (*conf, state.Step, error) {
	if err := p.expected(&r.Request, number); err != nil {
		return nil, state.Step{}, err
	}
	var next *conf
	var err error
	if r.rollback == 0 {
		next, err = p.edit(c, r.Edits)
	} else {
		next, err = p.rolledBack(ctx, r, c)
	}
	if err != nil || next.isAs(c) {
		return c, state.Step{}, err
	}
	return next, next.step(control.Revision{Time: time.Now(), Who: r.Who, Edits: r.Edits, Rollback: r.rollback}), nil
}

// isAs reports whether c says what another one does.
func (c *conf) isAs(o *conf) bool {
	return c == o || c.base.digest == o.base.digest && c.base.applied == o.base.applied && slices.EqualFunc(c.edits, o.edits, func(a, b control.Edit) bool { return reflect.DeepEqual(a, b) })
}

// changeText says in a line what a revision did.
func changeText(r *control.Revision) string {
	if r.Rollback != 0 {
		return fmt.Sprintf("rollback to %d", r.Rollback)
	}
	words := make([]string, len(r.Edits))
	for i, e := range r.Edits {
		parts := []string{string(e.Op), e.Service, e.Match, e.Pool, e.Backend, strings.Join(e.Backends, ",")}
		if e.Weight != nil {
			parts = append(parts, strconv.Itoa(*e.Weight))
		}
		words[i] = strings.Join(strings.Fields(strings.Join(parts, " ")), " ")
	}
	return strings.Join(words, "; ")
}

// rolledBack returns the configuration of the revision that a request restores in the
// place of c. Its document stands in the place of the file if that has changed since. To
// who asks it is as if all of it were applied.
func (p *plane) rolledBack(ctx context.Context, r *request, c *conf) (*conf, error) {
	steps, err := p.history.Range(ctx, r.rollback, r.rollback)
	if err != nil {
		return nil, err
	}
	kept := steps[0].Config
	kept.Applied = true
	b, err := p.keptBase(ctx, kept, p.agent.opts.Config)
	if err != nil {
		return nil, err
	}
	whole := append([]control.Edit{{Op: control.OpApply, Spec: string(b.document)}}, kept.Edits...)
	if err := p.checkReach(&r.Request, whole, c); err != nil {
		return nil, err
	}
	return b.with(kept.Edits)
}

// force puts a configuration in force in the place of another one.
func (p *plane) force(ctx context.Context, c, before *conf) error {
	other, err := c.look(before)
	if err != nil {
		return err
	}
	given := c.state
	read := readingOf(&given)
	if other {
		_, _ = read() // what is wrong is said when it is used
	}
	p.agent.prepareNames(ctx, &given)
	return refusal(p.agent.do(ctx, func() error { return p.agent.change(ctx, &given, read) }))
}

// possible finds why a configuration could not come in force in the place of another
// one, as far as that is known before.
func (p *plane) possible(ctx context.Context, c, before *conf) error {
	if _, err := c.look(before); err != nil {
		return err
	}
	state := p.agent.names.Expand(&c.state)
	return refusal(p.agent.do(ctx, func() error { return p.agent.accepts(ctx, state) }))
}

// look reports whether a configuration names other secrets than before, and reads their
// files then. The error has the line.
func (c *conf) look(before *conf) (other bool, err error) {
	if sameSecrets(&c.state, &before.state) {
		return false, nil
	}
	_, err = c.tree.State(true)
	return true, err
}

// refusal returns why the agent does not take a good configuration.
func refusal(err error) error {
	if err == nil || errors.Is(err, control.ErrUnavailable) || errors.Is(err, config.ErrInvalid) {
		return err
	}
	return refused{err}
}

// do has loop call f, and returns what that does.
func (a *agent) do(ctx context.Context, f func() error) error {
	done := make(chan error, 1)
	a.send(ctx, func() { done <- f() })
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return control.ErrUnavailable
	}
}

// reload reads the file again and puts it in force, whether or not it has changed:
// certificates and interfaces may have.
func (p *plane) reload(ctx context.Context) {
	if _, err := p.ask(ctx, &request{reread: p.reread}); err != nil && ctx.Err() == nil {
		p.log.Error("read the configuration again", "err", err)
	}
}

// pause calls f while no change is carried out, with what ends when the agent does. It
// does not if ctx is done before it comes to that, or the agent ends.
func (p *plane) pause(ctx context.Context, f func(context.Context)) {
	r := &request{reread: f, answer: make(chan answer, 1)}
	select {
	case p.requests <- r:
		<-r.answer
	case <-p.over:
	case <-ctx.Done():
	}
}

func (p *plane) reread(ctx context.Context) {
	a, was := p.agent, p.file.Load()
	file := was
	tree, err := a.opts.tree()
	if err == nil {
		_, err = tree.State(true)
	}
	if err == nil {
		file, err = baseOf(tree.Beside(p.last))
	}
	var c *conf
	if err == nil {
		p.file.Store(file)
		c, err = p.anew(p.inForce())
	}
	if err == nil {
		_, err = c.tree.State(true)
	}
	var given *model.State
	var read reading
	if err == nil {
		given = &c.state
		read = readingOf(given)
		_, _ = read() // what is wrong is said when it is used
		a.prepareNames(ctx, given)
	}
	if err = a.do(ctx, func() error { return a.reload(ctx, given, read, err) }); err != nil {
		p.file.Store(was)
		return
	}
	if c.base.applied && file.digest != was.digest {
		p.log.Warn("the file is not what is in force: a revision stands in its place until one applies the file", "config", a.opts.Config, "revision", p.Revision().Number)
	}
	c.warn(p.log)
	p.settle(c, p.Revision())
	p.noteFile(ctx)
}

// anew returns a configuration on top of the file as it is now, unless a document
// stands in the place of that.
func (p *plane) anew(c *conf) (*conf, error) {
	if c.base.applied {
		return c.base.with(c.edits)
	}
	return p.file.Load().with(c.edits)
}
