package loader

import (
	"errors"
	"net/netip"
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
	m := newFlows(t, LoadLB, LBMapFlows)
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

// newFlows returns a map of an object with 16 buckets.
func newFlows(t *testing.T, load func() (*ebpf.CollectionSpec, error), name string) *ebpf.Map {
	t.Helper()
	spec, err := load()
	if err != nil {
		t.Fatal(err)
	}
	spec.Maps[name].MaxEntries = 16
	m, err := ebpf.NewMap(spec.Maps[name])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	return m
}

// A standing is an entry and its stamp.
type standing struct {
	Flow  Flow
	Stamp Stamp
}

// standingOf returns an entry that can be told from others by n.
func standingOf(n uint32, era uint8) standing {
	return standing{Flow{Key: FlowKey{Saddr: n}, Idle: n}, Stamp{Seen: n, Tag: 5, Era: era, Life: 1 | 4<<3}}
}

// bucketOf returns a bucket with entries in its first places.
func bucketOf(all ...standing) (b LBBucket) {
	for i, s := range all {
		b.Places[i], b.Stamps[i] = s.Flow, s.Stamp
	}
	return b
}

func TestEachSeesEntriesOnly(t *testing.T) {
	table, m := newFlowTable(t)
	busy := uint8(LBSpecialEraERA_BUSY)
	full := make([]standing, 8)
	for i := range full {
		full[i] = standingOf(uint32(10+i), uint8(1+i%2))
	}
	for at, b := range map[uint32]LBBucket{
		0:  bucketOf(standingOf(1, 1), standingOf(2, busy), standingOf(3, 0), standingOf(4, 254)),
		15: bucketOf(full...),
	} {
		if err := m.Put(at, b); err != nil {
			t.Fatal(err)
		}
	}
	var got, want []Entry
	table.Each(func(e Entry) bool {
		e.at = nil
		got = append(got, e)
		return true
	})
	for _, s := range append([]standing{standingOf(1, 1), standingOf(4, 254)}, full...) {
		want = append(want, Entry{Flow6: widened(&s.Flow), Stamp: s.Stamp})
	}
	if diff := cmp.Diff(want, got, ignoreLayout); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
	if s := &got[0].Stamp; s.Dir() != LBFlowDirDIR_REPLY || s.State() != LBFlowStateFLOW_CLOSED {
		t.Errorf("direction %d, state %d, want those of a closed flow's reply", s.Dir(), s.State())
	}
	calls := 0
	table.Each(func(Entry) bool { calls++; return false })
	if calls != 1 {
		t.Errorf("Each called %d times after false", calls)
	}
	if n, err := countFlows(m); err != nil || n != 10 {
		t.Errorf("countFlows = %d, %v, want 10", n, err)
	}
}

func TestFreeTakesWhatHasNotChanged(t *testing.T) {
	table, m := newFlowTable(t)
	b := bucketOf(standingOf(1, 1), standingOf(2, 1), standingOf(3, 1), standingOf(4, 1))
	if err := m.Put(uint32(3), b); err != nil {
		t.Fatal(err)
	}
	var all []Entry
	table.Each(func(e Entry) bool { all = append(all, e); return true })
	b.Stamps[1].Seen++
	b.Stamps[2].Era = uint8(LBSpecialEraERA_BUSY)
	b.Stamps[3].Life++
	if err := m.Put(uint32(3), b); err != nil {
		t.Fatal(err)
	}
	var freed []bool
	for _, e := range all {
		freed = append(freed, table.Free(e))
	}
	if !slices.Equal(freed, []bool{true, false, false, false}) {
		t.Errorf("freed %v, want the first alone", freed)
	}
	if table.Free(all[0]) {
		t.Error("a place was freed twice")
	}
	var got LBBucket
	if err := m.Lookup(uint32(3), &got); err != nil {
		t.Fatal(err)
	}
	b.Stamps[0].Era = 0
	if diff := cmp.Diff(b, got, ignoreLayout); diff != "" {
		t.Errorf("bucket (-want +got):\n%s", diff)
	}
}

func TestEndLeavesWhatHasChanged(t *testing.T) {
	table, m := newFlowTable(t)
	b := bucketOf(standingOf(1, 1), standingOf(2, 1))
	b.Stamps[0].Life = 1 | 3<<1 | uint8(LBFlowStateFLOW_ESTABLISHED)<<3 | 1<<6
	if err := m.Put(uint32(3), b); err != nil {
		t.Fatal(err)
	}
	var all []Entry
	table.Each(func(e Entry) bool { all = append(all, e); return true })
	b.Stamps[1].Seen++
	if err := m.Put(uint32(3), b); err != nil {
		t.Fatal(err)
	}
	if !table.End(all[0]) || table.End(all[1]) {
		t.Error("want the first ended alone")
	}
	var got LBBucket
	if err := m.Lookup(uint32(3), &got); err != nil {
		t.Fatal(err)
	}
	b.Stamps[0].Life = 1 | 3<<1 | uint8(LBFlowStateFLOW_RESET)<<3 | 1<<6
	if diff := cmp.Diff(b, got, ignoreLayout); diff != "" {
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
			for n := uint32(1); ; n++ {
				select {
				case <-stop:
					return
				default:
					table.parts[0].replace(bucketPlaces+p, standingOf(n, 1))
				}
			}
		})
	}
	for seen := 0; seen < 20_000; {
		table.Each(func(e Entry) bool {
			if seen++; e.Key.Saddr.Word[3] != e.Seen || e.Idle != e.Seen {
				t.Errorf("torn: %+v", e)
			}
			return !t.Failed()
		})
		if t.Failed() {
			return
		}
	}
}

