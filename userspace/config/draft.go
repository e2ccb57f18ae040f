package config

import (
	"cmp"
	"errors"
	"fmt"
	"reflect"
	"slices"

	"go.yaml.in/yaml/v3"

	"fairlead/userspace/control"
	"fairlead/userspace/model"
)

// A Dormant is an edit that has nothing to be about in the configuration that it is
// carried out on, or does not fit it any more, and why.
type Dormant struct {
	Edit control.Edit
	Err  error
}

// With returns t, whose files are without faults as such, with edits on top, as
// [Draft] keeps them. Those that find nothing to be about are left out and returned.
func (t *Tree) With(edits []control.Edit) (*Tree, []Dormant) {
	var dormant []Dormant
	x := t.copy()
	x.root, x.parts, x.plains = x.merged(), nil, map[*yaml.Node]string{}
	for _, drains := range []bool{false, true} { // whatever the weight
		for i := range edits {
			if (edits[i].Op == control.OpDrain) != drains {
				continue
			}
			if err := x.apply(&edits[i]); err != nil {
				dormant = append(dormant, Dormant{edits[i], err})
			}
		}
	}
	x.plains = nil
	return x, dormant
}

// Fit is [Tree.With] without the edits that make a good configuration a bad one, too.
// It returns what the result means, or what is wrong with t itself.
func (t *Tree) Fit(edits []control.Edit) (*Tree, model.State, []Dormant, error) {
	plain, err := t.State(false)
	if err != nil || len(edits) == 0 {
		return t, plain, nil, err
	}
	x, dormant := t.With(edits)
	if s, err := x.State(false); err == nil {
		return x, s, dormant, nil
	}
	x, _ = t.With(nil)
	s, out, why := plain, slices.Repeat([]bool{true}, len(edits)), make([]error, len(edits))
	for more := true; more; { // some need what comes after them, such as a route a pool
		more = false
		for i := range edits {
			if !out[i] {
				continue
			}
			out[i] = false
			with, homeless := t.With(without(edits, out))
			var meaning model.State
			if meaning, why[i] = with.State(false); len(homeless) > 0 {
				why[i] = homeless[0].Err
			}
			if out[i] = why[i] != nil; !out[i] {
				x, s, more = with, meaning, true
			}
		}
	}
	dormant = nil
	for i := range edits {
		if out[i] {
			dormant = append(dormant, Dormant{edits[i], why[i]})
		}
	}
	return x, s, dormant, nil
}

// without returns edits but for those that are out.
func without(edits []control.Edit, out []bool) (in []control.Edit) {
	for i := range edits {
		if !out[i] {
			in = append(in, edits[i])
		}
	}
	return in
}

// A Draft is a list of edits that grows. What a later edit makes pointless is not
// kept: the list is as long as what is edited, not as what was done.
type Draft struct {
	base, work *Tree
	edits      []control.Edit
	changes    int
}

// NewDraft returns a Draft of edits, which are another Draft's, on base, whose files
// are without faults as such.
func NewDraft(base *Tree, edits []control.Edit) *Draft {
	work, _ := base.With(edits)
	work.plains = map[*yaml.Node]string{}
	return &Draft{base: base, work: work, edits: slices.Clone(edits)}
}

// Changes returns how many of the edits that were added have changed something.
func (d *Draft) Changes() int { return d.changes }

// Edits returns what is to be kept.
func (d *Draft) Edits() []control.Edit { return d.edits }

// Tree returns the base with the edits, and those that are dormant.
func (d *Draft) Tree() (*Tree, []Dormant) { return d.base.With(d.edits) }

// Add adds an edit, which is not [control.OpApply]. The error wraps
// [control.ErrNotFound] if there is nothing that it could be about,
// [control.ErrExists] if there is what it is to add, or [ErrInvalid]; the Draft is
// of no more use then.
func (d *Draft) Add(e control.Edit) error {
	if err := checkEdit(&e); err != nil {
		return err
	}
	if err := d.resolve(&e); err != nil {
		if errors.Is(err, control.ErrNotFound) && d.forget(&e) {
			d.changes++
			return nil
		}
		return err
	}
	if err := d.work.apply(&e); err != nil {
		return err
	}
	if d.repeats(&e) {
		return nil
	}
	d.changes++
	of := func(old control.Edit) bool { return supersedes(&e, &old) }
	if at := slices.IndexFunc(d.edits, of); e.Op == control.OpPutRoute && at >= 0 {
		d.edits[at] = e // and is tried when that one was
		return nil
	}
	d.edits = slices.DeleteFunc(d.edits, of)
	switch {
	case e.Op == control.OpUndrain, isRemoval(e.Op) && d.isTakenBack(&e):
		return nil
	case isRemoval(e.Op) && e.Lease > 0 && d.base.has(&e):
		d.work, _ = d.base.With(d.edits) // where it stays
		return nil
	}
	d.edits = append(d.edits, e)
	if e.Op == control.OpSetBackends {
		d.weighLast(&e)
	}
	return nil
}

