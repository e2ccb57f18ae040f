package datapath

import (
	"errors"
	"fmt"

	"fairlead/loader"
	"fairlead/userspace/model"
)

// killPasses is how often the flow table is gone through for entries that change
// while they are to be ended.
const killPasses = 20

var errBusy = errors.New("flows change all the time: try again")

// Kill ends live flows, and returns how many. TCP's are answered with a reset at their
// next packet from either side, UDP's begin anew.
func Kill(maps *loader.Maps, which func(*FlowView) bool) (killed int, err error) {
	r, err := read(maps)
	if err != nil {
		return 0, err
	}
	for range killPasses {
		missed := false
		err := eachEntry(maps, func(t *loader.FlowTable, e *loader.Entry, at moment) bool {
			if e.Over() || at.expired(e) || r.gone(e) {
				return true
			}
			v := bothWays(e)
			v.Service = r.names[e.Service]
			switch {
			case !which(&v):
			case !end(t, e):
				missed = true
			case forward(e):
				killed++
			}
			return true
		})
		if err != nil {
			return killed, fmt.Errorf("kill flows: %w", err)
		}
		if !missed {
			return killed, nil
		}
	}
	return killed, fmt.Errorf("kill flows: %w", errBusy)
}

// bothWays is flowView of either entry of a flow.
func bothWays(e *loader.Entry) FlowView {
	if forward(e) {
		return flowView(e)
	}
	return FlowView{
		Protocol: protocolOf(e.Key.Proto),
		Client:   at6(e.Daddr, e.Dport),
		Virtual:  at6(e.Saddr, e.Sport),
		Backend:  at6(e.Key.Saddr, e.Key.Sport),
	}
}

// end ends an entry, and reports whether it was still as it had been read.
func end(t *loader.FlowTable, e *loader.Entry) bool {
	if e.Key.Proto == model.UDP.Number() {
		return t.Free(*e)
	}
	return t.End(*e)
}