// replace puts another entry into a place, in the kernel's order.
func (p *tablePart) replace(place int, s standing) {
	at, to := p.place(place)
	busy := Stamp{Era: uint8(LBSpecialEraERA_BUSY)}
	atomic.StoreUint64(at, busy.word())
	from := unsafe.Slice((*uint64)(unsafe.Pointer(&s.Flow)), len(to))
	for i := range from {
		atomic.StoreUint64(&to[i], from[i])
	}
	atomic.StoreUint64(at, s.Stamp.word())
}

// TestTableOfBothFamilies finds and frees entries of either.
func TestTableOfBothFamilies(t *testing.T) {
	_, flows := newFlowTable(t)
	flows6 := newFlows(t, LoadLB6, LB6MapFlows6)
	four, six := bucketOf(standingOf(1, 1)), LB6Bucket{}
	client := netip.MustParseAddr("2001:db8::7")
	six.Places[7] = Flow6{Key: FlowKey6{Saddr: AddressOf(client), Dport: 80}, Daddr: AddressOf(client), Backend: 9, Place: 7}
	six.Stamps[7] = Stamp{Seen: 2, Era: 1}
	if err := errors.Join(flows.Put(uint32(2), four), flows6.Put(uint32(15), six)); err != nil {
		t.Fatal(err)
	}
	table, err := (&Maps{Flows: flows, Flows6: flows6}).FlowTable()
	if err != nil {
		t.Fatal(err)
	}
	defer table.Close()
	var all []Entry
	table.Each(func(e Entry) bool { all = append(all, e); return true })
	if len(all) != 2 || Address(all[1].Key.Saddr).Addr() != client {
		t.Fatalf("entries are %+v, want one of each family", all)
	}
	if got := Address(all[0].Key.Saddr).Addr(); !got.Is4() {
		t.Errorf("the client of IPv4 is %v", got)
	}
	if diff := cmp.Diff(six.Places[7], all[1].Flow6, ignoreLayout); diff != "" {
		t.Errorf("entry of IPv6 (-want +got):\n%s", diff)
	}
	if !table.Free(all[0]) || !table.Free(all[1]) {
		t.Error("they cannot be freed")
	}
	if n, err := countFlows(flows6); err != nil || n != 0 {
		t.Errorf("%d entries of IPv6 are left, %v", n, err)
	}
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
