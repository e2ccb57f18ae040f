package daemon

import (
	"context"
	"fmt"
	"slices"

	"fairlead/userspace/config"
	"fairlead/userspace/control"
	"fairlead/userspace/state"
)

// History implements [control.Plane].
func (p *plane) History(before uint64, most int) ([]control.Revision, error) {
	ctx := context.Background() // a store has bounds of its own
	first, last := p.history.Bounds()
	if before > 0 {
		last = min(last, before-1)
	}
	if last < first || last == 0 || most <= 0 {
		return nil, nil
	}
	from := first
	if last >= first+uint64(most) {
		from = last - uint64(most) + 1
	}
	kept, err := p.history.Range(ctx, max(from-1, first), last)
	if err != nil {
		return nil, err
	}
	bases := map[string]*base{}
	confs := make([]*conf, len(kept))
	all := make([]control.Revision, 0, len(kept))
	for i := range kept {
		if confs[i], err = p.past(ctx, bases, &kept[i].Config); err != nil {
			return nil, fmt.Errorf("revision %d: %w", kept[i].Entry.Number, err)
		}
		if r := shown(kept[i].Entry.Revision); r.Number >= from {
			if i > 0 {
				if r.Difference, err = confs[i-1].difference(confs[i]); err != nil {
					return nil, err
				}
			}
			all = append(all, r)
		}
	}
	slices.Reverse(all)
	return all, nil
}

// shown returns a revision without secrets in what its edits say: those who may only
// look see it.
func shown(r control.Revision) control.Revision {
	r.Edits = slices.Clone(r.Edits)
	for i := range r.Edits {
		r.Edits[i].Spec = config.RedactedSpec(r.Edits[i].Spec)
	}
	return r
}

// past returns a configuration that was in force once, for people to look at: what it
// names may be gone by now. Those of bases are at hand.
func (p *plane) past(ctx context.Context, bases map[string]*base, kept *state.Config) (*conf, error) {
	b := bases[kept.Base]
	if b == nil {
		document, err := p.history.Document(ctx, kept.Base)
		if err != nil {
			return nil, err
		}
		if b, err = baseOf(config.NewTreeBeside(p.agent.opts.Config, "revision", document)); err != nil {
			return nil, err
		}
		bases[kept.Base] = b
	}
	c, err := b.with(kept.Edits)
	if err != nil { // then nobody can tell which edits would not do
		c.tree, c.dormant = b.tree.With(kept.Edits)
	}
	return c, nil
}
