package health

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"fairlead/userspace/latency"
	"fairlead/userspace/model"
)

// soon is within what time a new check has its first probe.
const soon = time.Second

// A check is a target and what is known of it.
type check struct {
	given   Target  // as Set got it
	target  Target  // as it is probed
	place   float64 // in the interval, from 0 to less than 1
	trigger chan struct{}

	reporting sync.Mutex // held while a change is told

	// The rest is guarded by the Checker's mutex.
	status  Status
	past    *Past // until something is known
	removed bool
	cancel  context.CancelFunc
	said    string    // why its agent's last answer does not count
	suspect bool      // probes that fail are repeated soon
	hurried time.Time // when it was last probed out of turn for that

	latency latency.Recorder // of probes
}

// probeNow has the target probed as soon as no other probe of it runs.
func (k *check) probeNow() {
	select {
	case k.trigger <- struct{}{}:
	default: // one is waiting already
	}
}

// haste is how far the probes of a suspect are apart that fail at once.
func (k *check) haste() time.Duration {
	return k.target.Check.Timeout / time.Duration(k.target.Check.Fall)
}

func newCheck(t Target, initial func(Target) (up, known bool)) *check {
	k := &check{given: t, target: t.normal(), trigger: make(chan struct{}, 1)}
	k.status = Status{Up: true, Since: time.Now(), Word: free}
	if k.target.Check.Type == model.CheckNone {
		k.status.Known = true
	} else if initial != nil {
		k.status.Up, k.status.Known = initial(t)
	}
	return k
}

// goOn has a target of which something is known now be so since it was, if it was so
// before.
func (k *check) goOn() {
	if k.past != nil && k.past.Up == k.status.Up {
		k.status.Since = k.past.Since
	}
	k.past = nil
}

// awaitReport waits for the change that is being told, if there is one.
func (k *check) awaitReport() {
	k.reporting.Lock()
	defer k.reporting.Unlock()
}

// place returns the place of the n-th check, so that any number of them are
// spread evenly: multiples of the golden ratio, of which the fraction is taken.
func place(n uint64) float64 {
	const golden = 0x9e3779b97f4a7c15 // of 2^64
	return float64(n*golden>>11) / (1 << 53)
}

// loop calls try whenever a probe is due or triggered, until ctx is done; and
// again, so long after it began, if it asks for that and the next is not due
// before. Each call may be later by the check's jitter, which does not add up.
//
// Probes are an interval apart from start to start, so that time taken by a
// probe never adds up. One that lasts until the next is due delays it; the one
// after that is in its place again, and places wholly missed are left out.
func (k *check) loop(ctx context.Context, try func() (again time.Duration)) {
	interval := k.target.Check.Interval
	first, settle := schedule(k.place, interval)
	due := time.Now().Add(first)
	timer := time.NewTimer(first)
	defer timer.Stop()
	early := false // the timer is set to a time before due
	for probes := 0; ctx.Err() == nil; {
		select {
		case <-ctx.Done():
			return
		case <-k.trigger:
		case <-timer.C:
			if early {
				break
			}
			probes++
			if probes <= 2 {
				due = due.Add(settle)
			} else {
				due = due.Add(interval)
			}
			if late := time.Since(due); late >= 0 {
				due = due.Add(interval * (late/interval + 1))
			}
		}
		begun, next := time.Now(), due
		again := try()
		if early = again > 0 && begun.Add(again).Before(due); early {
			next = begun.Add(again)
		}
		timer.Reset(time.Until(next) + jitter(k.target.Check.Jitter))
	}
}

// jitter returns a random time of at most most.
func jitter(most time.Duration) time.Duration {
	if most == 0 {
		return 0
	}
	return rand.N(most + 1)
}

// schedule says after what time a check in that place has its first probe, and
// how far the next two are apart from the ones before. All the others are an
// interval apart.
//
// The first is soon, so that a new backend is judged soon. The next two come
// somewhat earlier than they would, never by more than half an interval: that
// moves the check to its place in the interval, over which all are spread.
func schedule(place float64, interval time.Duration) (first, settle time.Duration) {
	near := min(interval, soon)
	first = time.Duration(place * float64(near))
	move := time.Duration(place * float64(interval-near))
	if move == 0 {
		return first, interval
	}
	return first, (interval + move) / 2
}