// forget drops what is said of a backend that an edit removes, and reports whether it
// was added: where there is nothing now that it could be a part of.
func (d *Draft) forget(e *control.Edit) bool {
	if e.Op != control.OpRemoveBackend {
		return false
	}
	of := d.about(e, e.Backend)
	if !slices.ContainsFunc(d.edits, func(old control.Edit) bool { return old.Op == control.OpAddBackend && of(old) }) {
		return false
	}
	d.edits = slices.DeleteFunc(d.edits, of)
	return true
}

// about returns what finds edits of one backend, which is where e is.
func (d *Draft) about(e *control.Edit, backend string) func(control.Edit) bool {
	plain := plainBackend(d.work.text(word(backend)))
	return func(old control.Edit) bool {
		return ofBackends(old.Op) && old.Op != control.OpSetBackends && cmp.Or(old.Service, old.Pool) == cmp.Or(e.Service, e.Pool) &&
			plainBackend(d.work.text(word(old.Backend))) == plain
	}
}

// weighLast moves what is said of weights of a list of backends behind what gives the
// list anew: only then there is who is weighed.
func (d *Draft) weighLast(list *control.Edit) {
	var rest, weights []control.Edit
	for _, x := range d.edits {
		if weighs(&x) && x.Service == list.Service && x.Pool == list.Pool {
			weights = append(weights, x)
		} else {
			rest = append(rest, x)
		}
	}
	d.edits = append(rest, weights...)
}

// weighs reports whether an edit says how much a backend gets.
func weighs(e *control.Edit) bool { return e.Op == control.OpSetWeight || e.Op == control.OpDrain }

// repeats reports whether an edit says only what was the last word already of what it
// is about.
func (d *Draft) repeats(e *control.Edit) bool {
	over := -1 // the only one that e puts an end to
	for i := range d.edits {
		old := &d.edits[i]
		switch {
		case !supersedes(e, old):
			if over >= 0 && meets(e, old) {
				return false
			}
		case over >= 0 || !reflect.DeepEqual(e, old):
			return false
		default:
			over = i
		}
	}
	return over >= 0 || e.Op == control.OpUndrain
}

// meets reports whether b, which came later, may have changed what a says.
func meets(a, b *control.Edit) bool {
	switch {
	case a.Service != b.Service, a.Service == "" && a.Pool != b.Pool:
		return false
	case a.Op == control.OpPutRoute, a.Op == control.OpSetBackends && weighs(b):
		return false // they stay beside each other
	}
	one := func(e *control.Edit) bool { return ofBackends(e.Op) && e.Op != control.OpSetBackends }
	return !one(a) || !one(b) || a.Backend == b.Backend && (!weighs(a) || !weighs(b))
}

// resolve makes an edit of backends say whose they are, and write them as they are
// written already.
func (d *Draft) resolve(e *control.Edit) error {
	e.Match = plainMatch(e.Match)
	if e.New {
		if err := d.isNew(e); err != nil {
			return err
		}
		e.New = false // once it is kept
	}
	if !ofBackends(e.Op) {
		return nil
	}
	if e.Service == "" && d.work.pool(e.Pool) == nil {
		if _, at := d.work.service(e.Pool); at >= 0 {
			e.Service, e.Pool = e.Pool, ""
		}
	}
	g, err := d.work.group(e)
	if err != nil {
		return err
	}
	if e.Op == control.OpSetBackends {
		e.Backends = slices.Clone(e.Backends)
		for i, text := range e.Backends {
			at, err := d.work.backend(g, text)
			if err == nil {
				e.Backends[i] = backendText(g.list.Content[at]).Value
				continue
			}
			of := d.about(e, text) // who comes anew is as new
			d.edits = slices.DeleteFunc(d.edits, func(old control.Edit) bool { return weighs(&old) && old.Service == e.Service && of(old) })
		}
		return nil
	}
	at, err := d.work.backend(g, e.Backend)
	switch {
	case e.Op == control.OpAddBackend && errors.Is(err, control.ErrNotFound):
	case e.Op == control.OpAddBackend:
		return fmt.Errorf("backend %s of %s: %w", quote(e.Backend), g.owner, control.ErrExists)
	case err != nil:
		return err
	default:
		e.Backend = backendText(g.list.Content[at]).Value
	}
	return nil
}

