package datapath

import (
	"errors"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"fairlead/loader"
	"fairlead/userspace/model"
)

// A snapshot is what a packet that stays on its way through the program may read
// at any time until it ends: what rows named when it began.
type snapshot struct{ rows }

func snapshotOf(r *rows) *snapshot {
	return &snapshot{rows{
		services: slices.Clone(r.services), backends: slices.Clone(r.backends), slots: slices.Clone(r.slots), snat: slices.Clone(r.snat),
	}}
}

// check fails if rows hold something of another owner where the packet reads.
func (s *snapshot) check(t *testing.T, step int, r *rows) {
	t.Helper()
	for i := range s.services {
		was := &s.services[i]
		if was.State == serviceNone {
			continue
		}
		if r.services[i].Gen != was.Gen {
			t.Fatalf("step %d: row of service %d has another owner", step, i)
		}
		for _, table := range [...]uint64{was.Slots, was.SlotsAll} {
			if !slices.Equal(r.at(table), s.at(table)) {
				t.Fatalf("step %d: table %#x of service %d was written to", step, table, i)
			}
		}
	}
	for i := range s.backends {
		was := &s.backends[i]
		if was.State == backendNone {
			continue
		}
		if r.backends[i].Gen != was.Gen {
			t.Fatalf("step %d: row of backend %d has another owner", step, i)
		}
		if !slices.Equal(r.sourcesAt(was.Sources), s.sourcesAt(was.Sources)) {
			t.Fatalf("step %d: sources of backend %d were written to", step, i)
		}
	}
}

// TestPacketsFindWhatTheyHaveSeen lets packets stay for some changes each.
func TestPacketsFindWhatTheyHaveSeen(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	r := empty(2048) // zones take many rows, which stay in limbo
	r.snat = make([]loader.Address, 2048)
	var packet *snapshot
	began := 0
	for step := range 1000 {
		w := randomWant(rng)
		w.Sources = map[netip.Addr][]netip.Addr{}
		for i := range w.Services {
			s := &w.Services[i]
			if rng.IntN(3) == 0 && s.Listen.Addr().Is4() {
				s.Forward = model.ForwardFullNAT
			}
			s.Backends[0].Address = netip.AddrPortFrom(s.Backends[0].Address.Addr(), uint16(8080+rng.IntN(3)))
			w.Sources[s.Backends[0].Address.Addr()] = addrs(byte(rng.IntN(8)), 1+rng.IntN(3))
		}
		p := mustPlan(t, r, w)
		f := r.freedBy(p)
		execute(t, r, p)
		r.limbo.next = append(r.limbo.next, f)
		switch {
		case packet != nil:
			packet.check(t, step, r)
			if rng.IntN(6) == 0 || step-began == 10 {
				packet, r.limbo = nil, limbo{}
			}
		default:
			packet, began, r.limbo = snapshotOf(r), step, limbo{}
		}
	}
}

func TestLimboLetsGoOfWhatWasFreedBeforeAWaitAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		waits := make(chan error)
		wait := func() error { return <-waits }
		l := limbo{}
		free := func(row uint32) {
			l.next = append(l.next, freed{backends: map[uint32]bool{row: true}})
			l.settle(wait)
		}
		wantHeld := func(what string, want ...uint32) {
			t.Helper()
			synctest.Wait()
			l.settle(wait)
			if got := slices.Sorted(maps.Keys(l.all().backends)); !slices.Equal(got, want) {
				t.Errorf("%s: limbo has rows %v, want %v", what, got, want)
			}
		}
		free(1)
		free(2)
		wantHeld("while the first wait lasts", 1, 2)
		waits <- nil
		wantHeld("after the first wait", 2)
		free(3)
		failed := errors.New("no memory")
		waits <- failed
		wantHeld("after a wait that failed", 2, 3)
		if w := (&Writer{rows: &rows{limbo: l}}); !errors.Is(w.Stuck(), failed) {
			t.Errorf("after a wait that failed, stuck: %v", w.Stuck())
		}
		waits <- nil
		wantHeld("after one more")
		if !l.empty() || l.ended != nil || l.stuck != nil {
			t.Errorf("limbo is %+v, want nothing, no wait and no error", l)
		}
	})
}

// replace gives the last backend of a service another address.
func replace(w *Want, n byte) {
	b := &w.Services[0].Backends[len(w.Services[0].Backends)-1]
	b.Address = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 9, 9, n}), 8080)
}

