package loader

import (
	"testing"

	"github.com/cilium/ebpf"
	"github.com/google/go-cmp/cmp"
)

// shapesFor returns the shapes of all maps for sizes.
func shapesFor(t *testing.T, s Sizes) map[string]shape {
	t.Helper()
	o, err := readObjects(LoadLB, LoadLB6, s.Flows6 > 0)
	if err != nil {
		t.Fatal(err)
	}
	shapes := map[string]shape{}
	for name, spec := range mapSpecs(o, s) {
		shapes[name] = shapeOfSpec(spec)
	}
	return shapes
}

// linked are the maps that are written together, when they are copied.
var linked = map[string]fate{
	LBMapListeners: fateCopy, LBMapVips: fateCopy, LBMapServices: fateCopy,
	LBMapBackends: fateCopy, LBMapSlots: fateCopy, LBMapClients: fateCopy, LBMapSnat: fateCopy, mapServiceNames: fateCopy,
	LBMapBackendCounters: fateCopy, mapServiceBase: fateCopy, mapBackendBase: fateCopy,
}

func TestPlanMaps(t *testing.T) {
	for _, tt := range []struct {
		name   string
		sizes  Sizes
		resize bool
		edit   func(have map[string]shape)
		want   map[string]fate // but for those that are kept
	}{
		{"the same sizes", Sizes{}, false, nil, nil},
		{"sizes within the rounding", Sizes{Services: 16, Backends: 16, Slots: 1 << 15}, false, nil, nil},
		{"more slots take all rows that are written with them", Sizes{Slots: 1<<15 + 1}, false, nil, linked},
		{"more services take their turns too", Sizes{Services: 17}, false, nil, with(linked, map[string]fate{LBMapTurns: fateCopy, LBMapServiceConns: fateCopy, LBMapSyns: fateCopy})},
		{"more flows change nothing", Sizes{Flows: 5000}, false, nil, nil},
		{"more flows, resized", Sizes{Flows: 5000}, true, nil, map[string]fate{LBMapFlows: fateDrop}},
		{"flows of the same size, resized", Sizes{Flows: 512}, true, nil, nil},
		{"a base that is missing drops all counters", Sizes{}, false, func(have map[string]shape) {
			delete(have, mapServiceBase)
		}, with(linked, map[string]fate{
			LBMapBackendCounters: fateDrop, mapServiceBase: fateNew, mapBackendBase: fateDrop,
		})},
		{"fifteen networks of clients fit, and one is free", Sizes{Clients: 15}, false, nil, nil},
		{"more networks of clients take all rows along", Sizes{Clients: 16}, false, nil, linked},
		{"an instance from before clients were listed", Sizes{}, false, func(have map[string]shape) {
			delete(have, LBMapClients)
			delete(have, LBMapSources)
		}, with(linked, map[string]fate{LBMapClients: fateNew, LBMapSources: fateNew})},
		{"an instance from before SYNs were counted", Sizes{}, false, func(have map[string]shape) { delete(have, LBMapSyns) }, map[string]fate{LBMapSyns: fateNew}},
		{"services of another schema drop the lists and what was spent", Sizes{}, false, func(have map[string]shape) {
			have[LBMapServices] = shape{typ: ebpf.Array, key: 4, value: 32, entries: 16}
		}, with(dropped(linked), map[string]fate{LBMapTurns: fateDrop, LBMapSyns: fateDrop, LBMapBackendConns: fateDrop, LBMapServiceConns: fateDrop, LBMapFlows: fateDrop, LBMapSources: fateDrop, LBMapAffinity: fateDrop})},
		{"control of another schema takes the flows along", Sizes{}, false, func(have map[string]shape) {
			have[LBMapControl] = shape{typ: ebpf.Array, key: 4, value: 8, entries: 1}
		}, map[string]fate{LBMapControl: fateDrop, LBMapFlows: fateDrop}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			have := shapesFor(t, Sizes{Flows: 512})
			if tt.edit != nil {
				tt.edit(have)
			}
			p := planMaps(shapesFor(t, tt.sizes), have, tt.resize)
			if tt.want == nil {
				tt.want = map[string]fate{}
			}
			if diff := cmp.Diff(tt.want, p.changed()); diff != "" {
				t.Errorf("fates (-want +got):\n%s", diff)
			}
		})
	}
}

func TestPlanMapsOfIPv6(t *testing.T) {
	six := map[string]fate{
		LB6MapListeners6: fateNew, LB6MapVips6: fateNew, LB6MapFlows6: fateNew, LB6MapStandby6: fateNew,
		LB6MapClients6: fateNew, LB6MapSources6: fateNew, LB6MapAffinity6: fateNew,
	}
	with6 := Sizes{Flows: 512, Flows6: 512}
	for _, tt := range []struct {
		name       string
		have, want Sizes
		resize     bool
		fates      map[string]fate // but for those that are kept
	}{
		{"IPv6 takes all rows along", Sizes{}, with6, false, with(linked, six)},
		{"IPv6 that is not wanted any more goes, and nothing else", with6, Sizes{}, false, map[string]fate{}},
		{"IPv6 stays", with6, with6, true, map[string]fate{}},
		{"more flows, resized", with6, Sizes{Flows: 512, Flows6: 5000}, true, map[string]fate{LB6MapFlows6: fateDrop}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := planMaps(shapesFor(t, tt.want), shapesFor(t, tt.have), tt.resize)
			if diff := cmp.Diff(tt.fates, p.changed()); diff != "" {
				t.Errorf("fates (-want +got):\n%s", diff)
			}
		})
	}
}

// changed returns the fates of maps that are not kept.
func (p plan) changed() map[string]fate {
	all := map[string]fate{}
	for name, f := range p.fates {
		if f != fateKeep {
			all[name] = f
		}
	}
	return all
}

// dropped returns the same names, each dropped.
func dropped(fates map[string]fate) map[string]fate {
	all := map[string]fate{}
	for name := range fates {
		all[name] = fateDrop
	}
	return all
}

func with(a, b map[string]fate) map[string]fate {
	sum := map[string]fate{}
	for _, m := range []map[string]fate{a, b} {
		for k, v := range m {
			sum[k] = v
		}
	}
	return sum
}

func TestEntriesAreRoundedUp(t *testing.T) {
	for n, want := range map[uint32]uint32{0: 16, 1: 16, 16: 16, 17: 32, 1000: 1024, 1024: 1024, 1025: 2048, 1 << 31: 1 << 31, 1<<32 - 1: 1 << 31} {
		if got := entries(n); got != want {
			t.Errorf("entries(%d) = %d, want %d", n, got, want)
		}
	}
}

func TestBucketsHaveRoomForTheFlows(t *testing.T) {
	for n, want := range map[uint32]uint32{0: 0, 1: 16, 48: 16, 49: 32, 96: 32, 97: 64, 131072: 1 << 16, 1<<32 - 1: 1 << 31} {
		if got := (Sizes{Flows: n}).flows(); got != want {
			t.Errorf("%d flows get %d buckets, want %d", n, got, want)
		}
	}
}

func TestPinNames(t *testing.T) {
	for _, name := range []string{"eth0", "eth0.100", "a%2eb", "%25.%", "..."} {
		pin := escapePin.Replace(name)
		if got := unescapePin.Replace(pin); got != name {
			t.Errorf("%q is pinned as %q, which is read as %q", name, pin, got)
		}
	}
}
