package health

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"fairlead/userspace/model"
)

func TestProbesAreFasterWhileResultsChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := newTimetable()
		var dead atomic.Bool
		c, stop := start(t, func(_ context.Context, k Target) error {
			table.add(k)
			if dead.Load() {
				return errDead
			}
			return nil
		}, nil)
		k := target(1, model.Check{Type: model.CheckTCP, Interval: 10 * time.Second, FastInterval: time.Second, Rise: 3, Fall: 3})
		c.Set([]Target{k}, nil)
		time.Sleep(35 * time.Second)
		calm := len(table.of(k))
		dead.Store(true)
		time.Sleep(20 * time.Second)
		status, _ := c.Status(k)
		stop()
		if status.Up {
			t.Error("it is up after three failures")
		}
		got := steps(table.of(k))[calm:]
		if want := []time.Duration{time.Second, time.Second}; len(got) < 3 || !slices.Equal(got[:2], want) || got[2] < 7*time.Second {
			t.Errorf("probes after the first failure are %v apart, want two fast ones and then the usual", got)
		}
	})
}

func TestJitterDoesNotAddUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := newTimetable()
		c, stop := start(t, func(_ context.Context, k Target) error { table.add(k); return nil }, nil)
		k := target(1, model.Check{Type: model.CheckTCP, Interval: time.Second, Jitter: 400 * time.Millisecond})
		c.Set([]Target{k}, nil)
		time.Sleep(200 * time.Second)
		stop()
		all := table.of(k)[5:]
		moved := map[time.Duration]bool{}
		for i, at := range all {
			late := at - all[0] - time.Duration(i)*time.Second
			moved[late] = true
			if late < -400*time.Millisecond || late > 400*time.Millisecond {
				t.Fatalf("probe %d is %v off its place", i, late)
			}
		}
		if len(all) < 190 || len(moved) < 100 {
			t.Errorf("%d probes at %d places in the interval", len(all), len(moved))
		}
	})
}
