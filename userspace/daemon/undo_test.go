package daemon

import (
	"context"
	"errors"
	"strings"
	"testing"

	"fairlead/userspace/control"
	"fairlead/userspace/health"
	"fairlead/userspace/state"
	"fairlead/userspace/view"
)

// A fullStore takes nothing.
type fullStore struct{ state.Store }

var errFullStore = errors.New("no room")

func (fullStore) Append(context.Context, state.Head, []state.Entry, map[string][]byte) error {
	return errFullStore
}

func TestAChangeThatCannotBeKeptIsUndone(t *testing.T) {
	a, _ := page(t, "a")
	b, _ := page(t, "b")
	c := controlAgent(t, oneSite(a))
	before := c.exported()
	p := c.Plane.(*plane)
	h, err := state.NewHistory(t.Context(), fullStore{p.store}, state.DefaultLimit)
	if err != nil {
		t.Fatal(err)
	}
	p.history = h // nobody else asks for changes
	_, err = c.Change(t.Context(), control.Request{Edits: []control.Edit{about(control.OpAddBackend, "main", b), setWeight("main", a, 0)}})
	if !errors.Is(err, errFullStore) {
		t.Errorf("error %v", err)
	}
	if after := c.exported(); after != before || c.Revision().Number != 1 {
		t.Errorf("revision %d exports\n%s\nwant\n%s", c.Revision().Number, after, before)
	}
	c.served(a + "=1")
	if _, body := fetch(t, "/x"); body != "a /x" {
		t.Errorf("answer %q", body)
	}
}

// TestWhatIsUndoneLeavesHealth has a change take a backend away that is down, and is
// not kept: its check goes on as if nothing had been.
func TestWhatIsUndoneLeavesHealth(t *testing.T) {
	a, _ := page(t, "a")
	sick, ill := page(t, "sick")
	ill.Store(true)
	c := controlAgent(t, strings.TrimSuffix(oneSite(a, sick), "}\n")+", "+quickHealth+"}\n")
	down := func(v view.View) bool {
		b := v.Services[0].Backends
		return len(b) == 2 && b[0].Serves && b[1].Known && !b[1].Up
	}
	c.await("one up, one down", down)
	p := c.Plane.(*plane)
	var targets []health.Target
	check := func() (all []health.Status) {
		t.Helper()
		if err := p.agent.do(t.Context(), func() error {
			for _, target := range p.agent.roster.targets {
				targets = append(targets, target)
				status, _ := p.agent.checker.Status(target)
				all = append(all, status)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		return all
	}
	before := check()
	h, err := state.NewHistory(t.Context(), fullStore{p.store}, state.DefaultLimit)
	if err != nil {
		t.Fatal(err)
	}
	kept := p.history
	p.history = h // nobody else asks for changes
	for _, edit := range []control.Edit{about(control.OpRemoveBackend, "main", sick), {Op: control.OpPutPool, Pool: "main", Spec: "{backends: [{address: '" + a + "'}], health: {type: tcp}}"}} {
		if _, err := c.Change(t.Context(), control.Request{Edits: []control.Edit{edit}}); !errors.Is(err, errFullStore) {
			t.Errorf("error %v", err)
		}
		for i, s := range check() {
			if s.Up != before[i].Up || !s.Known || s.Since != before[i].Since {
				t.Errorf("after %s that is undone: status %+v of %d, want that of before, %+v", edit.Op, s, i, before[i])
			}
		}
	}
	p.history = kept
	c.must(about(control.OpRemoveBackend, "main", sick))
	if all := check(); len(all) != 1 || all[0].Since != before[0].Since {
		t.Errorf("after %s: %+v", control.OpRemoveBackend, all)
	}
	for _, target := range targets {
		if _, ok := p.agent.checker.Status(target); ok != (target.Address.String() == a) {
			t.Errorf("%s is checked: %t", target.Address, ok)
		}
	}
}
