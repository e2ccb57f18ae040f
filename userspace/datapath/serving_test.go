package datapath

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestBackupsHaveNoWeightWhileTheyWait asks for the rows too: who comes back to
// the backend that it had goes by these.
func TestBackupsHaveNoWeightWhileTheyWait(t *testing.T) {
	type held struct {
		Up, All []string
		Weights []uint32
	}
	first, second := []string{"10.2.0.2"}, []string{"10.2.1.2"}
	for _, row := range []struct {
		name string
		down []bool
		want held
	}{
		{"nobody is down", nil, held{first, first, []uint32{3, 0}}},
		{"the first is down", []bool{true, false}, held{second, first, []uint32{3, 2}}},
		{"the backup is down", []bool{false, true}, held{first, first, []uint32{3, 0}}},
		{"both are down", []bool{true, true}, held{nil, first, []uint32{3, 0}}},
	} {
		r := empty(2)
		s := service("a", 80, 3, 2)
		s.Backends[1].Backup, s.Down = true, row.down
		execute(t, r, mustPlan(t, r, &Want{Services: []Service{s}}))
		names := func(table uint64) (all []string) {
			for _, slot := range r.at(table) {
				all = append(all, s.Backends[slot].Address.Addr().String())
			}
			return all
		}
		x := &r.services[0]
		got := held{names(x.Slots), names(x.SlotsAll), []uint32{r.backends[0].Weight, r.backends[1].Weight}}
		if diff := cmp.Diff(row.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", row.name, diff)
		}
	}
}
