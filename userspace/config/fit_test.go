package config

import (
	"strings"
	"testing"
)

// TestEditsThatNeedLaterOnesFit beside one that the file has no room for any more: what
// says something new of a route stays where it was, and what says it of a pool does not.
func TestEditsThatNeedLaterOnesFit(t *testing.T) {
	file := strings.Replace(edited, "services:\n", "services:\n  - {name: taken, listen: '203.0.113.12:80', backends: [{address: '10.0.0.1:80'}]}\n", 1)
	for _, row := range []struct{ name, edits, pool string }{
		{"a route that changes needs a newer pool", "put-route web /x -> images; put-pool later {backends: [{address: '10.0.0.9:1'}]}; put-route web /x -> later", "later"},
		{"a pool that changes has an older route", "put-pool later {backends: [{address: '10.0.0.9:1'}]}; put-route web /x -> later; put-pool later {backends: [{address: '10.0.0.9:2'}]}", "later"},
		{"a pool that goes had a route that is newer", "put-route web /images/ -> main; remove-pool images; remove-route web /images/; put-route web /x -> main", "main"},
	} {
		t.Run(row.name, func(t *testing.T) {
			d := NewDraft(NewTree("f", []byte(edited)), nil)
			for text := range strings.SplitSeq("put-service new {listen: '203.0.113.12:80', backends: [{address: '10.0.0.9:1'}]}; "+row.edits, "; ") {
				if err := d.Add(edit(text)); err != nil {
					t.Fatal(err)
				}
			}
			_, s, dormant, err := NewTree("f", []byte(file)).Fit(d.Edits())
			if err != nil || len(dormant) != 1 || dormant[0].Edit.Service != "new" {
				t.Fatalf("error %v, dormant %+v", err, dormant)
			}
			routes := s.Services[1].HTTP.Routes
			if last := routes[len(routes)-1]; last.Match != "/x" || last.Pools[0].Pool != row.pool {
				t.Errorf("the last route is %s to %+v, want /x to %s", last.Match, last.Pools, row.pool)
			}
		})
	}
}
