package loader

import (
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/google/go-cmp/cmp"

	"fairlead/testenv"
)

// newFlowTable returns a flow table of 16 buckets, and its map.
func newFlowTable(t *testing.T) (*FlowTable, *ebpf.Map) {
	t.Helper()
	testenv.RequireRoot(t)
	spec, err := LoadLB()
	if err != nil {
		t.Fatal(err)
	}
	spec.Maps[LBMapFlows].MaxEntries = 16
	m, err := ebpf.NewMap(spec.Maps[LBMapFlows])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	table, err := OpenFlowTable(m)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := table.Close(); err != nil {
			t.Error(err)
		}
	})
	return table, m
}

func entryOf(n, era uint32) Flow { return Flow{Key: FlowKey{Saddr: n}, Seen: n, Era: era, Idle: n} }

func TestEachSeesEntriesOnly(t *testing.T) {
	table, m := newFlowTable(t)
	busy := uint32(LBSpecialEraERA_BUSY)
	for at, b := range map[uint32]LBBucket{
		0:  {Places: [8]LBFlow{entryOf(1, 1), entryOf(2, busy), entryOf(3, 0)}},
		15: {Tags: [8]uint32{5}, Lock: 1, Places: [8]LBFlow{6: entryOf(4, 2), 7: entryOf(5, 1)}},
	} {
		if err := m.Put(at, b); err != nil {
			t.Fatal(err)
		}
	}
	var got []Flow
	table.Each(func(e Entry) bool { got = append(got, e.Flow); return true })
	if diff := cmp.Diff([]Flow{entryOf(1, 1), entryOf(4, 2), entryOf(5, 1)}, got, ignoreLayout); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
	calls := 0
	table.Each(func(Entry) bool { calls++; return false })
	if calls != 1 {
		t.Errorf("Each called %d times after false", calls)
	}
	if n, err := countFlows(m); err != nil || n != 3 {
		t.Errorf("countFlows = %d, %v, want 3", n, err)
	}
}

func TestFreeTakesWhatHasNotChanged(t *testing.T) {
	table, m := newFlowTable(t)
	if err := m.Put(uint32(3), LBBucket{Tags: [8]uint32{9, 9, 9}, Places: [8]LBFlow{entryOf(1, 1), entryOf(2, 1), entryOf(3, 1)}}); err != nil {
		t.Fatal(err)
	}
	var all []Entry
	table.Each(func(e Entry) bool { all = append(all, e); return true })
	changed := LBBucket{Tags: [8]uint32{9, 9, 9}, Lock: 1, Places: [8]LBFlow{entryOf(1, 1), entryOf(2, 1), entryOf(3, 1)}}
	changed.Places[1].Seen++
	changed.Places[2].Era = uint32(LBSpecialEraERA_BUSY)
	if err := m.Put(uint32(3), changed); err != nil {
		t.Fatal(err)
	}
	var freed []bool
	for _, e := range all {
		freed = append(freed, table.Free(e))
	}
	if !slices.Equal(freed, []bool{true, false, false}) {
		t.Errorf("freed %v, want the first alone", freed)
	}
	if table.Free(all[0]) {
		t.Error("a place was freed twice")
	}
	var got LBBucket
	if err := m.Lookup(uint32(3), &got); err != nil {
		t.Fatal(err)
	}
	want := changed
	want.Places[0].Era = 0
	if diff := cmp.Diff(want, got, ignoreLayout); diff != "" {
		t.Errorf("bucket (-want +got):\n%s", diff)
	}
}

// TestEachIsNeverTorn reads while others give places to one entry after another,
// as the kernel does.
func TestEachIsNeverTorn(t *testing.T) {
	table, _ := newFlowTable(t)
	stop := make(chan struct{})
	var writers sync.WaitGroup
	defer writers.Wait()
	defer close(stop)
	for p := range 2 {
		writers.Go(func() {
			place := &table.buckets[1].Places[p]
			for n := uint32(1); ; n++ {
				select {
				case <-stop:
					return
				default:
					place.replace(entryOf(n, 1))
				}
			}
		})
	}
	for seen := 0; seen < 20_000; {
		table.Each(func(e Entry) bool {
			if seen++; e.Key.Saddr != e.Seen || e.Idle != e.Seen {
				t.Errorf("torn: %+v", e.Flow)
			}
			return !t.Failed()
		})
		if t.Failed() {
			return
		}
	}
}

// replace makes another entry of a place, in the kernel's order.
func (f *LBFlow) replace(e Flow) {
	busy := e
	busy.Era = uint32(LBSpecialEraERA_BUSY)
	atomic.StoreUint64(f.stamp(), stamp(busy.Seen, busy.Era))
	from, to := (*[flowWords]uint64)(unsafe.Pointer(&busy)), (*[flowWords]uint64)(unsafe.Pointer(f))
	for i := range from {
		atomic.StoreUint64(&to[i], from[i])
	}
	atomic.StoreUint64(f.stamp(), stamp(e.Seen, e.Era))
}

func TestOtherMapIsNoFlowTable(t *testing.T) {
	testenv.RequireRoot(t)
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.LRUHash, KeySize: 16, ValueSize: 80, MaxEntries: 16})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if table, err := OpenFlowTable(m); err == nil {
		t.Error("a hash was opened")
		_ = table.Close()
	}
	for k := range uint32(3) {
		if err := m.Put([16]byte{byte(k)}, make([]byte, 80)); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := countFlows(m); err != nil || n != 3 {
		t.Errorf("countFlows of an older table = %d, %v, want 3", n, err)
	}
}
