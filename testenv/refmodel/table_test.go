package refmodel

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestHome(t *testing.T) {
	key := Tuple{Src: client, Dst: vip, SPort: 40000, DPort: 80, Proto: TCP}
	type home struct {
		tag           uint16
		first, second uint32
	}
	for _, test := range []struct {
		name    string
		a, b    uint64
		buckets int
		want    home
	}{
		// 0x0a7100cb_076433c6 + 0x6_5000409c is 0x0a7100d1_57647462,
		// and 0x57647462 xor 0x0a7100d1 is 0x5d1574b3.
		{"no factors", 1, 1, 256, home{0x5d15, 0x0a, 0x0a + 0x15}},
		{"two factors", 0x9e3779b97f4a7c15, 0xc2b2ae3d27d4eb4f, 32, home{0xaf0b, 5, 16}},
		{"two buckets", 0x9e3779b97f4a7c15, 0xc2b2ae3d27d4eb4f, 2, home{0xaf0b, 0, 1}},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := &Model{Control: Control{HashA: test.a, HashB: test.b}, Flows: make(Table, test.buckets)}
			var got home
			got.tag, got.first, got.second = m.Home(key)
			if got != test.want {
				t.Errorf("home is %#x, want %#x", got, test.want)
			}
		})
	}
}

// crowd is a model whose keys all have the same two buckets.
func crowd() *Model {
	return &Model{
		Control: Control{Era: 1, Epoch: 1, Hz: 10, HashA: 1, HashB: 1}, Now: 10000,
		Flows: make(Table, 4),
	}
}

// member is an established entry that was just used. Its port does not reach
// the tag.
func member(m *Model, port int) Flow {
	return Flow{
		Key:   Tuple{Src: client, Dst: vip, SPort: uint16(port), DPort: 80, Proto: TCP},
		State: FlowEstablished, Seen: m.Now, Checked: m.Now, Idle: 100_000, Era: 1, Epoch: 1,
	}
}

// fullCrowd has entries with ports from 0 in all 16 places, in order.
func fullCrowd(t *testing.T) *Model {
	t.Helper()
	m := crowd()
	for i := range 2 * bucketPlaces {
		if got := m.put(member(m, i)); got != made {
			t.Fatalf("insertion %d: %d", i, got)
		}
	}
	return m
}

// ports are those of the entries in a key's places, in order; -1 if it is free.
func ports(m *Model) []int {
	var ps []int
	for _, place := range m.places(member(m, 0).Key) {
		port := -1
		if *place != nil {
			port = int((*place).Key.SPort)
		}
		ps = append(ps, port)
	}
	return ps
}

func TestOrderOfPlaces(t *testing.T) {
	m := fullCrowd(t)
	_, first, second := m.Home(member(m, 0).Key)
	for i := range 2 * bucketPlaces {
		bucket := map[bool]uint32{true: first, false: second}[i < bucketPlaces]
		if f := m.Flows[bucket][i%bucketPlaces]; f == nil || f.Key.SPort != uint16(i) {
			t.Errorf("entry %d stands elsewhere", i)
		}
	}
	if got := m.put(member(m, 100)); got != full {
		t.Errorf("insertion into a full table: %d", got)
	}
	for _, port := range []int{12, 3, 5} {
		m.Remove(member(m, port).Key)
	}
	for port := 20; port < 23; port++ {
		if got := m.put(member(m, port)); got != made {
			t.Errorf("insertion into a free place: %d", got)
		}
	}
	want := []int{0, 1, 2, 20, 4, 21, 6, 7, 8, 9, 10, 11, 22, 13, 14, 15}
	if diff := cmp.Diff(want, ports(m)); diff != "" {
		t.Errorf("ports (-want +got):\n%s", diff)
	}
	if m.Find(member(m, 22).Key) != m.Flows[second][4] || m.Find(member(m, 3).Key) != nil {
		t.Error("an entry is not found, or one that was removed is")
	}
	if m.Evictions != [EvictMax]uint64{} {
		t.Errorf("evictions: %v", m.Evictions)
	}
}

