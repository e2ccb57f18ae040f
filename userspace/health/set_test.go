package health

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"fairlead/userspace/model"
)

var everySecond = model.Check{Type: model.CheckTCP, Interval: time.Second, Rise: 1, Fall: 1}

func TestSetKeepsAddsAndRemoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := newTimetable()
		c, _ := start(t, func(_ context.Context, k Target) error { table.add(k); return errDead }, nil)
		a, b, d := target(1, everySecond), target(2, everySecond), target(3, everySecond)
		c.Set([]Target{a, b, a}, nil) // a is there for two services
		time.Sleep(10500 * time.Millisecond)
		c.Set([]Target{a, d}, func(k Target) (up, known bool) {
			if k.Address != d.Address {
				t.Errorf("asked for the health of %v, which is not new", k.Address)
			}
			return true, false
		})
		if s, ok := c.Status(a); !ok || s.Up || s.Failures != 11 {
			t.Errorf("kept: %+v, %v, want it as it was", s, ok)
		}
		if s, ok := c.Status(b); ok {
			t.Errorf("removed: %+v", s)
		}
		if s, ok := c.Status(d); !ok || !s.Up || s.Known {
			t.Errorf("added: %+v, %v, want it up and unknown", s, ok)
		}
		probes := len(table.of(b))
		time.Sleep(10 * time.Second)
		if n := len(table.of(b)); n != probes {
			t.Errorf("%d probes after it was removed", n-probes)
		}
		for _, step := range steps(table.of(a)) {
			if step != time.Second {
				t.Errorf("a step of %v across Set, want 1s", step)
			}
		}
		if s, _ := c.Status(d); s.Up || !s.Known {
			t.Errorf("added, later: %+v, want it down", s)
		}
	})
}

func TestInitialIsAdopted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := make(chan Status, 10)
		c, _ := start(t, func(context.Context, Target) error { return nil }, func(_ Target, s Status) {
			calls <- s
		})
		check := everySecond
		check.Rise = 3
		k := target(1, check)
		c.Set([]Target{k}, func(Target) (up, known bool) { return false, true })
		if s, _ := c.Status(k); s.Up || !s.Known {
			t.Errorf("adopted: %+v, want it down and known", s)
		}
		time.Sleep(1500 * time.Millisecond)
		if s, _ := c.Status(k); s.Up || s.Rise != 2 || len(calls) != 0 {
			t.Errorf("after two successes: %+v and %d calls, want it down still", s, len(calls))
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if n := len(calls); n != 1 || !(<-calls).Up {
			t.Errorf("after three successes: %d calls, want one that says up", n)
		}
	})
}

func TestWhatWasGoesOnIfItIsTheSame(t *testing.T) {
	const adopted, unknown = true, false
	for _, row := range []struct {
		name            string
		known, was, now bool
		goesOn          bool
	}{
		{"adopted as up", adopted, true, true, true},
		{"adopted as up, was down", adopted, false, true, false},
		{"found up", unknown, true, true, true},
		{"found down, as it was", unknown, false, false, true},
		{"found down, was up", unknown, true, false, false},
		{"found up, was down", unknown, false, true, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k, begin := target(1, everySecond), time.Now()
				past := begin.Add(-time.Hour)
				c := New(slog.New(slog.DiscardHandler), nil)
				var now atomic.Bool
				now.Store(row.now)
				c.probe = func(context.Context, Target) error {
					if now.Load() {
						return nil
					}
					return errDead
				}
				c.Set([]Target{k}, func(Target) (up, known bool) { return true, row.known })
				c.Recall(map[string]Past{k.Key(): {Up: row.was, Since: past}, "gone": {}})
				ctx, stop := context.WithCancel(t.Context())
				defer stop()
				go func() { _ = c.Run(ctx) }()
				time.Sleep(10500 * time.Millisecond) // between two probes
				if s, _ := c.Status(k); s.Up != row.now || s.Since.Equal(past) != row.goesOn || !row.goesOn && s.Since.Before(begin) {
					t.Errorf("%+v, was so since %v", s, past)
				}
				for _, up := range []bool{!row.now, row.now} { // and not again
					now.Store(up)
					changed := time.Now()
					time.Sleep(10 * time.Second)
					if s, _ := c.Status(k); s.Up != up || s.Since.Before(changed) {
						t.Errorf("changed at %v: %+v", changed, s)
					}
				}
			})
		})
	}
}

func TestChangesAreToldInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		probes, told := 0, ""
		var c *Checker
		c, stop := start(t, func(context.Context, Target) error {
			probes++
			if probes%4 < 2 { // up for two, down for two
				return nil
			}
			return errDead
		}, func(k Target, s Status) {
			if now, ok := c.Status(k); !ok || now != s { // no lock is held
				t.Errorf("told %+v, status is %+v", s, now)
			}
			told += map[bool]string{true: "U", false: "d"}[s.Up]
		})
		c.Set([]Target{target(1, everySecond)}, nil)
		time.Sleep(12*time.Second - 1)
		stop()
		if want := "UdUdUdU"; told != want {
			t.Errorf("told %s, want %s", told, want)
		}
	})
}

func TestNoneIsUpAndNotProbed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := start(t, func(context.Context, Target) error { t.Error("probed"); return nil }, nil)
		for _, kind := range []model.CheckType{model.CheckNone, ""} {
			k := target(1, model.Check{Type: kind})
			c.Set([]Target{k}, func(Target) (up, known bool) { return false, true })
			c.Trigger(k)
			time.Sleep(time.Minute)
			if s, ok := c.Status(k); !ok || !s.Up || !s.Known {
				t.Errorf("type %q: %+v, %v, want it up and known", kind, s, ok)
			}
		}
	})
}

