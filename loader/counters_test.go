package loader

import (
	"errors"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/google/go-cmp/cmp"

	"fairlead/testenv"
)

// newCounters returns the maps that make sums, with 4 rows each, or the sizes
// given.
func newCounters(t *testing.T, rows ...uint32) *Maps {
	t.Helper()
	testenv.RequireRoot(t)
	spec, err := LoadLB()
	if err != nil {
		t.Fatal(err)
	}
	specs := mapSpecs(objects{ipv4: spec}, Sizes{})
	m := &Maps{}
	for _, p := range places {
		if !p.counts && p.name != LBMapServices && p.name != LBMapBackends {
			continue
		}
		specs[p.name].MaxEntries = append(rows, 4)[0]
		made, err := ebpf.NewMap(specs[p.name])
		if err != nil {
			t.Fatal(err)
		}
		*p.field(m) = made
	}
	t.Cleanup(func() { _ = m.close() })
	return m
}

// own gives a row of backends to a service. It has counted n packets.
func (m *Maps) own(t *testing.T, row, gen, service uint32, n uint64) {
	t.Helper()
	err := errors.Join(m.Backends.Put(row, Backend{Gen: gen, Service: service}), m.BackendCounters.Put(row, counted(n)))
	if err != nil {
		t.Fatal(err)
	}
}

func (m *Maps) wantSums(t *testing.T, when string, want ...uint64) {
	t.Helper()
	sums, err := m.ReadCounters(TableServices)
	if err != nil {
		t.Fatal(err)
	}
	var got []uint64
	for _, s := range sums {
		got = append(got, s.Packets[LBFlowDirDIR_FORWARD])
	}
	if !slices.Equal(got[:len(want)], want) {
		t.Errorf("%s: services count %v packets, want %v", when, got, want)
	}
}

func (m *Maps) reset(t *testing.T, table Table, rows ...uint32) {
	t.Helper()
	if err := m.ResetCounters(table, rows...); err != nil {
		t.Fatal(err)
	}
}

func TestSumsAreOverCPUsAndBase(t *testing.T) {
	m := newCounters(t)
	want := Counters{Packets: [2]uint64{1000, 0}}
	each := make([]Counters, ebpf.MustPossibleCPU())
	for cpu := range each {
		each[cpu] = Counters{Packets: [2]uint64{1, 2}, Bytes: [2]uint64{3, 4}, Flows: 5}
		want.add(each[cpu])
	}
	if err := errors.Join(
		m.Backends.Put(uint32(3), Backend{Gen: 1, Service: 2}),
		m.BackendCounters.Put(uint32(3), each),
		m.BackendBase.Put(uint32(3), Counters{Packets: [2]uint64{1000, 0}}),
		m.ServiceBase.Put(uint32(2), serviceBase{Counters: Counters{Flows: 7}}),
	); err != nil {
		t.Fatal(err)
	}
	for table, row := range map[Table]int{TableBackends: 3, TableServices: 2} {
		got, err := m.ReadCounters(table)
		if err != nil {
			t.Fatal(err)
		}
		all := make([]Counters, 4)
		all[row] = want
		if table == TableServices {
			all[row].Flows += 7
		}
		if diff := cmp.Diff(all, got, ignoreLayout); diff != "" {
			t.Errorf("%ss (-want +got):\n%s", table, diff)
		}
	}
}

func TestServiceKeepsWhatItsFormerBackendsCounted(t *testing.T) {
	m := newCounters(t)
	m.own(t, 0, 1, 0, 10)
	m.own(t, 1, 1, 0, 20)
	m.own(t, 2, 5, 1, 300)
	m.reset(t, TableBackends, 1, 2)
	m.wantSums(t, "folded", 30, 300)
	m.own(t, 1, 2, 1, 4)
	m.own(t, 2, 6, 1, 5)
	m.wantSums(t, "with new owners", 30, 309)
	m.reset(t, TableBackends, 1)
	m.own(t, 1, 3, 0, 6)
	m.wantSums(t, "with new owners again", 36, 309)
}

func TestNewServiceStartsAtZero(t *testing.T) {
	m := newCounters(t)
	m.own(t, 0, 1, 0, 10)
	m.own(t, 1, 1, 0, 20)
	m.own(t, 2, 1, 1, 300)
	m.reset(t, TableBackends, 0)
	m.reset(t, TableServices, 0)
	m.wantSums(t, "with a new owner", 0, 300)
	m.reset(t, TableBackends, 0, 1)
	m.own(t, 1, 2, 0, 3)
	m.wantSums(t, "with a new backend in a row of the former owner", 3, 300)
}

