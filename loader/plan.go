package loader

import (
	"slices"

	"github.com/cilium/ebpf"
)

// A shape is what decides whether a pinned map can go on being used.
type shape struct {
	typ        ebpf.MapType
	key, value uint32 // bytes
	flags      uint32
	entries    uint32
}

func shapeOfSpec(s *ebpf.MapSpec) shape {
	return shape{s.Type, s.KeySize, s.ValueSize, s.Flags, s.MaxEntries}
}

func shapeOfMap(m *ebpf.Map) shape {
	return shape{m.Type(), m.KeySize(), m.ValueSize(), m.Flags(), m.MaxEntries()}
}

// sameSchema reports whether a and b differ at most in size.
func (a shape) sameSchema(b shape) bool {
	a.entries = b.entries
	return a == b
}

// A fate is what becomes of a map in an upgrade.
type fate int

const (
	fateNew  fate = iota // there was none
	fateKeep             // the same map goes on
	fateCopy             // a new map, with the old one's rows
	fateDrop             // a new map, empty: the old rows cannot be used
)

// A plan is the fate of each map by name, and its size to be.
type plan struct {
	fates   map[string]fate
	entries map[string]uint32
}

// fresh reports whether any map is made anew.
func (p plan) fresh() bool {
	for _, f := range p.fates {
		if f != fateKeep {
			return true
		}
	}
	return false
}

// planMaps decides what becomes of the maps that are pinned (have) when those
// of want are needed. No map shrinks, but the flow tables if resizeFlows is set.
func planMaps(want, have map[string]shape, resizeFlows bool) plan {
	p := plan{map[string]fate{}, map[string]uint32{}}
	for name, w := range want {
		h, pinned := have[name]
		p.entries[name] = w.entries
		switch {
		case !pinned:
			p.fates[name] = fateNew
		case !w.sameSchema(h):
			p.fates[name] = fateDrop
		case name == LBMapFlows || name == LB6MapFlows6:
			p.fates[name] = fateKeep
			if resizeFlows && w.entries != h.entries {
				p.fates[name] = fateDrop
			} else {
				p.entries[name] = h.entries
			}
		case w.entries > h.entries:
			p.fates[name] = fateCopy
		default:
			p.fates[name] = fateKeep
			p.entries[name] = h.entries
		}
	}
	p.agree()
	return p
}

// PlanMaps returns the maps that [Attach] would make so that they hold sizes, and
// those that it would replace by larger ones. have is what is attached, nil if
// nothing is. It changes nothing.
func PlanMaps(have *Instance, sizes Sizes) ([]Growth, error) {
	objects, err := readObjects(LoadLB, LoadLB6, sizes.Flows6 > 0)
	if err != nil {
		return nil, err
	}
	want, pinned := map[string]shape{}, map[string]shape{}
	for name, s := range mapSpecs(objects, sizes) {
		want[name] = shapeOfSpec(s)
	}
	if have != nil {
		pinned = have.maps.shapes()
	}
	var all []Growth
	p := planMaps(want, pinned, false)
	for _, pl := range places {
		if from, to := pinned[pl.name].entries, p.entries[pl.name]; to > from {
			all = append(all, Growth{pl.name, from, to})
		}
	}
	return all, nil
}

// drop gives up a map if there is one.
func (p plan) drop(name string) {
	if f, wanted := p.fates[name]; wanted && f != fateNew {
		p.fates[name] = fateDrop
	}
}

// agree makes maps that mean something only together share their fate.
func (p plan) agree() {
	lost := func(name string) bool { return p.fates[name] == fateDrop || p.fates[name] == fateNew }
	rowsLost := lost(LBMapServices) || lost(LBMapBackends)
	countsLost := slices.ContainsFunc(places, func(pl place) bool { return pl.counts && lost(pl.name) })
	if lost(LBMapControl) {
		p.drop(LBMapFlows) // control knows where they stand, and which era is theirs
		p.drop(LB6MapFlows6)
	}
	linkedFresh := false
	for _, pl := range places {
		if rowsLost && pl.rows || countsLost && pl.counts {
			p.drop(pl.name)
		}
		f, wanted := p.fates[pl.name]
		linkedFresh = linkedFresh || pl.linked && wanted && f != fateKeep
	}
	for _, pl := range places {
		if f, wanted := p.fates[pl.name]; linkedFresh && pl.linked && wanted && f == fateKeep {
			p.fates[pl.name] = fateCopy
		}
	}
}
