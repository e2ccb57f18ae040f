package datapath

import (
	"fmt"

	"fairlead/loader"
	"fairlead/userspace/model"
)

// Troubles count what clients saw of a backend that may not serve any more.
type Troubles struct {
	// Unanswered are SYNs that clients had to send again, Refused are those that
	// the backend answered with a reset.
	Unanswered uint64 `json:"unanswered"`
	Refused    uint64 `json:"refused"`
	// Resets are those of the backend in established connections.
	Resets uint64 `json:"resets"`
}

// Add returns t and u together.
func (t Troubles) Add(u Troubles) Troubles {
	return Troubles{t.Unanswered + u.Unanswered, t.Refused + u.Refused, t.Resets + u.Resets}
}

// Since returns what t has more than before, an earlier count; one that has
// begun anew since then has all of it.
func (t Troubles) Since(before Troubles) Troubles {
	if t.Unanswered < before.Unanswered || t.Refused < before.Refused || t.Resets < before.Resets {
		return t
	}
	return Troubles{t.Unanswered - before.Unanswered, t.Refused - before.Refused, t.Resets - before.Resets}
}

// Troubles returns what the kernel has counted of the backends of each service of
// state, by their indexes. It must be the state of the last Reconcile; of one
// that failed nothing is known.
func (w *Writer) Troubles(state *model.State) ([][]Troubles, error) {
	if len(w.done) != len(state.Services) {
		return nil, fmt.Errorf("read troubles: %w", ErrUnknown)
	}
	sums, err := w.maps.ReadCounters(loader.TableBackends)
	if err != nil {
		return nil, fmt.Errorf("read troubles: %w", err)
	}
	all := make([][]Troubles, len(w.done))
	for i := range w.done {
		d := &w.done[i]
		if len(d.backends) != len(state.Services[i].Backends) {
			return nil, fmt.Errorf("read troubles of service %s: %w", d.Name, ErrUnknown)
		}
		for _, row := range d.backends {
			all[i] = append(all[i], troublesOf(sums[row]))
		}
	}
	return all, nil
}

func troublesOf(c loader.Counters) Troubles {
	return Troubles{
		Unanswered: c.Troubles[loader.LBTroubleTROUBLE_UNANSWERED],
		Refused:    c.Troubles[loader.LBTroubleTROUBLE_REFUSED],
		Resets:     c.Troubles[loader.LBTroubleTROUBLE_RESET],
	}
}