func TestTrigger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := newTimetable()
		c, stop := start(t, func(_ context.Context, k Target) error {
			table.add(k)
			time.Sleep(100 * time.Millisecond)
			return nil
		}, nil)
		k := target(1, everySecond)
		c.Trigger(k) // unknown, nothing happens
		c.Set([]Target{k}, nil)
		time.Sleep(500 * time.Millisecond)
		c.Trigger(k)
		time.Sleep(50 * time.Millisecond)
		c.Trigger(k) // while that probe runs
		c.Trigger(k)
		time.Sleep(1950 * time.Millisecond)
		stop()
		ms := time.Millisecond
		want := []time.Duration{0, 500 * ms, 600 * ms, 1000 * ms, 2000 * ms}
		if diff := cmp.Diff(want, table.of(k)); diff != "" {
			t.Errorf("starts (-want +got):\n%s", diff)
		}
	})
}

func TestCancelledProbesAreNotCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, stop := start(t, func(ctx context.Context, _ Target) error {
			<-ctx.Done()
			time.Sleep(time.Second) // Run waits for this
			return ctx.Err()
		}, func(k Target, s Status) { t.Errorf("told %+v of %v", s, k.Address) })
		a, b := target(1, everySecond), target(2, everySecond)
		c.Set([]Target{a, b}, nil)
		time.Sleep(900 * time.Millisecond)
		c.Set([]Target{a}, nil)
		stopping := time.Now()
		stop()
		if took := time.Since(stopping); took != time.Second {
			t.Errorf("Run took %v to return, want 1s", took)
		}
		if s, ok := c.Status(a); !ok || s.Known {
			t.Errorf("then %+v, %v, want it unknown", s, ok)
		}
		c.Set([]Target{b}, nil) // starts nothing
		time.Sleep(time.Minute)
	})
}

// TestNobodyIsToldAfterRemoval adds and removes a target, whose health changes
// all the time, on real threads.
func TestNobodyIsToldAfterRemoval(t *testing.T) {
	var probes, told atomic.Int64
	var there atomic.Bool
	c := New(slog.New(slog.DiscardHandler), func(Target, Status) {
		told.Add(1)
		if !there.Load() {
			t.Error("told of a target that is not there")
		}
	})
	c.probe = func(context.Context, Target) error {
		if probes.Add(1)%2 == 0 {
			return errDead
		}
		return nil
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- c.Run(ctx) }()
	check := everySecond
	check.Interval = 20 * time.Microsecond
	for range 500 {
		there.Store(true)
		c.Set([]Target{target(1, check)}, nil)
		for before := told.Load(); told.Load() == before; {
			c.Trigger(target(1, check))
		}
		c.Set(nil, nil)
		there.Store(false)
	}
	there.Store(true)
	c.Set([]Target{target(1, check)}, nil)
	cancel()
	<-ended
	there.Store(false)
}

// TestRealServer checks a server whose health changes, by real probes.
func TestRealServer(t *testing.T) {
	var status atomic.Int32
	status.Store(http.StatusOK)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(int(status.Load()))
	}))
	defer server.Close()
	told := make(chan Status)
	c, _ := start(t, probe, func(_ Target, s Status) { told <- s })
	k := Target{
		Address: netip.MustParseAddrPort(server.Listener.Addr().String()),
		Check:   model.Check{Type: model.CheckHTTP, Interval: long, Timeout: long, Rise: 2, Fall: 3},
	}
	c.Set([]Target{k}, func(Target) (up, known bool) { return false, true })
	next := func() Status {
		for {
			c.Trigger(k)
			select {
			case s := <-told:
				return s
			case <-time.After(time.Millisecond):
			}
		}
	}
	for range 3 {
		if s := next(); !s.Up || s.Rise != 2 || s.Duration <= 0 {
			t.Errorf("told %+v, want it up after 2 successes", s)
		}
		status.Store(http.StatusBadGateway)
		if s := next(); s.Up || s.Fall != 3 || s.LastError != "status 502 is not in 200 to 399" {
			t.Errorf("told %+v, want it down after 3 failures", s)
		}
		status.Store(http.StatusOK)
	}
	next()
}

// TestSetWaitsForTheCall removes a target while a change of it is told.
func TestSetWaitsForTheCall(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	var returned atomic.Bool
	c, _ := start(t, func(context.Context, Target) error { return nil }, func(Target, Status) {
		close(entered)
		<-release
		returned.Store(true)
	})
	c.Set([]Target{target(1, everySecond)}, nil)
	<-entered
	set := make(chan struct{})
	go func() {
		defer close(set)
		c.Set(nil, nil)
		if !returned.Load() {
			t.Error("Set returned before the call did")
		}
	}()
	select {
	case <-set:
	case <-time.After(50 * time.Millisecond):
	}
	close(release)
	<-set
}

// TestAResultThatComesTooLateIsNotTold has a target removed just before the
// result of its probe is counted.
func TestAResultThatComesTooLateIsNotTold(t *testing.T) {
	c := New(slog.New(slog.DiscardHandler), func(Target, Status) { t.Error("told of a removed target") })
	k := target(1, everySecond)
	c.Set([]Target{k}, nil)
	removed := c.checks[k.Key()]
	c.probe = func(context.Context, Target) error {
		c.Set(nil, nil)
		return errDead
	}
	c.try(t.Context(), removed)
}
