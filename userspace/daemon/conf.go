package daemon

import (
	"fmt"
	"log/slog"
	"reflect"
	"slices"

	"fairlead/userspace/config"
	"fairlead/userspace/control"
	"fairlead/userspace/model"
	"fairlead/userspace/state"
)

// A base is what edits are on top of: the file, or a document in its place.
type base struct {
	tree     *config.Tree
	document []byte // the tree's export
	digest   string
	applied  bool // it stands in the place of the file
}

// baseOf returns a file as a base.
func baseOf(t *config.Tree) (*base, error) {
	document, err := t.Export()
	if err != nil {
		return nil, err
	}
	return &base{tree: t, document: document, digest: state.Digest(document)}, nil
}

// applied returns a document as the base; the file if it says the same. Files that
// it names are looked for beside the one at path.
func (p *plane) applied(path string, document []byte) (*base, error) {
	b, err := baseOf(config.NewTreeBeside(path, control.Applied, document).Beside(p.last))
	if err != nil {
		return nil, err
	}
	if b.digest == p.file.Load().digest {
		return p.file.Load(), nil
	}
	b.applied = true
	return b, nil
}

// A conf is a configuration that is in force, or could be. It does not change.
type conf struct {
	base  *base
	edits []control.Edit
	tree  *config.Tree // base with the edits
	state model.State  // what it means; backends have names yet
	// dormant are those of the edits that do not fit the base.
	dormant []config.Dormant
}

// with returns b with edits that may not all fit.
func (b *base) with(edits []control.Edit) (*conf, error) {
	c := &conf{base: b, edits: edits}
	var err error
	c.tree, c.state, c.dormant, err = b.tree.Fit(edits)
	return c, err
}

// strictly returns b with edits of which only those may be dormant that are so
// before.
func (b *base) strictly(edits []control.Edit, before []config.Dormant) (*conf, error) {
	tree, dormant := b.tree.With(edits)
	if len(dormant) == 0 && len(before) == 0 {
		s, err := tree.State(false)
		return &conf{base: b, edits: edits, tree: tree, state: s}, err
	}
	c, err := b.with(edits)
	if err != nil {
		return nil, err
	}
	for _, d := range c.dormant {
		if !slices.ContainsFunc(before, func(o config.Dormant) bool { return reflect.DeepEqual(o.Edit, d.Edit) }) {
			return nil, d.Err
		}
	}
	return c, nil
}

// edit returns what becomes of a configuration by edits.
func (p *plane) edit(c *conf, edits []control.Edit) (*conf, error) {
	b, list, dormant := c.base, c.edits, c.dormant
	var draft *config.Draft
	for _, e := range edits {
		if e.Op == control.OpApply {
			b, list, dormant, draft = p.file.Load(), nil, nil, nil
			if e.Spec != "" {
				var err error
				if b, err = p.applied(p.agent.opts.Config, []byte(e.Spec)); err != nil {
					return nil, err
				}
			}
			continue
		}
		if draft == nil {
			draft = config.NewDraft(b.tree, list)
		}
		if err := draft.Add(e); err != nil {
			return nil, err
		}
	}
	if draft != nil {
		list = draft.Edits()
	}
	return b.strictly(list, dormant)
}

// step returns a revision that leads to c. What it applies it says as the document
// does, of which the state keeps one.
func (c *conf) step(r control.Revision) state.Step {
	for i := len(r.Edits) - 1; i >= 0; i-- {
		if r.Edits[i].Op == control.OpApply {
			if r.Edits = slices.Clone(r.Edits); r.Edits[i].Spec != "" {
				r.Edits[i].Spec = string(c.base.document)
			}
			break
		}
	}
	return state.Step{
		Revision: r, Document: c.base.document,
		Config: state.Config{Base: c.base.digest, Applied: c.base.applied, Edits: c.edits},
	}
}

// difference returns what differs in the exports of two configurations, as a unified
// diff without secrets.
func (c *conf) difference(after *conf) (string, error) {
	a, err := c.tree.Redacted()
	if err != nil {
		return "", fmt.Errorf("compare configurations: %w", err)
	}
	b, err := after.tree.Redacted()
	if err != nil {
		return "", fmt.Errorf("compare configurations: %w", err)
	}
	return unified(string(a), string(b)), nil
}

// warn names the edits that do not fit.
func (c *conf) warn(log *slog.Logger) {
	for _, d := range c.dormant {
		log.Warn("a change of the API does not fit the file and is left out", "op", d.Edit.Op, "err", d.Err)
	}
}
