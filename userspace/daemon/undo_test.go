package daemon

import (
	"context"
	"errors"
	"testing"

	"fairlead/userspace/control"
	"fairlead/userspace/state"
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
