package loader

import (
	"errors"
	"testing"

	"github.com/cilium/ebpf"

	"fairlead/testenv"
)

// newCounting returns maps with flow tables of both families and one backend, in
// row 3, of the generation 7, whose service is in row 2, of the generation 4.
func newCounting(t *testing.T) *Maps {
	t.Helper()
	testenv.RequireRoot(t)
	m := &Maps{Flows: newFlows(t, LoadLB, LBMapFlows), Flows6: newFlows(t, LoadLB6, LB6MapFlows6)}
	for name, field := range map[string]**ebpf.Map{
		LBMapBackends: &m.Backends, LBMapBackendConns: &m.BackendConns, LBMapBackendCounters: &m.BackendCounters,
		LBMapServices: &m.Services, LBMapServiceConns: &m.ServiceConns,
	} {
		*field = newFlows(t, LoadLB, name)
	}
	if err := errors.Join(m.Backends.Put(uint32(3), Backend{Gen: 7, Service: 2}), m.Services.Put(uint32(2), Service{Gen: 4})); err != nil {
		t.Fatal(err)
	}
	return m
}

// connection returns a flow's entry of the backend in row 3.
func connection(gen uint32, dir LBFlowDir, state LBFlowState) standing {
	return standing{Flow{Backend: 3, BackendGen: gen, Service: 2, ServiceGen: 4}, Stamp{Seen: 5, Era: 1, Life: uint8(dir) | uint8(state)<<3}}
}

// fill puts five entries into the tables. Three are connections of the service, two
// of them of the backend.
func (m *Maps) fill(t *testing.T) {
	t.Helper()
	const forward, established = LBFlowDirDIR_FORWARD, LBFlowStateFLOW_ESTABLISHED
	six := LB6Bucket{}
	six.Places[2] = Flow6{Backend: 3, BackendGen: 7, Service: 2, ServiceGen: 4}
	six.Stamps[2] = Stamp{Era: 9}
	if err := errors.Join(
		m.Flows.Put(uint32(1), bucketOf(connection(7, forward, established), connection(7, LBFlowDirDIR_REPLY, established))),
		m.Flows.Put(uint32(2), bucketOf(connection(7, forward, LBFlowStateFLOW_CLOSED), connection(6, forward, established))),
		m.Flows6.Put(uint32(1), six),
	); err != nil {
		t.Fatal(err)
	}
}

func (m *Maps) wantConnections(t *testing.T, backend, service uint32) {
	t.Helper()
	var got [2]Connections
	if err := errors.Join(m.BackendConns.Lookup(uint32(3), &got[0]), m.ServiceConns.Lookup(uint32(2), &got[1])); err != nil {
		t.Fatal(err)
	}
	if want := [2]Connections{{Gen: 7, Count: backend}, {Gen: 4, Count: service}}; got != want {
		t.Errorf("connections are %+v, want %+v", got, want)
	}
}

func TestConnectionsAreRepaired(t *testing.T) {
	m := newCounting(t)
	m.fill(t)
	for _, was := range []Connections{{}, {Gen: 6, Count: 5}, {Gen: 7}, {Gen: 7, Count: 3}, {Gen: 7, Count: 1000}} {
		if err := m.BackendConns.Put(uint32(3), was); err != nil {
			t.Fatal(err)
		}
		if err := m.ServiceConns.Put(uint32(2), Connections{Gen: 4}); err != nil {
			t.Fatal(err)
		}
		for _, wrong := range []int{2, 0} {
			if n, err := m.RepairConnections(); n != wrong || err != nil {
				t.Errorf("%+v: repaired %d, %v, want %d", was, n, err, wrong)
			}
		}
		m.wantConnections(t, 2, 3)
	}
}

func TestWhoFreesAConnectionCountsIt(t *testing.T) {
	m := newCounting(t)
	m.fill(t)
	if n, err := m.RepairConnections(); n != 2 || err != nil {
		t.Fatalf("repaired %d, %v, want 2", n, err)
	}
	table, err := m.FlowTable()
	if err != nil {
		t.Fatal(err)
	}
	defer table.Close()
	for e := range table.Each {
		if freed, again := table.Free(e), table.Free(e); !freed || again {
			t.Errorf("%+v was freed: %t, and again: %t", e.Stamp, freed, again)
		}
	}
	m.wantConnections(t, 0, 0)
}

// TestRepairKeepsWhatChanges has rows that change while the table is read.
func TestRepairKeepsWhatChanges(t *testing.T) {
	of := func(gen, count uint32) Connections { return Connections{Gen: gen, Count: count} }
	for _, row := range []struct {
		name        string
		before, now Connections
		made        uint64
		found       uint32
		want        Connections
		wrong       bool
	}{
		{name: "quiet and right", before: of(7, 5), now: of(7, 5), found: 5, want: of(7, 5)},
		{name: "quiet and wrong", before: of(7, 6), now: of(7, 6), found: 5, want: of(7, 5), wrong: true},
		{name: "one made, seen", before: of(7, 5), now: of(7, 6), made: 1, found: 6, want: of(7, 6)},
		{name: "one made, not seen", before: of(7, 5), now: of(7, 6), made: 1, found: 5, want: of(7, 6)},
		{name: "one ended, seen", before: of(7, 5), now: of(7, 4), found: 5, want: of(7, 4)},
		{name: "one made, one ended", before: of(7, 5), now: of(7, 5), made: 1, found: 6, want: of(7, 5)},
		{name: "wrong by more than what changed", before: of(7, 90), now: of(7, 91), made: 1, found: 5, want: of(7, 5), wrong: true},
		{name: "a new owner", before: of(6, 9), now: of(7, 1), made: 1, found: 0, want: of(7, 1)},
		{name: "nobody has counted yet", before: of(6, 9), now: of(6, 9), found: 3, want: of(7, 3), wrong: true},
	} {
		c := connections{rows: []uint64{row.now.word()}}
		wrong := c.repair(0, 7, row.before, row.made, row.found)
		if got := c.load(0); got != row.want || wrong != row.wrong {
			t.Errorf("%s: %+v, wrong %t, want %+v, %t", row.name, got, wrong, row.want, row.wrong)
		}
	}
}
