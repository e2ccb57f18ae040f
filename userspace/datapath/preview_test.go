package datapath

import (
	"errors"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"

	"fairlead/loader"
	"fairlead/userspace/model"
)

// TestPreviewIsWhatReconcileDoes makes random plans, carries each out in both
// ways and compares.
func TestPreviewIsWhatReconcileDoes(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	r := empty(64)
	for step := range 1000 {
		want := randomWant(rng)
		w := &Writer{rows: r}
		c, err := w.Preview(want, nil)
		if err != nil {
			t.Fatal(err)
		}
		p := mustPlan(t, r, want)
		then := r.after(p)
		if c.Writes != p.writes() {
			t.Fatalf("step %d: %d writes, want %d", step, c.Writes, p.writes())
		}
		execute(t, r, p)
		if !reflect.DeepEqual(r, then) {
			t.Fatalf("step %d: rows %+v, foreseen %+v", step, r, then)
		}
		c, err = w.Preview(want, nil)
		if err != nil || c.Writes != 0 || len(c.Services)+len(c.Devices) != 0 || c.Slots.Moved != 0 {
			t.Fatalf("step %d: afterwards %+v, %v, want no changes", step, c, err)
		}
	}
}

// before is what the maps hold before each row of previews.
func before() *Want {
	return &Want{Services: []Service{service("a", 80, 1, 1), service("b", 81, 1)}, Devices: map[uint32]Device{2: {}, 3: {}}}
}

// The first and the second backend of a service.
const first, second = "10.2.0.2:8080", "10.2.1.2:8080"

// changeOfA returns the change of service a alone.
func changeOfA(fields []FieldChange, backends []BackendChange, slots SlotShare) []ServiceChange {
	return []ServiceChange{{
		Name: "a", Listen: "203.0.113.1:80", Protocol: "tcp", Change: Changed, Slots: slots,
		Fields: append([]FieldChange{}, fields...), Backends: append([]BackendChange{}, backends...),
	}}
}

var previews = []struct {
	name string
	edit func(w *Want)
	want []ServiceChange
}{
	{"nothing", func(*Want) {}, []ServiceChange{}},
	{
		"a weight", func(w *Want) { w.Services[0].Backends[1].Weight = 3 },
		changeOfA([]FieldChange{{"slots", "2", "4"}}, []BackendChange{{second, Changed, 3, []FieldChange{{"weight", "1", "3"}}, 0, 0}}, SlotShare{2, 0.5}),
	},
	{
		"a backend goes", func(w *Want) { w.Services[0].Backends = w.Services[0].Backends[1:] },
		changeOfA([]FieldChange{{"slots", "2", "1"}}, []BackendChange{{first, Removed, 1, []FieldChange{}, 0, 0}}, SlotShare{2, 1}),
	},
	{
		"backends in another order", func(w *Want) { b := w.Services[0].Backends; b[0], b[1] = b[1], b[0] },
		changeOfA([]FieldChange{{"slots", "2", "2, others or in another order"}}, nil, SlotShare{2, 0}),
	},
	{
		"a new name", func(w *Want) { w.Services[0].Name = "c" },
		[]ServiceChange{{
			"c", "203.0.113.1:80", "tcp", Changed, []FieldChange{{"name", "a", "c"}}, []BackendChange{}, FlowShare{}, SlotShare{2, 0},
		}},
	},
	{
		"what a service is like", func(w *Want) {
			s := &w.Services[0]
			s.OnDown, s.Local, s.Proxy, s.Clients.Limit = model.DownKeep, true, true, model.Limit{Rate: 10, Burst: 20, Prefix: 24}
			s.Clients.Deny, s.CookieAbove = networks("10.9.0.0/16"), 5
		},
		changeOfA([]FieldChange{
			{"rung", "xdp", "proxy"},
			{"local", "false", "true"},
			{"on-down", "reset", "keep"},
			{"clients.limit", "none", "10/s of a /24, burst 20"},
			{"syn-cookies", "none", "above 5/s, none for now"},
			{"clients", "0 rules", "2 new or changed, 0 gone"},
		}, nil, SlotShare{2, 0}),
	},
	{
		"a service goes", func(w *Want) { w.Services = w.Services[1:] },
		[]ServiceChange{{
			"a", "203.0.113.1:80", "tcp", Removed, []FieldChange{},
			[]BackendChange{{first, Removed, 1, []FieldChange{}, 0, 0}, {second, Removed, 1, []FieldChange{}, 0, 0}}, FlowShare{}, SlotShare{2, 2},
		}},
	},
	{
		"a service comes", func(w *Want) { w.Services = append(w.Services, service("c", 90, 5)) },
		[]ServiceChange{{
			"c", "203.0.113.1:90", "tcp", Added, []FieldChange{}, []BackendChange{{first, Added, 5, []FieldChange{}, 0, 0}}, FlowShare{}, SlotShare{},
		}},
	},
}

