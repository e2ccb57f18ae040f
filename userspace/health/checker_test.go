package health

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"fairlead/userspace/model"
)

var errDead = errors.New("dead")

// target returns the n-th of many targets of one check.
func target(n int, check model.Check) Target {
	addr := netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)})
	return Target{Address: netip.AddrPortFrom(addr, 80), Check: check}
}

// start runs a Checker with a fake probe until the test ends or stop is called.
func start(t *testing.T, probe func(context.Context, Target) error, changed func(Target, Status)) (c *Checker, stop func()) {
	t.Helper()
	c = New(slog.New(slog.DiscardHandler), changed)
	c.probe = probe
	ctx, cancel := context.WithCancelCause(context.Background())
	ended, cause := make(chan error, 1), errors.New("the test ends")
	go func() { ended <- c.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel(cause)
		if err := <-ended; !errors.Is(err, cause) {
			t.Errorf("Run returned %v, want its cause", err)
		}
	})
	t.Cleanup(stop)
	return c, stop
}

// A timetable records when probes start.
type timetable struct {
	mu     sync.Mutex
	begin  time.Time
	starts map[string][]time.Duration
}

func newTimetable() *timetable {
	return &timetable{begin: time.Now(), starts: make(map[string][]time.Duration)}
}

func (tt *timetable) add(t Target) {
	tt.mu.Lock()
	defer tt.mu.Unlock()
	key := t.Address.String()
	tt.starts[key] = append(tt.starts[key], time.Since(tt.begin))
}

func (tt *timetable) of(t Target) []time.Duration {
	tt.mu.Lock()
	defer tt.mu.Unlock()
	return slices.Clone(tt.starts[t.Address.String()])
}

// steps returns the times between one start and the next.
func steps(starts []time.Duration) []time.Duration {
	var d []time.Duration
	for i := 1; i < len(starts); i++ {
		d = append(d, starts[i]-starts[i-1])
	}
	return d
}

func TestAThousandChecksAreSpread(t *testing.T) {
	for _, interval := range []time.Duration{200 * time.Millisecond, time.Second, 10 * time.Second} {
		t.Run(interval.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { spread(t, interval) })
		})
	}
}

func spread(t *testing.T, interval time.Duration) {
	const n = 1000
	table := newTimetable()
	c, stop := start(t, func(_ context.Context, t Target) error { table.add(t); return nil }, nil)
	var targets []Target
	for i := range n {
		targets = append(targets, target(i, model.Check{Type: model.CheckTCP, Interval: interval}))
	}
	c.Set(targets, nil)
	time.Sleep(20*interval - 1)
	stop()

	first, settled := make(map[int]int), make(map[int]int) // by fiftieths of their span
	near := min(interval, soon)
	for _, k := range targets {
		starts := table.of(k)
		first[int(starts[0]*50/near)]++
		for _, step := range steps(starts)[2:] {
			if step != interval {
				t.Fatalf("a step of %v, want %v: %v", step, interval, starts)
			}
		}
		for _, step := range steps(starts)[:2] {
			if step > interval || step < interval/2 {
				t.Fatalf("one of the first steps is %v of %v", step, interval)
			}
		}
		settled[int(starts[len(starts)-1]%interval*50/interval)]++
	}
	for name, counts := range map[string]map[int]int{"first": first, "settled": settled} {
		for i := range 50 {
			if counts[i] < n/50-3 || counts[i] > n/50+3 {
				t.Errorf("%s: %d of %d probes in one fiftieth of their span", name, counts[i], n)
			}
		}
		if len(counts) != 50 {
			t.Errorf("%s: probes in %d fiftieths of their span", name, len(counts))
		}
	}
}

