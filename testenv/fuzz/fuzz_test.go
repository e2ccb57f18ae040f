package fuzz

import (
	"slices"
	"strings"
	"testing"

	m "fairlead/testenv/refmodel"
)

// twin is a target that is the model itself, but for one fault.
type twin struct {
	*world
	fault func(w *world, res *m.Result)
}

func (t *twin) reset(w *world) error {
	// A copy of the configuration; the state of w is empty.
	t.world = &world{}
	*t.world = *w
	model := *w.Model
	t.Model = &model
	t.Services = append([]m.Service{}, w.Services...)
	t.Backends = append([]m.Backend{}, w.Backends...)
	t.Slots = append([]uint32{}, w.Slots...)
	t.Turns = append([]uint64{}, w.Turns...)
	t.Snat = append([]m.Addr{}, w.Snat...)
	t.Fragments = map[m.FragmentKey]m.Fate{}
	t.Sources = map[m.Source]m.Credit{}
	t.Ties = map[m.Source]m.Tie{}
	t.Syns = make([]m.Syns, numServices)
	t.BackendCounters = make([]m.Counters, numBackends)
	t.Random = t.nextRandom
	t.resize(len(w.table()))
	return nil
}

// sync repeats a change. What the copy shares with w, maps, is changed already.
func (t *twin) sync(_ *world, c change) error {
	c.apply(t.world)
	return nil
}

func (t *twin) run(frame []byte, linear int) (m.Result, error) {
	res := t.Process(frame, linear)
	if t.fault != nil {
		t.fault(t.world, &res)
	}
	return res, nil
}

func (t *twin) state() (state, error) { return t.world.state(), nil }

func (t *twin) cuts() bool { return true }

func TestModelAgainstItself(t *testing.T) {
	f := newFuzzer(&twin{}, 1, families...)
	f.shrinks = true
	d, err := f.run(150_000)
	if err != nil {
		t.Fatal(err)
	}
	if d != nil {
		t.Fatal(d)
	}
	checkCoverage(t, f)
}

func TestDifferenceIsPinned(t *testing.T) {
	for _, test := range []struct {
		name  string
		fault func(w *world, res *m.Result)
		want  string
	}{
		{"a byte", func(_ *world, res *m.Result) {
			if res.Verdict == m.AnswerUnreachable {
				res.Out = append([]byte{}, res.Out...)
				res.Out[30] ^= 1
			}
		}, "ANSWER_UNREACHABLE"},
		{"a counter", func(w *world, res *m.Result) {
			if res.Verdict == m.PassICMP {
				w.Verdicts[m.PassICMP]--
			}
		}, "state (-model +target)"},
		{"a flow", func(w *world, res *m.Result) {
			if res.Verdict == m.DropFlowEnded {
				for at := range w.flows() {
					w.table()[at.Bucket][at.Index].Seen++
				}
			}
		}, "Seen:"},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newFuzzer(&twin{fault: test.fault}, 2, families...)
			f.shrinks = true
			d, err := f.run(100_000)
			if err != nil {
				t.Fatal(err)
			}
			if d == nil {
				t.Fatal("the fault was not found")
			}
			if d.Packet == 0 || !strings.Contains(d.Text, test.want) {
				t.Errorf("packet %d: %s\nwant one of %s", d.Packet, d.Text, test.want)
			}
			if len(d.items) > 40 {
				t.Errorf("still %d items after shrinking", len(d.items))
			}
			t.Logf("packet %d, %d items", d.Packet, len(d.items))
		})
	}
}

// checkCoverage asserts that packets of every family reached every verdict and
// every kind of eviction, and prints how often.
func checkCoverage(t *testing.T, f *fuzzer) {
	t.Helper()
	for _, family := range f.families {
		t.Run(family.name, func(t *testing.T) { f.seen[family].check(t, family) })
	}
}

func (h *histogram) check(t *testing.T, family *family) {
	t.Helper()
	least, ports := uint64(h.packets/1000), uint64(h.packets/1000)
	if family.mixed { // hardly a flow is of one family, so none has fragments or the client's port
		least, ports = 1, 0
	}
	for kind, n := range h.evictions {
		t.Logf("%-18s %9d", m.Eviction(kind), n)
		if n == 0 {
			t.Errorf("no packet of %d led to %s", h.packets, m.Eviction(kind))
		}
	}
	t.Logf("events, lost ones first: %v", h.events)
	if slices.Contains(h.events[:], 0) {
		t.Error("no event of a kind was written, or none was lost")
	}
	t.Logf("entries at the ends of episodes: %d in their first bucket, %d in the second", h.places[0], h.places[1])
	if h.places[1]*20 < h.places[0] {
		t.Error("too few entries are in the second bucket")
	}
	t.Logf("%d ICMP errors were forwarded", h.errors)
	if h.errors == 0 {
		t.Errorf("no packet of %d was an ICMP error that was forwarded", h.packets)
	}
	t.Logf("%d later fragments were forwarded", h.laters)
	if h.laters < least {
		t.Errorf("want at least %d later fragments", least)
	}
	t.Logf("%d flows got another port, %d a source of our own", h.ports, h.sources)
	if h.ports < ports || h.sources < least {
		t.Errorf("want at least %d flows of each", least)
	}
	for v, n := range h.verdicts {
		t.Logf("%-18s %9d", m.Verdict(v), n)
		if n == 0 && (family.mixed || m.Verdict(v) != m.DropFamily) {
			t.Errorf("no packet of %d reached %s", h.packets, m.Verdict(v))
		}
	}
}
