package loader

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/google/go-cmp/cmp"
)

var two = Options{Interfaces: []string{"d0", "d1"}}

func TestSameVersionIsUnchanged(t *testing.T) {
	b := newBench(t)
	b.attach(two, nil)
	before := b.mapIDs()
	r := b.attach(two, nil)
	want := Report{Outcome: OutcomeUnchanged, Interfaces: []InterfaceReport{
		{Name: "d0", Mode: AttachNative, Already: true},
		{Name: "d1", Mode: AttachNative, Already: true},
	}}
	if diff := cmp.Diff(want, r); diff != "" {
		t.Errorf("report (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(before, b.mapIDs()); diff != "" {
		t.Errorf("maps (-before +after):\n%s", diff)
	}
	r = b.attach(Options{Interfaces: []string{"d2"}}, nil)
	if r.Outcome != OutcomeUnchanged || r.Interfaces[0].Already {
		t.Errorf("one more interface: %+v", r)
	}
	b.wantLinks(map[string]AttachMode{"d0": AttachNative, "d1": AttachNative, "d2": AttachNative})
}

// mapIDs returns the kernel's ids of the pinned maps.
func (b *bench) mapIDs() map[string]ebpf.MapID {
	b.t.Helper()
	ids := map[string]ebpf.MapID{}
	maps := b.open().Maps()
	for _, p := range places {
		m := *p.field(maps)
		if m == nil {
			continue
		}
		info, err := m.Info()
		if err != nil {
			b.t.Fatal(err)
		}
		ids[p.name], _ = info.ID()
	}
	return ids
}

func TestOtherProgramKeepsMapsAndLinks(t *testing.T) {
	b := newBench(t)
	b.attach(two, nil)
	maps, links := b.mapIDs(), b.linkIDs()
	for _, edit := range []func(*Lock){otherProgram, realProgram, nil} {
		r := b.attach(two, edit)
		if r.Outcome != OutcomeUpgraded || r.Grown != nil || r.Dropped != nil {
			t.Errorf("report = %+v, want upgraded without any new map", r)
		}
		b.wantWhole()
	}
	if diff := cmp.Diff(maps, b.mapIDs()); diff != "" {
		t.Errorf("maps (-before +after):\n%s", diff)
	}
	if diff := cmp.Diff(links, b.linkIDs()); diff != "" {
		t.Errorf("links (-before +after):\n%s", diff)
	}
	b.detach()
	b.wantNothing()
}

func (b *bench) linkIDs() map[string]link.ID {
	b.t.Helper()
	links, err := loadLinks(b.dir)
	if err != nil {
		b.t.Fatal(err)
	}
	defer links.close()
	ids := map[string]link.ID{}
	for _, l := range links {
		ids[l.iface] = l.id
	}
	return ids
}

func TestGrowthKeepsRows(t *testing.T) {
	b := newBench(t)
	b.attach(two, nil)
	b.setCounter(3, 7)
	m := b.open().Maps()
	if err := errors.Join(
		m.Turns.Put(uint32(3), uint64(11)),
		m.Listeners.Put(Listener{Addr: 1, Port: 2, Proto: 6}, uint32(3)),
		m.Flows.Put(uint32(7), LBBucket{Places: [8]LBFlow{5: {Service: 3}}}),
		m.WriteServiceName(3, "web"),
	); err != nil {
		t.Fatal(err)
	}
	m.SlotsView().Store(15, 4)

	o := two
	o.Sizes = Sizes{Services: 33, Slots: 1 << 17}
	o.Fill = func(m *Maps) error {
		m.SlotsView().Store(1<<18-1, 5)
		return nil
	}
	r := b.attach(o, nil)
	want := []Growth{
		{LBMapServices, 16, 64}, {LBMapSlots, 1 << 17, 1 << 18}, {LBMapTurns, 16, 64}, {LBMapSyns, 16, 64},
		{LBMapServiceConns, 16, 64}, {mapServiceBase, 16, 64}, {mapServiceNames, 16, 64},
	}
	if diff := cmp.Diff(want, r.Grown); diff != "" {
		t.Errorf("grown (-want +got):\n%s", diff)
	}
	b.wantWhole()
	b.wantCounter(3, 7)
	b.wantRowsOfGrowth()
	if r := b.attach(two, nil); r.Outcome != OutcomeUnchanged {
		t.Errorf("smaller sizes afterwards: %+v, want unchanged", r)
	}
	o.Sizes.Services = 65
	b.attach(o, nil)
	b.wantCounter(3, 7)
}

func (b *bench) wantRowsOfGrowth() {
	b.t.Helper()
	m := b.open().Maps()
	var turn uint64
	var service uint32
	var bucket LBBucket
	if err := errors.Join(
		m.Turns.Lookup(uint32(3), &turn),
		m.Listeners.Lookup(Listener{Addr: 1, Port: 2, Proto: 6}, &service),
		m.Flows.Lookup(uint32(7), &bucket),
	); err != nil {
		b.t.Fatal(err)
	}
	names, err := m.ReadServiceNames()
	if err != nil {
		b.t.Fatal(err)
	}
	slots := m.SlotsView()
	got := []any{turn, service, bucket.Places[5].Service, len(names), names[3], slots.Len(), slots.Load(15), slots.Load(1<<18 - 1)}
	want := []any{uint64(11), uint32(3), uint32(3), 64, "web", 1 << 18, uint32(4), uint32(5)}
	if diff := cmp.Diff(want, got); diff != "" {
		b.t.Errorf("rows after growth (-want +got):\n%s", diff)
	}
}

func TestGrowthForgetsCountersOfFormerOwner(t *testing.T) {
	b := newBench(t)
	b.attach(two, nil)
	b.setCounter(3, 7)
	b.setCounter(4, 9)
	o := two
	o.Sizes.Services = 100
	o.Fill = func(m *Maps) error { return m.Services.Put(uint32(3), Service{Gen: 2}) }
	b.attach(o, nil)
	b.wantCounter(3, 0)
	b.wantCounter(4, 9)
}

func TestOtherSchemaIsDroppedAndReported(t *testing.T) {
	for _, tt := range []struct {
		name string
		want []string
	}{
		{LBMapVerdicts, []string{LBMapVerdicts}},
		{LBMapBackendCounters, []string{LBMapBackendCounters, mapServiceBase, mapBackendBase}},
		{LBMapFlows, nil},
		{LBMapControl, []string{LBMapControl}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t)
			b.attach(two, otherSchema(tt.name))
			if _, err := Open(b.dir); !errors.Is(err, ErrVersion) {
				t.Errorf("Open of another schema: %v, want ErrVersion", err)
			}
			r := b.attach(two, nil)
			if diff := cmp.Diff(tt.want, r.Dropped); diff != "" {
				t.Errorf("dropped (-want +got):\n%s", diff)
			}
			b.wantWhole()
			b.detach()
			b.wantNothing()
		})
	}
}

