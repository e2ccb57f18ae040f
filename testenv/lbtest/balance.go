package lbtest

import "fmt"

// SetRandom sets what the next random number is made of.
func (d *Datapath) SetRandom(state uint32) error {
	return d.coll.Variables[lbVarWorldRandom].Set(state)
}

// Random returns what the next random number is made of.
func (d *Datapath) Random() (state uint32, err error) {
	if err := d.coll.Variables[lbVarWorldRandom].Get(&state); err != nil {
		return 0, fmt.Errorf("read the random numbers' state: %w", err)
	}
	return state, nil
}
