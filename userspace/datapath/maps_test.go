package datapath

import (
	"context"
	"net/netip"
	"path/filepath"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"fairlead/loader"
	"fairlead/testenv"
	"fairlead/testenv/leak"
	"fairlead/userspace/model"
)

// newMaps returns the maps of an instance that is attached to a host's loopback.
func newMaps(t *testing.T) *loader.Maps {
	t.Helper()
	return sizedMaps(t, loader.Sizes{})
}

// oneService returns maps that have a service and nothing else, and their present.
func oneService(t *testing.T) (*loader.Maps, moment) {
	t.Helper()
	maps := newMaps(t)
	w, err := New(maps)
	if err != nil {
		t.Fatal(err)
	}
	reconcile(t, w, &Want{Services: []Service{service("a", 80, 1)}})
	at, err := present(maps)
	if err != nil {
		t.Fatal(err)
	}
	return maps, at
}

func sizedMaps(t *testing.T, sizes loader.Sizes) *loader.Maps {
	t.Helper()
	_, inst := newInstance(t, sizes)
	return inst.Maps()
}

// newInstance returns one that is attached to a host's loopback.
func newInstance(t *testing.T, sizes loader.Sizes) (host *testenv.Host, inst *loader.Instance) {
	t.Helper()
	host = testenv.NewHost(t, "maps")
	dir := filepath.Join(testenv.BPFFS(t), "maps")
	host.Do(t, func() (err error) {
		inst, _, err = loader.Attach(t.Context(), dir, loader.Options{Interfaces: []string{"lo"}, Sizes: sizes})
		return err
	})
	t.Cleanup(func() {
		_ = inst.Close()
		leak.Note(t, dir)
		if err := loader.Detach(context.Background(), dir, nil); err != nil {
			t.Error(err)
		}
	})
	return host, inst
}

func reconcile(t *testing.T, w *Writer, want *Want) {
	t.Helper()
	if _, err := w.Reconcile(want); err != nil {
		t.Fatal(err)
	}
}

// wantForwarded wants the only service to have forwarded n packets.
func wantForwarded(t *testing.T, maps *loader.Maps, n uint64) {
	t.Helper()
	v, err := Read(maps)
	if err != nil {
		t.Fatal(err)
	}
	if len(v.Services) != 1 || v.Services[0].ForwardPackets != n {
		t.Errorf("services %+v, want one that forwarded %d packets", v.Services, n)
	}
}

func TestServiceKeepsItsCountWhileBackendsComeAndGo(t *testing.T) {
	maps := newMaps(t)
	w, err := New(maps)
	if err != nil {
		t.Fatal(err)
	}
	// Each backend is replaced by the next, and the third gets the row of the first.
	counted := uint64(0)
	want := &Want{Services: []Service{service("a", 80, 1)}}
	for i := range byte(3) {
		want.Services[0].Backends[0].Address = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 2, 9, i}), 8080)
		reconcile(t, w, want)
		wantForwarded(t, maps, counted)
		each := make([]loader.Counters, ebpf.MustPossibleCPU())
		each[0].Packets[0] = 10
		row := w.rows.at(w.rows.services[0].Slots)[0]
		if err := maps.BackendCounters.Put(row, each); err != nil {
			t.Fatal(err)
		}
		counted += 10
		wantForwarded(t, maps, counted)
	}
	reconcile(t, w, &Want{})
	if err := w.awaitPackets(); err != nil {
		t.Fatal(err)
	}
	reconcile(t, w, &Want{Services: []Service{service("b", 81, 1)}})
	wantForwarded(t, maps, 0)
	if w.rows.services[0].State == serviceNone {
		t.Error("the new service did not get the row of the former one")
	}
}

// An entry is what tells the entries of a test apart.
type entry struct {
	age, idle  uint32 // seconds
	era        uint32
	dir        loader.LBFlowDir
	state      loader.LBFlowState
	backendGen uint32
}

// putEntries puts entries into one bucket. The ports of their clients are 1, 2
// and so on.
func putEntries(t *testing.T, maps *loader.Maps, m moment, all ...entry) {
	t.Helper()
	var b loader.LBBucket
	for i, e := range all {
		b.Places[i] = loader.Flow{
			Key: loader.FlowKey{
				Saddr: be32(netip.MustParseAddr("10.1.1.2")), Sport: be16(uint16(i + 1)),
				Daddr: be32(netip.MustParseAddr("203.0.113.1")), Dport: be16(80), Proto: model.TCP.Number(),
			},
			Daddr: be32(netip.MustParseAddr("10.2.0.2")), Dport: be16(8080),
			Checked: m.now - e.age*m.hz, Epoch: m.epoch, Idle: e.idle * m.hz, ServiceGen: 1, BackendGen: e.backendGen,
		}
		b.Stamps[i] = loader.Stamp{Seen: m.now - e.age*m.hz, Era: uint8(e.era), Life: uint8(e.dir) | uint8(e.state)<<3}
	}
	if err := maps.Flows.Put(uint32(9), b); err != nil {
		t.Fatal(err)
	}
}