func TestLostServicesTakeTheirRowsAlong(t *testing.T) {
	b := newBench(t)
	b.attach(two, otherSchema(LBMapServices))
	r := b.attach(two, nil)
	for _, name := range []string{LBMapServices, LBMapBackends, LBMapSlots, LBMapBackendCounters, mapServiceNames} {
		if !slices.Contains(r.Dropped, name) {
			t.Errorf("%s was not dropped: %v", name, r.Dropped)
		}
	}
	if slices.Contains(r.Dropped, LBMapDevices) || slices.Contains(r.Dropped, LBMapControl) {
		t.Errorf("dropped %v, though devices and control could be kept", r.Dropped)
	}
}

func TestResizeFlows(t *testing.T) {
	b := newBench(t)
	o := two
	o.Sizes.Flows = 100
	b.attach(o, nil)
	m := b.open().Maps()
	if got := m.Flows.MaxEntries(); got != 64 || m.FlowRoom() != 192 {
		t.Errorf("flow table for 100 flows has %d buckets for %d flows, want 64 for 192", got, m.FlowRoom())
	}
	for i := range uint32(10) {
		if err := m.Flows.Put(i, LBBucket{Stamps: [8]Stamp{3: {Era: 1}}}); err != nil {
			t.Fatal(err)
		}
	}
	before := hashes(t, m)
	o.Sizes.Flows = 1000
	if r := b.attach(o, nil); r.Outcome != OutcomeUnchanged || r.FlowsDropped != 0 {
		t.Errorf("without ResizeFlows: %+v, want unchanged", r)
	}
	o.ResizeFlows = true
	if r := b.attach(o, nil); r.FlowsDropped != 5 || r.Dropped != nil {
		t.Errorf("with ResizeFlows: %+v, want 5 flows dropped", r)
	}
	m = b.open().Maps()
	if got := m.Flows.MaxEntries(); got != 512 {
		t.Errorf("resized table has %d buckets, want 512", got)
	}
	if got := hashes(t, m); got != before {
		t.Errorf("hashes = %x, were %x, though control was kept", got, before)
	}
}

