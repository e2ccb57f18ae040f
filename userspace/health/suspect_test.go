package health

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"fairlead/userspace/model"
)

// watched runs a Checker with one target, whose check is slow, and returns a
// function that says when probes began. takes is how long they do; they fail once
// dead is set.
func watched(t *testing.T, dead *atomic.Bool, takes time.Duration) (c *Checker, k Target, starts func() []time.Duration) {
	t.Helper()
	table := newTimetable()
	c, _ = start(t, func(_ context.Context, k Target) error {
		table.add(k)
		time.Sleep(takes)
		if dead.Load() {
			return errDead
		}
		return nil
	}, nil)
	k = target(1, model.Check{Type: model.CheckTCP, Interval: 10 * time.Second, Timeout: 900 * time.Millisecond, Rise: 1, Fall: 3})
	c.Set([]Target{k}, nil)
	return c, k, func() []time.Duration { return table.of(k) }
}

func TestASuspectIsProbedAtOnceUntilItIsDown(t *testing.T) {
	const ms = time.Millisecond
	for _, row := range []struct {
		name  string
		takes time.Duration
		want  []time.Duration
	}{
		{"who refuses", 0, []time.Duration{0, 3000 * ms, 3300 * ms, 3600 * ms, 10000 * ms}},
		{"who is silent", 900 * ms, []time.Duration{0, 3000 * ms, 3900 * ms, 4800 * ms, 10000 * ms}},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var dead atomic.Bool
				c, k, starts := watched(t, &dead, row.takes)
				time.Sleep(3 * time.Second)
				dead.Store(true)
				c.Suspect(k.Key())
				time.Sleep(8 * time.Second)
				if s, _ := c.Status(k); s.Up || s.Fall != 4 || s.Since.IsZero() {
					t.Errorf("the status is %+v, want down after the third failure", s)
				}
				c.Suspect(k.Key()) // who is down is known by now
				time.Sleep(time.Second)
				if diff := cmp.Diff(row.want, starts()); diff != "" {
					t.Errorf("probes (-want +got):\n%s", diff)
				}
			})
		})
	}
}

// TestSuspicionOfTheHealthyCostsAProbeInAnInterval has somebody who says all the
// time that the target fails.
func TestSuspicionOfTheHealthyCostsAProbeInAnInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var dead atomic.Bool
		c, k, starts := watched(t, &dead, 0)
		time.Sleep(time.Second)
		for range 1000 {
			c.Suspect(k.Key())
			time.Sleep(100 * time.Millisecond)
		}
		if n := len(starts()); n < 20 || n > 22 {
			t.Errorf("%d probes in 101 s, want two in each interval of 10 s", n)
		}
		if s, _ := c.Status(k); !s.Up || s.Failures != 0 {
			t.Errorf("the status is %+v", s)
		}
	})
}

// TestASuspectIsRemembered has a target die when its probe for suspicion was just
// made: the next regular one that fails is repeated at once.
func TestASuspectIsRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var dead atomic.Bool
		c, k, starts := watched(t, &dead, 0)
		time.Sleep(time.Second)
		c.Suspect(k.Key())
		time.Sleep(time.Second)
		dead.Store(true)
		c.Suspect(k.Key())
		time.Sleep(9 * time.Second)
		const ms = time.Millisecond
		if diff := cmp.Diff([]time.Duration{0, 1000 * ms, 10000 * ms, 10300 * ms, 10600 * ms}, starts()); diff != "" {
			t.Errorf("probes (-want +got):\n%s", diff)
		}
		if s, _ := c.Status(k); s.Up {
			t.Errorf("the status is %+v, want down", s)
		}
	})
}

// TestASuccessClearsASuspect has a failure in turn after it, which is not repeated.
func TestASuccessClearsASuspect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var dead atomic.Bool
		c, k, starts := watched(t, &dead, 0)
		time.Sleep(time.Second)
		c.Suspect(k.Key())
		c.Suspect("nobody's")
		time.Sleep(time.Second)
		dead.Store(true)
		time.Sleep(9 * time.Second)
		dead.Store(false)
		time.Sleep(10 * time.Second)
		got := slices.Clone(starts())
		const ms = time.Millisecond
		if diff := cmp.Diff([]time.Duration{0, 1000 * ms, 10000 * ms, 20000 * ms}, got); diff != "" {
			t.Errorf("probes (-want +got):\n%s", diff)
		}
	})
}
