package config

import (
	"errors"
	"strings"
	"testing"

	"fairlead/userspace/control"
)

// TestRoutesAreFoundAsTheyAreWritten and by what that stands for, as backends are.
func TestRoutesAreFoundAsTheyAreWritten(t *testing.T) {
	t.Setenv("PREFIX", "/images")
	file := strings.Replace(edited, "match: /images/", "match: '${PREFIX}/'", 1)
	for _, match := range []string{"${PREFIX}/", "/images/", "${PREFIX}/{id}"} {
		d := NewDraft(NewTree("f", []byte(file)), nil)
		if strings.Contains(match, "id") {
			if err := d.Add(edit("put-route web " + match + " -> images")); err != nil {
				t.Fatal(err)
			}
		}
		want := len(routesIn(t, d))
		put := edit("put-route web " + match + " -> main")
		put.New = true
		if err := NewDraft(d.work, nil).Add(put); err == nil {
			t.Errorf("%s is put anew", match)
		}
		for _, e := range []control.Edit{edit("put-route web " + match + " -> main"), edit("remove-route web " + match)} {
			if err := d.Add(e); err != nil {
				t.Errorf("%s %s: %v", e.Op, match, err)
			}
			if e.Op == control.OpRemoveRoute {
				want--
			}
			if got := routesIn(t, d); len(got) != want {
				t.Errorf("%s %s: routes %v, want %d", e.Op, match, got, want)
			}
		}
	}
}

// TestVariablesThatAreNotSetFindNothing: such as all that stands beside them.
func TestVariablesThatAreNotSetFindNothing(t *testing.T) {
	for _, text := range []string{"remove-route web ${NOT_SET}/", "remove-backend images ${NOT_SET}10.0.0.3:8080", "remove-backend main http://10.0.0.1:8080/app${NOT_SET}"} {
		d := NewDraft(NewTree("f", []byte(edited)), nil)
		if err := d.Add(edit(text)); !errors.Is(err, control.ErrNotFound) {
			t.Errorf("%s: error %v, kept %+v", text, err, d.Edits())
		}
	}
}

// routesIn returns the matches of the routes of the first service of a draft.
func routesIn(t *testing.T, d *Draft) (all []string) {
	t.Helper()
	tree, dormant := d.Tree()
	s, err := tree.State(false)
	if err != nil || len(dormant) > 0 {
		t.Errorf("%v, dormant %v", err, dormant)
		return nil
	}
	for _, r := range s.Services[0].HTTP.Routes {
		all = append(all, r.Match)
	}
	return all
}