// hashes returns what says where a key stands in the flow table.
func hashes(t *testing.T, m *Maps) [5]uint64 {
	t.Helper()
	var c Control
	if err := m.Control.Lookup(uint32(0), &c); err != nil {
		t.Fatal(err)
	}
	if c.HashA&c.HashB&c.HashC&c.HashD&c.HashE&1 == 0 || c.HashA == c.HashB {
		t.Errorf("hashes = %#x, %#x, %#x, %#x, %#x, want odd random numbers", c.HashA, c.HashB, c.HashC, c.HashD, c.HashE)
	}
	return [5]uint64{c.HashA, c.HashB, c.HashC, c.HashD, c.HashE}
}

func TestFailureAtAnyStepKeepsOldInstance(t *testing.T) {
	b := newBench(t)
	b.attach(two, nil)
	b.setCounter(3, 7)
	o := Options{Interfaces: []string{"d0", "d1", "d2"}, Sizes: Sizes{Services: 100}}
	for _, step := range []string{
		"made directory", "pinned maps", "pinned program", "pinned links", "linked d2",
		"marked retired", "exchanged", "updated d0", "updated d1", "updated all", "carried",
	} {
		if _, err := b.tryAttach(o, failAt(step)); !errors.Is(err, errInjected) {
			t.Errorf("%s: %v, want the injected error", step, err)
		}
		b.wantWhole()
		b.wantCounter(3, 7)
		b.wantLinks(map[string]AttachMode{"d0": AttachNative, "d1": AttachNative})
		if got := b.open().Maps().Services.MaxEntries(); got != 16 {
			t.Errorf("%s: %d services, want the old maps", step, got)
		}
		if t.Failed() {
			t.Fatal("after failure at:", step)
		}
	}
	b.attach(o, nil)
	b.wantCounter(3, 7)
	b.detach()
	b.wantNothing()
}

func TestJournalSurvivesUpgrade(t *testing.T) {
	b := newBench(t)
	b.attach(two, nil)
	want := Journal{
		Sysctls:    []JournalSysctl{{Name: "net.ipv4.ip_forward", Old: "0", New: "1"}},
		Config:     JournalConfig{Path: "/etc/fairlead.yaml", Digest: "abc"},
		Interfaces: []JournalInterface{{Name: "d0", Mode: AttachNative}},
	}
	if err := b.open().Maps().WriteJournal(want); err != nil {
		t.Fatal(err)
	}
	o := two
	o.Sizes.Services = 100
	b.attach(o, otherProgram)
	got, err := b.open().Maps().ReadJournal()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("journal (-want +got):\n%s", diff)
	}
	want.Config.Path = strings.Repeat("x", JournalSize)
	if err := b.open().Maps().WriteJournal(want); err == nil {
		t.Error("a journal that does not fit was written")
	}
}

func TestKeepMode(t *testing.T) {
	b := newBench(t)
	b.attach(Options{Interfaces: []string{"d0"}, KeepMode: true}, nil)
	if got := b.open().Control().Mode(); got != ModeOff {
		t.Errorf("mode of a new instance = %v, want off", got)
	}
	b.open().SetMode(ModeOn)
	era := b.open().Control().Era()
	b.open().SetMode(ModeDraining)
	b.attach(Options{Interfaces: []string{"d0"}, KeepMode: true}, otherProgram)
	if got := b.open().Control().Mode(); got != ModeDraining {
		t.Errorf("mode = %v, want draining", got)
	}
	b.attach(Options{Interfaces: []string{"d0"}}, nil)
	b.wantWhole()
	if got := b.open().Control().Era(); got != era {
		t.Errorf("era = %d, want still %d: flows went on while draining", got, era)
	}
	b.open().SetMode(ModeOff)
	b.open().SetMode(ModeOn)
	if got := b.open().Control().Era(); got != era+1 {
		t.Errorf("era = %d, want %d: flows from before off are stale", got, era+1)
	}
}

func TestLostPinIsReplaced(t *testing.T) {
	b := newBench(t)
	b.attach(two, nil)
	if err := errors.Join(os.Remove(b.dir+"/"+LBMapDevices), os.Remove(b.dir+"/"+programPin)); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(b.dir); !errors.Is(err, ErrVersion) {
		t.Errorf("Open without a map: %v, want ErrVersion", err)
	}
	b.attach(two, nil)
	b.wantWhole()
	b.detach()
	b.wantNothing()
}
