package daemon

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"fairlead/userspace/model"
)

// oneService returns a state of one service with backends of weight 1.
func oneService(edit func(*model.Service), backends ...string) *model.State {
	s := model.Service{Name: "web", Listen: netip.MustParseAddrPort("203.0.113.10:80"), LastPort: 80, Protocol: model.TCP}
	for _, b := range backends {
		s.Backends = append(s.Backends, model.Backend{Address: netip.MustParseAddrPort(b), Weight: 1})
	}
	edit(&s)
	return &model.State{Services: []model.Service{s}}
}

func slow(s *model.Service) { s.SlowStart = 18 * time.Second }

func wantShares(t *testing.T, x *shares, state *model.State, want []int) {
	t.Helper()
	if diff := cmp.Diff(want, x.of(&state.Services[0])); diff != "" {
		t.Errorf("shares (-want +got):\n%s", diff)
	}
}

func TestNewBackendsStartSlowly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newShares()
		before := oneService(slow, "10.2.1.2:80")
		x.arrive(before, &model.State{})
		wantShares(t, x, before, nil) // the service is new itself
		state := oneService(slow, "10.2.1.2:80", "10.2.1.3:80")
		x.arrive(state, before)
		wantShares(t, x, state, []int{20, 2})
		if !x.turned(&state.Services[0]) || x.turned(&state.Services[0]) {
			t.Error("shares did not turn once")
		}
		time.Sleep(9 * time.Second)
		x.forget(state)
		wantShares(t, x, state, []int{20, 11})
		time.Sleep(9 * time.Second)
		wantShares(t, x, state, nil)
		x.forget(state)
		if len(x.joined) != 0 {
			t.Errorf("%v are still starting", x.joined)
		}
		if !x.turned(&state.Services[0]) {
			t.Error("the end of the start is not told")
		}
	})
}

func TestBackendsThatComeBackStartSlowly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newShares()
		leaving := oneService(slow, "10.2.1.2:80", "10.2.1.3:80")
		leaving.Services[0].Backends[1].Weight, leaving.Services[0].Backends[1].Leaving = 0, true
		back := oneService(slow, "10.2.1.2:80", "10.2.1.3:80")
		x.arrive(back, leaving)
		wantShares(t, x, back, []int{20, 2})
	})
}

func TestNobodyStartsSlowlyWhoNeedNot(t *testing.T) {
	x := newShares()
	before, state := oneService(func(*model.Service) {}, "10.2.1.2:80"), oneService(func(*model.Service) {}, "10.2.1.2:80", "10.2.1.3:80")
	x.arrive(state, before)
	wantShares(t, x, state, nil)
}

func TestSharesFollowResponseTimes(t *testing.T) {
	x := newShares()
	state := oneService(func(s *model.Service) { s.Balance.Method = model.ResponseTime }, "10.2.1.2:80", "10.2.1.3:80")
	s := &state.Services[0]
	for _, row := range []struct {
		name  string
		times []time.Duration
		want  []int
	}{
		{"nothing is known", []time.Duration{0, 0}, nil},
		{"one takes twice as long", []time.Duration{100, 200}, []int{20, 10}},
		{"a step is nothing", []time.Duration{100, 182}, []int{20, 10}},
		{"two are", []time.Duration{100, 167}, []int{20, 12}},
		{"the other one takes longer", []time.Duration{500, 100}, []int{4, 20}},
	} {
		x.measure(s, row.times)
		if diff := cmp.Diff(row.want, x.of(s)); diff != "" {
			t.Errorf("%s: shares (-want +got):\n%s", row.name, diff)
		}
	}
	x.forget(&model.State{})
	if len(x.quick) != 0 {
		t.Errorf("%v are remembered", x.quick)
	}
}
