package config

import (
	"testing"
	"time"

	"fairlead/userspace/control"
)

// TestWhatALeaseLeaves has a backend registered that the file has got since.
func TestWhatALeaseLeaves(t *testing.T) {
	drain := edit("drain db 10.0.1.2:5432")
	leased := edit("add-backend db 10.0.1.2:5432 5")
	leased.Lease = time.Second
	for _, e := range []*control.Edit{&leased, &drain} {
		e.Service, e.Pool = e.Pool, "" // as they are kept
	}
	for _, row := range []struct {
		name  string
		lease time.Duration
		want  string
		kept  int
	}{
		{"the end of a lease leaves what the file says", time.Second, ".1=3 .2=1", 0},
		{"others take it away", 0, ".1=3", 1},
	} {
		t.Run(row.name, func(t *testing.T) {
			d := NewDraft(NewTree("f", []byte(edited)), []control.Edit{leased, drain})
			remove := edit("remove-backend db 10.0.1.2:5432")
			remove.Lease = row.lease
			if err := d.Add(remove); err != nil {
				t.Fatal(err)
			}
			tree, dormant := d.Tree()
			if got := backendsIn(t, tree, "db"); got != row.want || len(d.Edits()) != row.kept || len(dormant) > 0 {
				t.Errorf("backends %s, want %s; kept %+v, dormant %v", got, row.want, d.Edits(), dormant)
			}
			if err := d.Add(edit("set-weight db 10.0.1.2:5432 2")); (err == nil) != (row.kept == 0) {
				t.Errorf("weigh it: %v", err)
			}
		})
	}
}
