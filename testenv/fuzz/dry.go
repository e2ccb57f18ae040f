package fuzz

import (
	"fmt"
	"slices"

	m "fairlead/testenv/refmodel"
)

// rehearse runs a frame dry (rule 14), which must change nothing: what it changes
// shows as a difference of states. It returns nil where another CPU will be
// quicker, which no dry run can know.
func (k *kernel) rehearse(frame []byte, linear int) (*m.Result, error) {
	dry := k.dry[k.Datapath]
	random, err := k.Random()
	if err != nil {
		return nil, err
	}
	res, err := runOn(dry, frame, linear)
	if err != nil {
		return nil, fmt.Errorf("run dry: %w", err)
	}
	// What a dry run does as the packet will do it shows only if that never comes.
	k.past = append(k.past, item{frame: slices.Clone(frame), linear: linear})
	old := k.past[(len(k.past)-1)*5/7]
	res.Out = slices.Clone(res.Out)
	if _, err := runOn(dry, old.frame, old.linear); err != nil {
		return nil, fmt.Errorf("run an old packet dry: %w", err)
	}
	if err := k.SetRandom(random); err != nil {
		return nil, err
	}
	if k.races {
		if k.races, err = k.Raced(); err != nil || k.races {
			return nil, err
		}
	}
	return &res, nil
}
