package health

import (
	"context"
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

// wantProbes compares with when probes began, in milliseconds.
func wantProbes(t *testing.T, starts func() []time.Duration, want ...int64) {
	t.Helper()
	var got []int64
	for _, at := range starts() {
		got = append(got, at.Milliseconds())
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("probes (-want +got):\n%s", diff)
	}
}

func TestASuspectIsProbedAtOnceUntilItIsDown(t *testing.T) {
	for _, row := range []struct {
		name  string
		takes time.Duration
		want  []int64
	}{
		{"who refuses", 0, []int64{0, 3000, 3300, 3600, 10000}},
		{"who is silent", 900 * time.Millisecond, []int64{0, 3000, 3900, 4800, 10000}},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var dead atomic.Bool
				c, k, starts := watched(t, &dead, row.takes)
				time.Sleep(3 * time.Second)
				dead.Store(true)
				c.Suspect(k.Key())
				time.Sleep(8 * time.Second)
				if s, _ := c.Status(k); s.Up || s.Fall != 4 {
					t.Errorf("the status is %+v, want down after the third failure", s)
				}
				c.Suspect(k.Key()) // who is down is known by now
				time.Sleep(time.Second)
				wantProbes(t, starts, row.want...)
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
		wantProbes(t, starts, 0, 1000, 10000, 10300, 10600)
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
		wantProbes(t, starts, 0, 1000, 10000, 20000)
	})
}