// TestChangesWaitForNoPackets has a packet that does not end before all changes
// are made.
func TestChangesWaitForNoPackets(t *testing.T) {
	w, err := New(sizedMaps(t, loader.Sizes{Backends: 64, Slots: 256}))
	if err != nil {
		t.Fatal(err)
	}
	end := make(chan struct{})
	w.wait = func() error {
		select {
		case <-end:
			return nil
		case <-time.After(time.Minute):
			return errors.New("a change waits")
		}
	}
	want := &Want{Services: []Service{service("a", 80, 1, 1)}}
	reconcile(t, w, want)
	packet := snapshotOf(w.rows)
	for n := range byte(8) {
		replace(want, n)
		reconcile(t, w, want)
		packet.check(t, int(n), w.rows)
	}
	close(end)
}

func TestFullMapsWaitForPackets(t *testing.T) {
	w, err := New(sizedMaps(t, loader.Sizes{Backends: 1}))
	if err != nil {
		t.Fatal(err)
	}
	began, end := make(chan struct{}), make(chan struct{})
	defer close(end)
	w.wait = func() error {
		close(began)
		<-end
		return nil
	}
	want := &Want{Services: []Service{service("a", 80, 1)}}
	change := func(n int) {
		want.Services[0].Backends[0].Address = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 9, byte(n >> 8), byte(n)}), 8080)
		reconcile(t, w, want)
	}
	change(0)
	change(1) // frees what the first one wrote
	<-began
	var waits atomic.Int64
	w.wait = func() error {
		waits.Add(1)
		return nil
	}
	changes := len(w.rows.backends) + 1
	for n := range changes {
		if change(2 + n); n == 0 && waits.Load() > 0 {
			t.Error("a change waited where there was room")
		}
	}
	if waits.Load() == 0 {
		t.Errorf("%d changes in %d rows waited for no packet", changes, len(w.rows.backends))
	}
	v, err := Read(w.maps)
	if err != nil {
		t.Fatal(err)
	}
	if b := v.Services[0].Backends; len(b) != 1 || b[0].Address != want.Services[0].Backends[0].Address.String() {
		t.Errorf("backends are %+v, want the last one", b)
	}
}

// TestWriterWaitsForPackets looks where a writer waits itself, and has flows check
// their backends: before it begins, before it deletes rules, and when it fails.
func TestWriterWaitsForPackets(t *testing.T) {
	m := newMaps(t)
	var waits, withRules atomic.Int64
	wait := func() error {
		waits.Add(1)
		var rule uint32
		if m.Clients.Lookup(loader.ClientPrefix{Len: 64, Addr: be32(netip.MustParseAddr("10.0.0.1"))}, &rule) == nil {
			withRules.Add(1)
		}
		return nil
	}
	epoch := m.ControlView().Epoch()
	wantChecks := func(when string) {
		t.Helper()
		now := m.ControlView().Epoch()
		if now == epoch {
			t.Errorf("no flow checks its backend %s", when)
		}
		epoch = now
	}
	w, err := newWriter(m, wait)
	if err != nil {
		t.Fatal(err)
	}
	if waits.Load() != 1 {
		t.Errorf("a new writer waited %d times, want once", waits.Load())
	}
	wantChecks("after a former writer")
	want := &Want{Services: []Service{service("a", 80, 1)}}
	want.Services[0].Clients.Deny = networks("10.0.0.0/8")
	reconcile(t, w, want)
	wantChecks("after settings and a plan")
	want.Services[0].Clients.Deny = nil
	reconcile(t, w, want)
	wantChecks("after a plan")
	if ended := w.rows.limbo.ended; ended != nil {
		<-ended // its wait is beside the writer's
	}
	if withRules.Load() != 1 {
		t.Errorf("%d waits while rules were there that are deleted, want one", withRules.Load())
	}

	if w, err = newWriter(m, wait); err != nil {
		t.Fatal(err)
	}
	wantChecks("after that")
	before := waits.Load()
	m.Devices.Close()
	want.Devices = map[uint32]Device{1: {}}
	if _, err := w.Reconcile(want); err == nil || waits.Load() != before+1 {
		t.Errorf("a plan that fails: error %v, %d waits, want one", err, waits.Load()-before)
	}
	wantChecks("after one that failed")
}