// isNew refuses to put what is there already.
func (d *Draft) isNew(e *control.Edit) error {
	switch e.Op {
	case control.OpPutService:
		if _, at := d.work.service(e.Service); at >= 0 {
			return fmt.Errorf("service %s: %w", quote(e.Service), control.ErrExists)
		}
	case control.OpPutPool:
		if d.work.pool(e.Pool) != nil {
			return fmt.Errorf("pool %s: %w", quote(e.Pool), control.ErrExists)
		}
	case control.OpPutRoute:
		n, err := d.work.newRoute(e, "routes")
		if err != nil {
			return err
		}
		if _, at := d.work.route(e, n); at >= 0 {
			return fmt.Errorf("route %s of service %s: %w", quote(e.Match), quote(e.Service), control.ErrExists)
		}
	}
	return nil
}

// isTakenBack reports whether what an edit removes is not there anyway, without the
// edits before it. Those of other backends do not matter.
func (d *Draft) isTakenBack(e *control.Edit) bool {
	place := func(e *control.Edit) string {
		plain := plainBackend(d.work.text(word(e.Backend)))
		return cmp.Or(hostPort(plain), plain)
	}
	one, at := func(e *control.Edit) bool { return ofBackends(e.Op) && e.Op != control.OpSetBackends }, place(e)
	edits := slices.DeleteFunc(slices.Clone(d.edits), func(old control.Edit) bool { return one(e) && one(&old) && place(&old) != at })
	x, _ := d.base.With(edits)
	return errors.Is(x.apply(e), control.ErrNotFound)
}

// has reports whether the configuration has the backend of an edit by itself.
func (t *Tree) has(e *control.Edit) bool {
	x, _ := t.With(nil)
	g, err := x.group(e)
	if err == nil {
		_, err = x.backend(g, e.Backend)
	}
	return err == nil
}

func isRemoval(op control.Op) bool {
	return op == control.OpRemoveService || op == control.OpRemovePool || op == control.OpRemoveRoute || op == control.OpRemoveBackend
}

func ofBackends(op control.Op) bool {
	switch op {
	case control.OpAddBackend, control.OpRemoveBackend, control.OpSetWeight, control.OpDrain, control.OpUndrain, control.OpSetBackends:
		return true
	}
	return false
}

func ofRoutes(op control.Op) bool { return op == control.OpPutRoute || op == control.OpRemoveRoute }

// supersedes reports whether nothing is left of an older edit after e.
func supersedes(e, old *control.Edit) bool {
	switch e.Op {
	case control.OpPutService, control.OpRemoveService:
		return old.Service == e.Service
	case control.OpPutPool, control.OpRemovePool:
		return old.Service == "" && old.Pool == e.Pool
	case control.OpPutRoute:
		return old.Op == e.Op && old.Service == e.Service && old.Match == e.Match && sameConditions(conditions(old), conditions(e))
	case control.OpRemoveRoute:
		return ofRoutes(old.Op) && old.Service == e.Service && old.Match == e.Match
	}
	if !ofBackends(old.Op) || old.Service != e.Service || old.Pool != e.Pool {
		return false
	}
	switch e.Op {
	case control.OpSetBackends:
		return old.Op == e.Op || old.Op == control.OpRemoveBackend || !slices.Contains(e.Backends, old.Backend)
	case control.OpSetWeight, control.OpDrain:
		return old.Op == e.Op && old.Backend == e.Backend
	case control.OpUndrain:
		return old.Op == control.OpDrain && old.Backend == e.Backend
	}
	return old.Op != control.OpSetBackends && old.Backend == e.Backend
}

// conditions returns what an edit says of a route, nil if it says nothing.
func conditions(e *control.Edit) *yaml.Node {
	if e.Spec == "" {
		return nil
	}
	n, _ := parseYAML(editHome, []byte(e.Spec)) // it was read before
	return n
}
