package state

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"fairlead/userspace/control"
)

// TestADocumentIsKeptOnce: an edit that applies it has no copy of its own in any store,
// and says all of it again to who reads. What else is applied stays as it is.
func TestADocumentIsKeptOnce(t *testing.T) {
	first, second := strings.Repeat("first", 40_000), strings.Repeat("other", 40_000)
	apply := func(spec string) control.Edit { return control.Edit{Op: control.OpApply, Spec: spec} }
	step := func(document string, edits ...control.Edit) Step {
		return Step{Revision: control.Revision{Who: "test", Edits: edits}, Config: Config{Base: Digest([]byte(document)), Applied: true}, Document: []byte(document)}
	}
	want := [][]control.Edit{{apply(first)}, {apply("small"), apply(second)}, {weight("b", 3)}, {apply(first)}, {apply("")}}
	for _, m := range media(t) {
		t.Run(m.name, func(t *testing.T) {
			h, s := m.mustOpen(t)
			steps := []Step{step(first, want[0]...), step(second, want[1]...), step(second, want[2]...), step(first, want[3]...), step(second, want[4]...)}
			if err := h.Append(t.Context(), steps); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				for range 2 { // to read changes nothing
					all, err := h.Range(t.Context(), 1, 5)
					if err != nil {
						t.Fatal(err)
					}
					for i := range all {
						if diff := cmp.Diff(want[i], all[i].Entry.Edits); diff != "" {
							t.Errorf("revision %d: -want +got:\n%s", i+1, diff)
						}
					}
				}
				entries, err := s.Entries(t.Context(), 1, 5)
				if err != nil {
					t.Fatal(err)
				}
				if data, err := json.Marshal(entries); err != nil || len(data) > 5000 {
					t.Errorf("entries take %d bytes, %v", len(data), err)
				}
				mustClose(t, s)
				h, s = m.mustOpen(t)
				if last, _ := h.Last(); len(last.Edits) != 1 || last.Edits[0].Spec != "" {
					t.Errorf("the last is %d edits", len(last.Edits))
				}
			}
			mustClose(t, s)
			if diff := cmp.Diff(apply(first), want[0][0]); diff != "" || steps[0].Revision.Edits[0].Spec != first {
				t.Errorf("what was appended has changed: %s", diff)
			}
		})
	}
}

func TestAnEntryThatRestatesNothingIsBroken(t *testing.T) {
	m := NewMemory()
	h, err := NewHistory(t.Context(), m, 300)
	if err != nil {
		t.Fatal(err)
	}
	doc := []byte("x")
	if err := h.Append(t.Context(), []Step{{Config: Config{Base: Digest(doc)}, Document: doc}}); err != nil {
		t.Fatal(err)
	}
	e := m.entries[1]
	e.Restated = []int{0}
	m.entries[1] = e
	if _, err := h.Range(t.Context(), 1, 1); err == nil || err.Error() != "read state: revision 1: it is broken: it restates what is not there" {
		t.Errorf("%v", err)
	}
}
