package loader

import (
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/google/go-cmp/cmp"
)

func TestControlViewIsWhatTheProgramReads(t *testing.T) {
	b := newBench(t)
	b.attach(Options{Interfaces: []string{"d0"}}, nil)
	i := b.open()
	v := i.Control()
	if _, ok := v.SinceBeat(); ok {
		t.Error("a new instance has a heartbeat")
	}
	v.SetIdle(LBIdleIDLE_TCP_FIN, time.Minute)
	v.SetIdle(LBIdleIDLE_UDP_NEW, time.Nanosecond)
	v.SetReplyLimit(7)
	v.SetLossAfter(3 * time.Second)
	v.BumpEpoch()
	v.Beat()
	var got Control
	if err := i.Maps().Control.Lookup(uint32(0), &got); err != nil {
		t.Fatal(err)
	}
	hz, err := kernelHz()
	if err != nil {
		t.Fatal(err)
	}
	want := Control{
		Mode: uint32(ModeOn), Era: 1, Epoch: 1, Hz: hz, Idle: [5]uint32{2: 60 * hz, 3: 1},
		ReplyLimit: 7, Heartbeat: got.Heartbeat, LossAfter: 3e9, HashA: got.HashA, HashB: got.HashB, HashC: got.HashC, HashD: got.HashD, HashE: got.HashE,
	}
	if diff := cmp.Diff(want, got, ignoreLayout); diff != "" {
		t.Errorf("control (-want +got):\n%s", diff)
	}
	if age, ok := v.SinceBeat(); !ok || age < 0 || age > time.Minute {
		t.Errorf("SinceBeat = %v, %t", age, ok)
	}
	if got := v.Idle(LBIdleIDLE_TCP_FIN); got != time.Minute {
		t.Errorf("Idle = %v, want 1m", got)
	}
	switch hz {
	case 100, 250, 300, 1000:
	default:
		t.Errorf("hz = %d, which no kernel has", hz)
	}
}

func TestErasAreNeverSpecial(t *testing.T) {
	b := newBench(t)
	b.attach(Options{Interfaces: []string{"d0"}}, nil)
	i := b.open()
	if err := i.Maps().Control.Put(uint32(0), Control{Era: uint32(LBSpecialEraERA_LAST) - 1}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []LBSpecialEra{LBSpecialEraERA_LAST, LBSpecialEraERA_MIN, LBSpecialEraERA_MIN + 1} {
		i.SetMode(ModeOff)
		i.SetMode(ModeOn)
		if got := i.Control().Era(); got != uint32(want) {
			t.Errorf("era = %d, want %d", got, want)
		}
	}
}

func TestEvictionsAreSums(t *testing.T) {
	b := newBench(t)
	b.attach(Options{Interfaces: []string{"d0"}}, nil)
	m := b.open().Maps()
	each := make([]uint64, ebpf.MustPossibleCPU())
	for cpu := range each {
		each[cpu] = 3
	}
	if err := m.Evictions.Put(uint32(LBEvictionEVICT_SILENT), each); err != nil {
		t.Fatal(err)
	}
	got, err := m.ReadEvictions()
	if want := [Evictions]uint64{LBEvictionEVICT_SILENT: 3 * uint64(len(each))}; err != nil || got != want {
		t.Errorf("evictions = %v, %v, want %v", got, err, want)
	}
}

func TestViewsOutliveTheInstance(t *testing.T) {
	b := newBench(t)
	b.attach(Options{Interfaces: []string{"d0"}}, nil)
	i := b.openOnce()
	v, slots := i.Control(), i.Maps().SlotsView()
	if err := i.Close(); err != nil {
		t.Fatal(err)
	}
	v.SetReplyLimit(9)
	slots.Store(15, 5)
	if got := b.open().Control().ReplyLimit(); got != 9 {
		t.Errorf("reply limit = %d, want 9", got)
	}
	var row uint32
	if err := b.open().Maps().Slots.Lookup(uint32(15), &row); err != nil || row != 5 {
		t.Errorf("slot 15 = %d, %v, want 5", row, err)
	}
}

func TestReadStandbySeesEachEntryOnce(t *testing.T) {
	b := newBench(t)
	b.attach(Options{Interfaces: []string{"d0"}}, nil)
	m := b.open().Maps()
	const n = 10000
	for k := range uint32(n) {
		if err := m.Standby.Put(FlowKey{Saddr: k}, uint32(1)); err != nil {
			t.Fatal(err)
		}
	}
	seen := map[uint32]int{}
	if err := m.ReadStandby(func(k FlowKey) bool { seen[k.Saddr]++; return true }); err != nil {
		t.Fatal(err)
	}
	for k, times := range seen {
		if times != 1 {
			t.Errorf("entry %d was seen %d times", k, times)
		}
	}
	if len(seen) != n {
		t.Errorf("%d entries seen, want %d", len(seen), n)
	}
	calls := 0
	if err := m.ReadStandby(func(FlowKey) bool { calls++; return false }); err != nil || calls != 1 {
		t.Errorf("ReadStandby called %d times after false, %v", calls, err)
	}
	// Chunks smaller than a hash bucket must grow.
	small := 0
	if err := eachEntry(m.Standby, 1, func(FlowKey, uint32) bool { small++; return true }); err != nil || small != n {
		t.Errorf("in chunks of one: %d entries, %v, want %d", small, err, n)
	}
}

func TestMemory(t *testing.T) {
	b := newBench(t)
	b.attach(Options{Interfaces: []string{"d0"}, Sizes: Sizes{Flows: 1 << 15}}, nil)
	total, each, err := b.open().Maps().Memory()
	if err != nil {
		t.Fatal(err)
	}
	var sum uint64
	for _, m := range each {
		sum += m.Bytes
		if m.Bytes == 0 && m.Map != LBMapClients { // a trie takes memory for what is in it

			t.Errorf("map %s takes no memory", m.Map)
		}
		if m.Map == LBMapFlows && (m.Entries != 1<<14 || m.Bytes < 1<<14*768) {
			t.Errorf("flow table: %+v", m)
		}
	}
	if len(each) != len(b.mapIDs()) || sum != total {
		t.Errorf("%d maps with %d bytes, total %d", len(each), sum, total)
	}
}
