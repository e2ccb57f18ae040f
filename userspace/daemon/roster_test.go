package daemon

import (
	"errors"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"fairlead/userspace/datapath"
	"fairlead/userspace/health"
	"fairlead/userspace/model"
	"fairlead/userspace/view"
)

// stateOf returns services on successive ports that share their backends.
func stateOf(services int, backends ...string) *model.State {
	s := &model.State{}
	for i := range services {
		one := model.Service{
			Name: "web", Listen: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(20000+i)), LastPort: uint16(20000 + i),
			Protocol: model.TCP, Health: model.Check{Type: model.CheckTCP},
		}
		for _, b := range backends {
			one.Backends = append(one.Backends, model.Backend{Address: netip.MustParseAddrPort(b), Weight: 1})
		}
		s.Services = append(s.Services, one)
	}
	return s
}

func TestRosterKnowsWhoSharesACheck(t *testing.T) {
	r := newRoster(stateOf(3, "10.0.0.1:80", "10.0.0.2:80"))
	if len(r.services) != 2 {
		t.Errorf("%d checks, want 2", len(r.services))
	}
	for key, services := range r.services {
		if diff := cmp.Diff([]int{0, 1, 2}, services); diff != "" {
			t.Errorf("services of %s (-want +got):\n%s", key, diff)
		}
	}
}

func TestHealthIsAdoptedFromWhoeverKnowsIt(t *testing.T) {
	r := newRoster(stateOf(2, "10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"))
	adopt := r.adopt([][]datapath.Health{
		{datapath.HealthDown, datapath.HealthUp, datapath.HealthUnknown},
		{datapath.HealthUnknown, datapath.HealthUnknown, datapath.HealthUnknown},
	}, nil)
	for i, want := range []struct{ up, known bool }{{false, true}, {true, true}, {true, false}} {
		if up, known := adopt(r.targets[i]); up != want.up || known != want.known {
			t.Errorf("backend %d: up %t, known %t, want %+v", i, up, known, want)
		}
	}
	c := health.New(slog.New(slog.DiscardHandler), nil)
	c.Set(r.targets, adopt)
	for i := range r.state.Services {
		if diff := cmp.Diff([]bool{true, false, false}, r.down(r.look(c))(&r.state.Services[i])); diff != "" {
			t.Errorf("down (-want +got):\n%s", diff)
		}
	}
}

func TestACheckSaysWhatABackendIsAtFirst(t *testing.T) {
	for _, row := range []struct {
		initial   model.Initial
		kernel    datapath.Health
		kept      lastKnown // for "", the key
		up, known bool
	}{
		{model.InitialUsual, datapath.HealthUnknown, lastKnown{"": false}, true, false},
		{model.InitialUsual, datapath.HealthDown, nil, false, true},
		{model.InitialUp, datapath.HealthDown, lastKnown{"": false}, true, false},
		{model.InitialDown, datapath.HealthUp, lastKnown{"": true}, false, false},
		{model.InitialLast, datapath.HealthUnknown, lastKnown{"": false}, false, true},
		{model.InitialLast, datapath.HealthUnknown, lastKnown{"": true}, true, true},
		{model.InitialLast, datapath.HealthUnknown, nil, true, false},
		{model.InitialLast, datapath.HealthUp, lastKnown{"": false}, true, true},
	} {
		state := stateOf(1, "10.0.0.1:80")
		state.Services[0].Health.Initial = row.initial
		r := newRoster(state)
		kept := lastKnown{}
		for _, up := range row.kept {
			kept[digestOf(r.targets[0].Key())] = up
		}
		up, known := r.adopt([][]datapath.Health{{row.kernel}}, kept)(r.targets[0])
		if up != row.up || known != row.known {
			t.Errorf("%q, %v in the kernel, kept %v: up %t, known %t", row.initial, row.kernel, row.kept, up, known)
		}
	}
}

func TestWhatWasSeenGoesOnForAMinute(t *testing.T) {
	now, up, down := time.Now(), true, false
	since := now.Add(-time.Hour)
	last := func(up *bool, away time.Duration) view.Last {
		return view.Last{At: now.Add(-away), Up: up, Since: since}
	}
	for _, row := range []struct {
		name   string
		was    view.Last
		agent  uint16
		known  bool
		wantUp bool
	}{
		{name: "just now", was: last(&up, 0), known: true, wantUp: true},
		{name: "some seconds ago", was: last(&down, 10*time.Second), known: true},
		{name: "minutes ago", was: last(&up, 2*time.Minute)},
		{name: "after now", was: last(&up, -time.Hour)}, // the clock was set
		{name: "not probed", was: last(nil, 0)},
		{name: "by one that did not keep since when", was: view.Last{At: now, Up: &up}},
		{name: "nothing", was: view.Last{}},
		{name: "by its own word", was: last(&down, 0), agent: 9000},
	} {
		state := stateOf(1, "10.0.0.1:80")
		state.Services[0].Name, state.Services[0].Health.Agent.Port = "web", row.agent
		r := newRoster(state)
		want := map[string]health.Past{}
		if row.known {
			want[r.targets[0].Key()] = health.Past{Up: row.wantUp, Since: since}
		}
		got := r.recall(map[string]view.Last{"web 10.0.0.1:80": row.was, "api 10.0.0.1:80": last(&up, 0)}, now)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", row.name, diff)
		}
	}
}

