package state

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"fairlead/userspace/control"
)

// opened returns the history in a directory, and what ends it.
func opened(t *testing.T, dir string) (*History, *File) {
	t.Helper()
	f, broken, err := OpenFile(dir)
	if err != nil || broken != nil {
		t.Fatal(broken, err)
	}
	h, err := NewHistory(t.Context(), f, 300)
	if err != nil {
		t.Fatal(err)
	}
	return h, f
}

func weight(backend string, n int) control.Edit {
	return control.Edit{Op: control.OpSetWeight, Pool: "p", Backend: backend, Weight: &n}
}

// written appends n steps, some at a time, each of which changes one of ten edits and
// the document now and then, and returns what they led to, by their numbers.
func written(t *testing.T, h *History, n int) map[uint64]Config {
	t.Helper()
	all := map[uint64]Config{}
	_, now := h.Last()
	_, last := h.Bounds()
	var steps []Step
	for i := range n {
		e := weight(fmt.Sprint("b", last%10), int(last))
		c := Config{Base: now.Base, Applied: last%7 == 0}
		for _, old := range now.Edits {
			if old.Backend != e.Backend && last%40 != 39 {
				c.Edits = append(c.Edits, old)
			}
		}
		c.Edits = append(c.Edits, e)
		s := Step{Revision: control.Revision{Time: time.Unix(int64(last), 0).UTC(), Who: "test", Edits: []control.Edit{e}}}
		if i == 0 || last%50 == 0 {
			s.Document = fmt.Append(nil, "document ", last/100)
			c.Base = Digest(s.Document)
		}
		s.Config = c
		last++
		all[last], now = c, c
		if steps = append(steps, s); last%9 == 0 || i == n-1 {
			if err := h.Append(t.Context(), steps); err != nil {
				t.Fatal(err)
			}
			steps = nil
		}
	}
	return all
}

// wantHistory checks what is kept of steps.
func wantHistory(t *testing.T, h *History, want map[uint64]Config) {
	t.Helper()
	first, last := h.Bounds()
	all, err := h.Range(t.Context(), first, last)
	if err != nil {
		t.Fatal(err)
	}
	for i, k := range all {
		n := first + uint64(i)
		if k.Entry.Number != n || k.Entry.Who != "test" {
			t.Errorf("revision %d is %+v", n, k.Entry)
		}
		if diff := cmp.Diff(want[n], k.Config); diff != "" {
			t.Fatalf("revision %d: -want +got:\n%s", n, diff)
		}
		if doc, err := h.Document(t.Context(), k.Config.Base); err != nil || Digest(doc) != k.Config.Base {
			t.Fatalf("document of revision %d: %q, %v", n, doc, err)
		}
	}
	_, now := h.Last()
	if diff := cmp.Diff(want[last], now); diff != "" {
		t.Errorf("in force: -want +got:\n%s", diff)
	}
}

func TestAMemoryKeepsNoMoreThanItsHistory(t *testing.T) {
	m := NewMemory()
	h, err := NewHistory(t.Context(), m, 300)
	if err != nil {
		t.Fatal(err)
	}
	written(t, h, 700)
	if len(m.documents) > 10 || len(m.entries) > 427 {
		t.Errorf("%d documents and %d entries are kept", len(m.documents), len(m.entries))
	}
}

func TestAFaultOfTheStoreChangesNothing(t *testing.T) {
	h, f := opened(t, t.TempDir())
	defer f.Close()
	doc := []byte("x")
	c := Config{Base: Digest(doc)}
	steps := []Step{{Config: c, Document: doc}, {Config: c, Document: doc}, {Config: c, Document: doc}}
	if err := h.Append(t.Context(), steps); err != nil {
		t.Fatal(err)
	}
	if r, _ := h.Last(); r.Number != 3 || steps[1].Revision.Number != 2 {
		t.Errorf("last %+v, steps %+v", r, steps)
	}
	if err := f.db.Close(); err != nil {
		t.Fatal(err)
	}
	if err := h.Append(t.Context(), steps[:1]); err == nil {
		t.Error("a closed store took a step")
	}
	if r, _ := h.Last(); r.Number != 3 {
		t.Errorf("after a fault the last is %d", r.Number)
	}
}

func TestTwoAgentsDoNotShareAStore(t *testing.T) {
	dir := t.TempDir()
	_, f := opened(t, dir)
	_, _, err := OpenFile(dir)
	if want := "another agent runs: it has locked " + dir + "/state.lock; use another --state-dir"; !errors.Is(err, ErrInUse) || err.Error() != want {
		t.Errorf("error %v", err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	_, f = opened(t, dir)
	f.Close()
}