func TestInsertWhatExists(t *testing.T) {
	m := crowd()
	f := member(m, 1)
	f.Era = 9 // it need not count
	m.put(f)
	if got := m.put(member(m, 1)); got != exists {
		t.Errorf("insertion: %d, want exists", got)
	}
	if got := m.Find(f.Key); *got != f {
		t.Errorf("the entry was changed: %+v", got)
	}
}

func TestEviction(t *testing.T) {
	state := func(state uint8, age uint32) func(*Model, *Flow) {
		return func(m *Model, f *Flow) { f.State, f.Seen = state, m.Now-age }
	}
	// long is silence for longer than the time-out of 100 ticks; the check is
	// due after 10.
	long := func(state uint8, age, checked uint32) func(*Model, *Flow) {
		return func(m *Model, f *Flow) { f.State, f.Seen, f.Checked, f.Idle = state, m.Now-age, m.Now-checked, 100 }
	}
	era := func(_ *Model, f *Flow) { f.Era = 2 }
	for _, test := range []struct {
		name  string
		edits edits
		want  int
		count [EvictMax]uint64
	}{
		{"all in use", nil, none, [EvictMax]uint64{}},
		{"one of another era", edits{4: state(FlowNew, 9), 9: era}, 9, [EvictMax]uint64{}},
		{"the first of two of other eras", edits{9: era, 11: era}, 9, [EvictMax]uint64{}},
		{"one in use that was silent for too long", edits{9: long(FlowEstablished, 101, 10)}, none, [EvictMax]uint64{}},
		{"one in use that was silent for a minute, too long", edits{9: long(FlowEstablished, 600, 10)}, 9, [EvictMax]uint64{}},
		{"the same, but not due", edits{9: long(FlowEstablished, 600, 9)}, 9, [EvictMax]uint64{EvictSilent: 1}},
		{"new, silent for too long", edits{9: long(FlowNew, 101, 10)}, 9, [EvictMax]uint64{}},
		{"the same, but not due", edits{9: long(FlowNew, 101, 9)}, 9, [EvictMax]uint64{EvictUnanswered: 1}},
		{"older though it counts", edits{8: state(FlowNew, 102), 9: long(FlowNew, 101, 10)}, 8, [EvictMax]uint64{EvictUnanswered: 1}},
		{"new, this tick", edits{2: state(FlowNew, 0)}, none, [EvictMax]uint64{}},
		{"new, a tick ahead", edits{2: func(m *Model, f *Flow) { f.State, f.Seen = FlowNew, m.Now+1 }}, none, [EvictMax]uint64{}},
		{"new, a tick ago", edits{2: state(FlowNew, 1)}, 2, [EvictMax]uint64{EvictUnanswered: 1}},
		{"answered", edits{2: state(FlowAnswered, 1)}, 2, [EvictMax]uint64{EvictUnanswered: 1}},
		{"closed", edits{2: state(FlowClosed, 1)}, 2, [EvictMax]uint64{EvictEnded: 1}},
		{"aborted by the client", edits{2: state(FlowAbortedForward, 1)}, 2, [EvictMax]uint64{EvictEnded: 1}},
		{"aborted by the backend", edits{2: state(FlowAbortedReply, 1)}, 2, [EvictMax]uint64{EvictEnded: 1}},
		{"ended", edits{2: state(FlowReset, 1)}, 2, [EvictMax]uint64{EvictEnded: 1}},
		{"the oldest of these", edits{2: state(FlowNew, 3), 5: state(FlowAnswered, 4), 11: state(FlowReset, 5), 12: state(FlowClosed, 4)}, 11, [EvictMax]uint64{EvictEnded: 1}},
		{"the first of the oldest", edits{2: state(FlowNew, 4), 5: state(FlowReset, 5), 11: state(FlowAnswered, 5)}, 5, [EvictMax]uint64{EvictEnded: 1}},
		{"silent for less than a minute", edits{2: state(FlowEstablished, 599), 3: state(FlowFin, 599)}, none, [EvictMax]uint64{}},
		{"silent for a minute", edits{3: state(FlowEstablished, 600)}, 3, [EvictMax]uint64{EvictSilent: 1}},
		{"one FIN only", edits{13: state(FlowFin, 600)}, 13, [EvictMax]uint64{EvictSilent: 1}},
		{"the longest silence", edits{3: state(FlowFin, 600), 8: state(FlowEstablished, 700), 9: state(FlowFin, 700)}, 8, [EvictMax]uint64{EvictSilent: 1}},
		{"one that is over before one that is silent", edits{3: state(FlowEstablished, 5000), 8: state(FlowClosed, 1)}, 8, [EvictMax]uint64{EvictEnded: 1}},
	} {
		t.Run(test.name, func(t *testing.T) {
			checkEviction(t, test.edits, test.want, test.count)
		})
	}
}