func TestFlowsThatCountAreSeenAndOthersCollected(t *testing.T) {
	maps, at := oneService(t)
	const answered, closed = loader.LBFlowStateFLOW_ANSWERED, loader.LBFlowStateFLOW_CLOSED
	putEntries(t, maps, at,
		entry{100, 1000, at.era, loader.LBFlowDirDIR_FORWARD, answered, 1},
		entry{100, 1000, at.era, loader.LBFlowDirDIR_REPLY, answered, 1},
		entry{1000, 100, at.era, loader.LBFlowDirDIR_FORWARD, answered, 1}, // silent for too long
		entry{100, 1000, at.era + 1, loader.LBFlowDirDIR_FORWARD, answered, 1},
		entry{100, 1000, at.era, loader.LBFlowDirDIR_FORWARD, closed, 1},
		entry{100, 1000, at.era, loader.LBFlowDirDIR_FORWARD, answered, 2}, // gone, but nobody has told it
		entry{1000, 100, uint32(loader.LBSpecialEraERA_BUSY), loader.LBFlowDirDIR_FORWARD, answered, 1},
		entry{100, 1000, at.era, loader.LBFlowDirDIR_FORWARD, loader.LBFlowStateFLOW_ABORTED_REPLY, 1},
	)
	var got []FlowView
	if err := Flows(maps, func(v FlowView) bool { got = append(got, v); return true }); err != nil {
		t.Fatal(err)
	}
	view := func(port uint16, state string) FlowView {
		return FlowView{
			Service: "a", Protocol: model.TCP, Client: netip.AddrPortFrom(netip.MustParseAddr("10.1.1.2"), port),
			Virtual: netip.MustParseAddrPort("203.0.113.1:80"), Backend: netip.MustParseAddrPort("10.2.0.2:8080"),
			State: state, Idle: 100, Left: 900,
		}
	}
	want := []FlowView{view(1, "answered"), view(5, "closed"), view(8, "aborted")}
	options := cmp.Options{cmpopts.EquateComparable(netip.AddrPort{}), cmpopts.EquateApprox(0, 60)} // a slow machine is one
	if diff := cmp.Diff(want, got, options); diff != "" {
		t.Errorf("flows (-want +got):\n%s", diff)
	}
	if v, err := ReadLive(maps); err != nil || v.Held != 4 || *v.Services[0].Live != 1 || *v.Services[0].Backends[0].Live != 1 {
		t.Errorf("ReadLive = %+v, %v, want 4 flows held and 1 that goes on", v, err)
	}
	for _, want := range []int{2, 0} { // the second time there is nothing to do
		if c, err := Collect(maps); err != nil || c.Live != 2 || c.Freed != want || c.Held != 5 {
			t.Errorf("Collect = %+v, %v, want 2 live, 5 held and %d freed", c, err, want)
		}
	}
}

func TestEntryIsExpiredWhenItsCheckIsDueOnly(t *testing.T) {
	at := moment{now: 50, era: 3, epoch: 7, hz: 100} // the clock has wrapped
	entry := func(era uint8, epoch, seen, checked, idle uint32) loader.Entry {
		return loader.Entry{
			Flow6: loader.Flow6{Epoch: epoch, Checked: checked, Idle: idle},
			Stamp: loader.Stamp{Era: era, Seen: seen},
		}
	}
	for _, test := range []struct {
		name    string
		entry   loader.Entry
		expired bool
	}{
		{"seen in time", entry(3, 7, 0, 0, 50), false},
		{"silent, and checked less than a second ago", entry(3, 7, 0, 0, 49), false},
		{"silent, and checked under another epoch", entry(3, 6, 0, 0, 49), true},
		{"silent, and checked a second ago", entry(3, 7, 0, 1<<32-50, 49), true},
		{"of another era", entry(2, 7, 50, 50, 49), true},
		{"seen by a CPU whose clock is ahead", entry(3, 6, 51, 51, 0), false},
	} {
		if got := at.expired(&test.entry); got != test.expired {
			t.Errorf("%s: expired = %t", test.name, got)
		}
	}
}