func TestWhatAPreviewSays(t *testing.T) {
	for _, test := range previews {
		r := empty(4)
		execute(t, r, mustPlan(t, r, before()))
		want := before()
		test.edit(want)
		c, err := (&Writer{rows: r}).Preview(want, nil)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(test.want, c.Services); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, diff)
		}
	}
}

func TestPreviewCountsOnMapsThatGrow(t *testing.T) {
	w, err := Look(nil)
	if err != nil {
		t.Fatal(err)
	}
	want := &Want{Services: []Service{service("a", 80, 1, 1)}, Devices: map[uint32]Device{2: {}}}
	if _, err := w.Preview(want, nil); !errors.Is(err, ErrFull) {
		t.Errorf("no maps: error %v, want ErrFull", err)
	}
	c, err := w.Preview(want, []loader.Growth{{Map: "services", To: 2}, {Map: "backends", To: 2}, {Map: "slots", To: 2}, {Map: "snat", To: 1}})
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Services) != 1 || c.Services[0].Change != Added || len(c.Services[0].Backends) != 2 {
		t.Errorf("services %+v, want one more with two backends", c.Services)
	}
	if diff := cmp.Diff([]DeviceChange{{Ifindex: 2, Change: Added}}, c.Devices); diff != "" {
		t.Errorf("devices (-want +got):\n%s", diff)
	}
}

// TestPreviewOfAnInstance wants a preview to tell what becomes of flows and
// settings, to count what Reconcile then writes, and to write nothing itself.
func TestPreviewOfAnInstance(t *testing.T) {
	maps := newMaps(t)
	w, err := New(maps)
	if err != nil {
		t.Fatal(err)
	}
	want := &Want{Services: []Service{service("a", 80, 1)}}
	reconcile(t, w, want)
	at, err := present(maps)
	if err != nil {
		t.Fatal(err)
	}
	const answered, closed = loader.LBFlowStateFLOW_ANSWERED, loader.LBFlowStateFLOW_CLOSED
	const there, back = loader.LBFlowDirDIR_FORWARD, loader.LBFlowDirDIR_REPLY
	putEntries(t, maps, at,
		entry{100, 1000, at.era, there, answered, 1}, entry{100, 1000, at.era, back, answered, 1},
		entry{100, 1000, at.era, there, closed, 1}, entry{100, 1000, at.era, there, answered, 1})
	epoch := maps.ControlView().Epoch()
	want.Services[0].Backends[0].Address = service("", 1, 1, 1).Backends[1].Address
	want.ReplyLimit, want.LossAfter, want.Idle.TCPFin = 7, LossAfter, 5e9
	looking, err := Look(maps)
	if err != nil {
		t.Fatal(err)
	}
	c, err := looking.Preview(want, nil)
	if err != nil {
		t.Fatal(err)
	}
	if want := (FlowShare{Live: 2, Ended: 2}); c.Flows != want || c.Services[0].Flows != want {
		t.Errorf("flows %+v and %+v, want %+v", c.Flows, c.Services[0].Flows, want)
	}
	settings := []FieldChange{
		{"reply-limit", "1000", "7"}, {"timeouts.tcp-fin", "1m0s", "5s"}, {"on-agent-loss", "keep", "all-up"},
	}
	if diff := cmp.Diff(settings, c.Settings); diff != "" {
		t.Errorf("settings (-want +got):\n%s", diff)
	}
	if now, err := read(maps); err != nil || !reflect.DeepEqual(now, w.rows) || maps.ControlView().Epoch() != epoch {
		t.Errorf("a preview has changed the maps, or their epoch: %v", err)
	}
	if n, err := w.Reconcile(want); err != nil || n != c.Writes {
		t.Errorf("Reconcile = %d, %v, want the %d writes foreseen", n, err, c.Writes)
	}
}
