package daemon

import (
	"errors"
	"maps"
	"net/netip"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"fairlead/userspace/datapath"
	"fairlead/userspace/health"
	"fairlead/userspace/model"
)

func TestSuspicion(t *testing.T) {
	const none, tcp = model.CheckNone, model.CheckTCP
	type look struct {
		troubles datapath.Troubles
		status   func(*health.Status) // nil: as before
		ok, hint bool
	}
	reset := func(n uint64) datapath.Troubles { return datapath.Troubles{Resets: n} }
	unanswered := func(n uint64) datapath.Troubles { return datapath.Troubles{Unanswered: n} }
	probed := func(s *health.Status) { s.LastProbe, s.LastError = time.Now(), "" }
	failed := func(s *health.Status) { s.LastProbe, s.LastError = time.Now(), "refused" }
	died := func(s *health.Status) { s.Up = false }
	for _, row := range []struct {
		name      string
		check     model.CheckType
		threshold int
		looks     []look // a second apart
	}{
		{"below the threshold", tcp, 3, []look{{troubles: unanswered(2)}, {troubles: unanswered(2)}}},
		{"both kinds count together", tcp, 3, []look{{datapath.Troubles{Unanswered: 1, Refused: 2}, nil, true, true}}},
		{"switched off", tcp, 0, []look{{troubles: unanswered(1000)}, {}}},
		{"resets count by themselves", tcp, 1, []look{{reset(10), nil, true, true}, {reset(9), nil, true, false}, {status: probed}}},
		{"a few resets are nothing", tcp, 1, []look{{troubles: reset(9)}, {troubles: reset(9)}}},
		{"until a probe succeeds", tcp, 1, []look{{unanswered(1), nil, true, true}, {ok: true}, {status: failed, ok: true}, {status: probed}, {}}},
		{"a probe before the last trouble clears nothing", tcp, 1, []look{
			{unanswered(1), nil, true, true}, {unanswered(1), probed, true, true}, {ok: true}, {status: probed},
		}},
		{"what is less than the threshold goes on counting", tcp, 2, []look{{unanswered(2), nil, true, true}, {unanswered(1), nil, true, false}, {status: probed}}},
		{"who is down is known", tcp, 1, []look{{unanswered(1), nil, true, true}, {unanswered(1), died, false, false}, {troubles: unanswered(1)}}},
		{"without a check until it is quiet", none, 1, []look{
			{unanswered(1), nil, true, true}, {ok: true}, {ok: true}, {ok: true}, {ok: true},
			{ok: true}, {ok: true}, {ok: true}, {ok: true}, {ok: true}, {},
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &model.Service{PassiveThreshold: row.threshold, PassiveResets: model.DefaultPassiveResets, Health: model.Check{Type: row.check}}
				status := health.Status{Up: true, Known: true, LastProbe: time.Now()}
				var is suspicion
				var sum datapath.Troubles
				for i, l := range row.looks {
					time.Sleep(time.Second)
					if l.status != nil {
						l.status(&status)
					}
					var ok, hint bool
					is, ok, hint = is.judge(s, status, l.troubles)
					sum = sum.Add(l.troubles)
					if ok != l.ok || hint != l.hint {
						t.Fatalf("look %d: suspect %t, to be probed %t; want %t and %t", i, ok, hint, l.ok, l.hint)
					}
					if ok && is.troubles != sum {
						t.Errorf("look %d: %+v, want %+v", i, is.troubles, sum)
					}
				}
			})
		})
	}
}

func TestFailedDialsAreSigns(t *testing.T) {
	s := &model.Service{Listen: netip.MustParseAddrPort("203.0.113.10:80"), Protocol: model.TCP}
	one, two := memberOf(s, netip.MustParseAddrPort("10.0.0.1:80")), memberOf(s, netip.MustParseAddrPort("10.0.0.2:80"))
	d := newDials()
	d.add(one, syscall.ECONNREFUSED)
	d.add(one, errors.New("timed out"))
	d.add(two, syscall.ECONNRESET)
	want := map[member]datapath.Troubles{one: {Unanswered: 1, Refused: 1}, two: {Refused: 1}}
	if got := d.take(); !maps.Equal(want, got) {
		t.Errorf("failed dials are %+v, want %+v", got, want)
	}
	if got := d.take(); len(got) != 0 {
		t.Errorf("they are told again: %+v", got)
	}
}

// TestAFailedLookLosesNoSigns lets the kernel's counts be unknown once: what came
// meanwhile counts at the next look.
func TestAFailedLookLosesNoSigns(t *testing.T) {
	state := stateOf(1, "10.0.0.1:80", "10.0.0.2:80")
	x := newSuspects()
	backend := func(b int) member { return memberOf(&state.Services[0], state.Services[0].Backends[b].Address) }
	refused := func(a, b uint64) [][]datapath.Troubles { return [][]datapath.Troubles{{{Refused: a}, {Refused: b}}} }
	for i, look := range []struct {
		counted [][]datapath.Troubles
		want    [2]uint64
	}{
		{counted: refused(5, 0)}, // whenever that was
		{refused(6, 0), [2]uint64{1, 0}},
		{counted: nil},
		{counted: nil},
		{refused(9, 1), [2]uint64{3, 1}},
		{counted: refused(9, 1)},
	} {
		come := x.since(state, look.counted)
		if got := [2]uint64{come[backend(0)].Refused, come[backend(1)].Refused}; got != look.want {
			t.Errorf("look %d: %v came, want %v", i, got, look.want)
		}
	}
	x.dials.add(backend(1), syscall.ECONNREFUSED)
	if come := x.since(state, refused(9, 3)); come[backend(1)].Refused != 3 {
		t.Errorf("a failed dial and two of the kernel are %+v", come[backend(1)])
	}
}

func TestTroublesSince(t *testing.T) {
	before, now := datapath.Troubles{Unanswered: 3, Refused: 2}, datapath.Troubles{Unanswered: 5, Refused: 2}
	if got, want := now.Since(before), (datapath.Troubles{Unanswered: 2}); got != want {
		t.Errorf("%+v since %+v is %+v, want %+v", now, before, got, want)
	}
	if got := before.Since(now); got != before {
		t.Errorf("a row that has begun anew has %+v, want %+v", got, before)
	}
}