// edits are those of entries, by place.
type edits map[int]func(m *Model, f *Flow)

// none is no place.
const none = -1

// checkEviction inserts an entry into a full table, and looks for it in the
// place want.
func checkEviction(t *testing.T, es edits, want int, count [EvictMax]uint64) {
	t.Helper()
	m := fullCrowd(t)
	all := ports(m)
	for port, edit := range es {
		edit(m, m.Find(member(m, port).Key))
	}
	got := m.put(member(m, 100))
	if (got == made) != (want != none) || got == exists {
		t.Errorf("insertion: %d", got)
	}
	if want != none {
		all[want] = 100
	}
	if diff := cmp.Diff(all, ports(m)); diff != "" {
		t.Errorf("ports (-want +got):\n%s", diff)
	}
	if m.Evictions != count {
		t.Errorf("evictions are %v, want %v", m.Evictions, count)
	}
}

func TestRivalTakesAPlace(t *testing.T) {
	m := fullCrowd(t)
	f := member(m, 100)
	m.Rivals = map[Tuple]Flow{f.Key: f}
	if got := m.insert(f); got != full || m.Find(f.Key) != nil {
		t.Errorf("insertion: %d, want full, without the rival", got)
	}
	m.Find(member(m, 7).Key).State = FlowClosed
	m.Find(member(m, 7).Key).Seen--
	if got := m.insert(f); got != exists || m.Evictions[EvictEnded] != 1 {
		t.Errorf("insertion: %d, evictions %v; want exists, for the rival evicted one", got, m.Evictions)
	}
	f.Backend = 5
	m.Rivals[f.Key] = f
	if got := m.insert(f); got != exists || *m.Find(f.Key) != f || m.Evictions[EvictEnded] != 1 {
		t.Errorf("insertion: %d, want exists, for the rival took the place of the other", got)
	}
}

// TestTwinTakesAnotherPlace has a table with room for nothing but what is
// evicted, and an entry that would be first.
func TestTwinTakesAnotherPlace(t *testing.T) {
	m := newModel()
	m.Flows = make(Table, 2)
	pass(t, m, syn, synOut, ForwardRedirect)
	m.Remove(tcpRev)
	for port := range 2*bucketPlaces - 1 {
		m.put(member(m, port))
	}
	m.Now += 250
	pass(t, m, syn, synOut, ForwardRedirect)
	if m.Find(tcpKey) == nil || m.Find(tcpRev) != nil || m.Evictions != [EvictMax]uint64{} {
		t.Errorf("the entry was evicted for its own twin: %v", m.Evictions)
	}
	m.Find(member(m, 3).Key).State = FlowClosed
	m.Control.Epoch++
	pass(t, m, syn, synOut, ForwardRedirect)
	if m.Find(tcpKey) == nil || m.Find(tcpRev) == nil || m.Evictions[EvictEnded] != 1 {
		t.Errorf("no twin was made again: %v", m.Evictions)
	}
}

func TestTableFull(t *testing.T) {
	for _, test := range []struct {
		name string
		room int
	}{{"no room", 0}, {"room for one of the two", 1}} {
		t.Run(test.name, func(t *testing.T) {
			m := newModel()
			m.Flows = make(Table, 2)
			m.Services[1].Slots.Length = 1
			for port := range 2*bucketPlaces - test.room {
				m.put(member(m, port))
			}
			pass(t, m, syn, "", DropTableFull)
			if n := len(m.entries()); n != 2*bucketPlaces-test.room || m.Turns[1] != 1 {
				t.Errorf("%d entries and turn %d", n, m.Turns[1])
			}
		})
	}
}