func TestOnlyNewBackendsAreDownAtFirst(t *testing.T) {
	old := newRoster(stateOf(1, "10.0.0.1:80"))
	state := stateOf(2, "10.0.0.1:80", "10.0.0.2:80")
	for i := range state.Services {
		state.Services[i].Health.Initial = model.InitialDown
		state.Services[i].Health.Fall = 7 + i
	}
	r := newRoster(state)
	c := health.New(slog.New(slog.DiscardHandler), nil)
	c.Set(r.targets, r.inherit(old, nil, never))
	for i, want := range [][]bool{{false, true}, {true, true}} {
		if diff := cmp.Diff(want, r.down(r.look(c))(&state.Services[i])); diff != "" {
			t.Errorf("service %d: down (-want +got):\n%s", i, diff)
		}
	}
}

func TestHealthOutlivesAChangeOfTheCheck(t *testing.T) {
	old := newRoster(stateOf(2, "10.0.0.1:80", "10.0.0.2:80"))
	state := stateOf(3, "10.0.0.2:80", "10.0.0.1:80", "10.0.0.3:80")
	for i := range state.Services {
		state.Services[i].Health.Fall = 7 + i
	}
	r := newRoster(state)
	c := health.New(slog.New(slog.DiscardHandler), nil)
	c.Set(r.targets, r.inherit(old, map[string]bool{old.targets[0].Key(): true}, always))
	down := r.down(r.look(c))
	for i, want := range [][]bool{{false, true, false}, {false, true, false}, {false, false, false}} {
		if diff := cmp.Diff(want, down(&state.Services[i])); diff != "" {
			t.Errorf("service %d: down (-want +got):\n%s", i, diff)
		}
	}
	if s, ok := c.Status(r.targets[1]); !ok || s.Known {
		t.Errorf("status %+v of who was down, want nothing known before the first result", s)
	}
	if s, ok := c.Status(r.targets[0]); !ok || !s.Known {
		t.Errorf("status %+v of who was seen to be up, want it known", s)
	}
	if s, ok := c.Status(r.targets[2]); !ok || s.Known {
		t.Errorf("status %+v of a new backend, want nothing known", s)
	}
}

func never(string) bool  { return false }
func always(string) bool { return true }

func TestWhoWasNeverProbedIsJudgedByTheFirstResult(t *testing.T) {
	for _, row := range []struct {
		was   model.CheckType
		knows func(string) bool
	}{{model.CheckTCP, never}, {model.CheckNone, always}} {
		before, state := stateOf(1, "10.0.0.1:80"), stateOf(1, "10.0.0.1:80")
		before.Services[0].Health.Type, state.Services[0].Health.Fall = row.was, 7
		r := newRoster(state)
		if up, known := r.inherit(newRoster(before), nil, row.knows)(r.targets[0]); !up || known {
			t.Errorf("check of type %s before: up %t, known %t", row.was, up, known)
		}
	}
}

func TestMailboxForgetsNothingAndNeverBlocks(t *testing.T) {
	m := newMailbox()
	for range 3 {
		m.put("a")
		m.put("b")
	}
	<-m.ready
	if diff := cmp.Diff(map[string]bool{"a": true, "b": true}, m.take()); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
	m.put("c")
	<-m.ready
	if diff := cmp.Diff(map[string]bool{"c": true}, m.take()); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
}

func TestNewsAreSaidOnce(t *testing.T) {
	a := &agent{said: map[string]string{}}
	full, gone := errors.New("full"), errors.New("gone")
	for i, row := range []struct {
		topic string
		err   error
		want  bool
	}{
		{"disk", nil, false}, {"disk", full, true}, {"disk", full, false}, {"net", full, true},
		{"disk", gone, true}, {"disk", nil, false}, {"disk", gone, true},
	} {
		if got := a.news(row.topic, row.err); got != row.want {
			t.Errorf("call %d: news(%s, %v) = %t", i, row.topic, row.err, got)
		}
	}
}

func TestViewOfMuchIsWrittenSeldom(t *testing.T) {
	a := newAgent(Options{RunDir: t.TempDir(), Log: slog.New(slog.DiscardHandler)}, stateOf(1, "10.0.0.1:80"))
	a.publish()
	a.cost = time.Hour
	first := a.published
	if a.publish(); a.published != first || a.again == nil {
		t.Error("published at once after what took an hour, or never again")
	}
	a.published = a.published.Add(-publishLate)
	if a.publish(); !a.published.After(first) {
		t.Error("not published for too long")
	}
}