// TestFoldingIsKilledAnywhere stops folding after each of its writes, and goes
// on as the next command does: with the same row, with another one, or with a
// new owner of the service.
func TestFoldingIsKilledAnywhere(t *testing.T) {
	base := func(m *Maps, row, gen uint32, n uint64) error {
		c := Counters{Packets: [2]uint64{n, 0}}
		return m.ServiceBase.Put(uint32(0), serviceBase{c, row, gen})
	}
	steps := []func(*Maps) error{
		func(m *Maps) error { return base(m, 1, 7, 1+20) },
		func(m *Maps) error { return m.BackendCounters.Put(uint32(1), counted(0)) },
		func(m *Maps) error { return m.BackendBase.Put(uint32(1), Counters{}) },
	}
	next := []struct {
		name string
		do   func(*testing.T, *Maps)
		want uint64
	}{
		{"nothing", func(*testing.T, *Maps) {}, 1 + 20 + 400},
		{"the same", func(t *testing.T, m *Maps) { m.reset(t, TableBackends, 1); m.own(t, 1, 8, 1, 0) }, 1 + 20 + 400},
		{"another", func(t *testing.T, m *Maps) { m.reset(t, TableBackends, 2); m.own(t, 2, 4, 1, 0) }, 1 + 20 + 400},
		{"both", func(t *testing.T, m *Maps) { m.reset(t, TableBackends, 2, 1); m.own(t, 2, 4, 1, 0) }, 1 + 20 + 400},
		{"a new owner", func(t *testing.T, m *Maps) { m.reset(t, TableServices, 0) }, 0},
	}
	for killed := range len(steps) + 1 {
		for _, n := range next {
			m := newCounters(t)
			m.own(t, 1, 7, 0, 15)
			m.own(t, 2, 3, 0, 400)
			if err := errors.Join(m.BackendBase.Put(uint32(1), Counters{Packets: [2]uint64{5, 0}}), base(m, 0, 0, 1)); err != nil {
				t.Fatal(err)
			}
			for _, step := range steps[:killed] {
				if err := step(m); err != nil {
					t.Fatal(err)
				}
			}
			n.do(t, m)
			m.wantSums(t, n.name, n.want, 0)
			if t.Failed() {
				t.Fatalf("killed after %d writes, then %s", killed, n.name)
			}
		}
	}
}

// TestFoldWritesAsTheTestAboveThinks compares one fold with its steps.
func TestFoldWritesAsTheTestAboveThinks(t *testing.T) {
	m := newCounters(t)
	m.own(t, 1, 7, 0, 15)
	m.reset(t, TableBackends, 1)
	var got serviceBase
	var left Counters
	var each []Counters
	if err := errors.Join(
		m.ServiceBase.Lookup(uint32(0), &got), m.BackendBase.Lookup(uint32(1), &left), m.BackendCounters.Lookup(uint32(1), &each),
	); err != nil {
		t.Fatal(err)
	}
	want := serviceBase{Counters{Packets: [2]uint64{15, 0}}, 1, 7}
	if diff := cmp.Diff(want, got, ignoreLayout); diff != "" {
		t.Errorf("base (-want +got):\n%s", diff)
	}
	for _, c := range append(each, left) {
		if c != (Counters{}) {
			t.Errorf("%+v is left", c)
		}
	}
}

// TestCarryFoldsWhatHasANewOwner carries to larger maps in which rows have
// got other owners, forward twice, as after a crash, and back.
func TestCarryFoldsWhatHasANewOwner(t *testing.T) {
	old, to := newCounters(t), newCounters(t, 8)
	old.own(t, 0, 1, 0, 10)   // goes on
	old.own(t, 1, 1, 0, 200)  // free: to gives it to service 1
	old.own(t, 2, 1, 1, 3000) // free: its service has another owner in to
	old.own(t, 3, 9, 0, 40000)
	if err := errors.Join(
		old.ServiceBase.Put(uint32(0), serviceBase{Counters{Packets: [2]uint64{500000 + 40000, 0}}, 3, 9}), // killed while it was folded
		to.Services.Put(uint32(1), Service{Gen: 1}),
	); err != nil {
		t.Fatal(err)
	}
	old.wantSums(t, "old", 540210, 3000)
	to.own(t, 0, 1, 0, 1) // counted since
	to.own(t, 1, 2, 1, 2)
	to.own(t, 2, 1, 1, 0)
	to.own(t, 3, 9, 0, 0)
	for range 2 {
		o, err := readOwners(old, to)
		if err == nil {
			err = o.carry(to, old)
		}
		if err != nil {
			t.Fatal(err)
		}
		to.wantSums(t, "carried", 540211, 2)
	}
	o, err := readOwners(to, old)
	if err == nil {
		err = o.carryBack(old, to)
	}
	if err != nil {
		t.Fatal(err)
	}
	old.wantSums(t, "carried back", 540211, 3000)
}