func TestProbesKeepTheirPlaceAndNeverOverlap(t *testing.T) {
	const interval = time.Second
	for _, tt := range []struct {
		name  string
		takes time.Duration
	}{
		{"at once", 0},
		{"slow", 700 * time.Millisecond},
		{"as long as the interval", interval},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				table := newTimetable()
				var running atomic.Int32
				c, stop := start(t, func(_ context.Context, k Target) error {
					table.add(k)
					if running.Add(1) > 1 {
						t.Error("two probes at once")
					}
					defer running.Add(-1)
					time.Sleep(tt.takes)
					return nil
				}, nil)
				k := target(1, model.Check{Type: model.CheckTCP, Interval: interval, Timeout: interval})
				c.Set([]Target{k}, nil)
				time.Sleep(100*interval - 1)
				stop()
				want := slices.Repeat([]time.Duration{interval}, 99)
				if diff := cmp.Diff(want, steps(table.of(k))); diff != "" {
					t.Errorf("steps (-want +got):\n%s", diff)
				}
			})
		})
	}
}

// TestAProbeThatDoesNotHeedItsTimeoutLeavesPlacesOut overruns two places.
func TestAProbeThatDoesNotHeedItsTimeoutLeavesPlacesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := newTimetable()
		c, stop := start(t, func(_ context.Context, k Target) error {
			table.add(k)
			if len(table.of(k)) == 2 {
				time.Sleep(2500 * time.Millisecond)
			}
			return nil
		}, nil)
		k := target(1, model.Check{Type: model.CheckTCP, Interval: time.Second})
		c.Set([]Target{k}, nil)
		time.Sleep(7*time.Second - 1)
		stop()
		ms := time.Millisecond
		want := []time.Duration{0, 1000 * ms, 3500 * ms, 4000 * ms, 5000 * ms, 6000 * ms}
		if diff := cmp.Diff(want, table.of(k)); diff != "" {
			t.Errorf("starts (-want +got):\n%s", diff)
		}
	})
}

// TestTheDeadAreFoundInTime lets backends die at various times, answering no
// more, and wants each down within interval * fall + timeout.
func TestTheDeadAreFoundInTime(t *testing.T) {
	check := model.Check{Type: model.CheckTCP, Interval: 2 * time.Second, Timeout: time.Second, Rise: 2, Fall: 3}
	for _, dies := range []time.Duration{1, 1100, 2500, 3000, 7777, 20000, 20999} {
		t.Run(fmt.Sprint(dies), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				death := time.Now().Add(dies*time.Millisecond + 1)
				var down sync.Map
				c, stop := start(t, func(ctx context.Context, k Target) error {
					if time.Now().Before(death) {
						return nil
					}
					<-ctx.Done()
					return errDead
				}, func(k Target, s Status) {
					if !s.Up {
						down.Store(k.Address, time.Since(death))
					}
				})
				var targets []Target
				for i := range 50 {
					targets = append(targets, target(i, check))
				}
				c.Set(targets, nil)
				time.Sleep(time.Until(death) + time.Minute)
				stop()
				limit := check.Interval*time.Duration(check.Fall) + check.Timeout
				for _, k := range targets {
					took, ok := down.Load(k.Address)
					if !ok || took.(time.Duration) > limit {
						t.Errorf("%v: down after %v, want at most %v", k.Address, took, limit)
					}
				}
			})
		})
	}
}

func TestWantOnThisHostSaysNothingOfABackend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var probes atomic.Int64
		c, _ := start(t, func(context.Context, Target) error {
			probes.Add(1)
			return fmt.Errorf("dial: %w", syscall.EMFILE)
		}, func(tg Target, s Status) { t.Errorf("%s changed to %+v", tg.Address, s) })
		one := target(1, model.Check{Type: model.CheckTCP, Interval: time.Second, Timeout: time.Second, Rise: 1, Fall: 1})
		c.Set([]Target{one}, nil)
		time.Sleep(10 * time.Second)
		if s, _ := c.Status(one); !s.Up || s.Known || s.Failures != 0 || probes.Load() < 5 {
			t.Errorf("after %d probes: %+v, want nothing known", probes.Load(), s)
		}
	})
}
