package health

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"fairlead/userspace/model"
)

// A Checker probes targets and keeps their status.
//
// A target that was never probed counts as up; its first result alone decides,
// from then on Rise successes or Fall failures in a row do. A target whose
// check is of type none is always up. Methods may be called at any time, from
// any goroutine, with the one exception at [New].
type Checker struct {
	log     *slog.Logger
	changed func(Target, Status)
	probe   func(context.Context, Target) error

	setting sync.Mutex // one Set at a time
	running sync.WaitGroup

	mu     sync.Mutex
	ctx    context.Context // of Run; nil while it does not run
	checks map[string]*check
	places uint64 // handed out so far
}

// New returns a Checker that has no targets and does not run.
//
// It calls changed, unless that is nil, whenever Up, Known or Word of a status
// changes: in order for one target, at once for several. It is not called for
// a target that Set has removed, nor after Run has returned. Set waits for the
// calls for the targets that it removes; so changed may call Status and
// Trigger, but neither Set nor wait for a goroutine that does.
func New(log *slog.Logger, changed func(Target, Status)) *Checker {
	return &Checker{log: log, changed: changed, probe: probe, checks: make(map[string]*check)}
}

// Set makes targets the ones to check. Targets that the Checker has already
// keep their status and their place in time, missing ones are removed. For a
// new one, initial says whether it counts as up, and whether that is known as
// from a probe, or only holds until its first result; nil stands for up, not
// known.
func (c *Checker) Set(targets []Target, initial func(Target) (up, known bool)) {
	c.setting.Lock()
	defer c.setting.Unlock()

	want := make(map[string]bool, len(targets))
	for _, t := range targets {
		key := t.Key()
		if want[key] {
			continue
		}
		want[key] = true
		if !c.has(key) {
			c.add(key, newCheck(t, initial))
		}
	}
	for _, k := range c.remove(want) {
		k.awaitReport()
	}
}

// Recall says of the targets of some keys whether they were up before the Checker had
// them, and since when. One of which the same is known, or is found by its first result,
// is so since then. Recall is not called while Run runs.
func (c *Checker) Recall(was map[string]Past) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key, past := range was {
		if k := c.checks[key]; k != nil {
			k.past = &past
			if k.status.Known {
				k.goOn()
			}
		}
	}
}

// has reports whether there is a check of that key.
func (c *Checker) has(key string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.checks[key] != nil
}

// add gives a new check its place in time and starts it if the Checker runs.
func (c *Checker) add(key string, k *check) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k.place = place(c.places)
	c.places++
	c.checks[key] = k
	c.start(k)
}

// remove ends the checks that are not wanted and returns them.
func (c *Checker) remove(want map[string]bool) (removed []*check) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key, k := range c.checks {
		if want[key] {
			continue
		}
		delete(c.checks, key)
		k.removed = true
		if k.cancel != nil {
			k.cancel()
		}
		removed = append(removed, k)
	}
	return removed
}

// Run probes until ctx is done, waits for its goroutines and returns
// [context.Cause] of ctx. Only one Run at a time is allowed.
func (c *Checker) Run(ctx context.Context) error {
	c.mu.Lock()
	c.ctx = ctx
	for _, k := range c.checks {
		c.start(k)
	}
	c.mu.Unlock()

	<-ctx.Done()

	c.mu.Lock()
	c.ctx = nil
	c.mu.Unlock()
	c.running.Wait()
	return context.Cause(ctx)
}

// start starts a check if the Checker runs. The caller holds c.mu.
func (c *Checker) start(k *check) {
	if c.ctx == nil || k.target.Check.Type == model.CheckNone {
		return
	}
	ctx, cancel := context.WithCancel(c.ctx)
	k.cancel = cancel
	c.running.Go(func() {
		defer cancel()
		k.loop(ctx, func() (again time.Duration) { return c.try(ctx, k) })
	})
	if k.target.Check.Agent.Port != 0 {
		c.running.Go(func() { c.follow(ctx, k) })
	}
}

// try probes once and reports. It returns after what time to probe again sooner
// than usual, 0 if that is not called for.
func (c *Checker) try(ctx context.Context, k *check) (again time.Duration) {
	start := time.Now()
	limited, cancel := context.WithTimeout(ctx, k.target.Check.Timeout)
	defer cancel()
	err := c.probe(limited, k.target)
	if ctx.Err() != nil {
		return 0 // the probe failed because it was cancelled, or was too late
	}
	if isLocal(err) {
		c.log.Warn("cannot probe", "address", k.target.Address, "err", err)
		return 0 // it says nothing about the backend
	}
	k.reporting.Lock()
	defer k.reporting.Unlock()
	c.mu.Lock()
	before := k.status
	k.status.count(k.target.Check, start, err)
	k.goOn()
	after, removed := k.status, k.removed
	k.latency.Record(after.Duration, time.Now())
	k.suspect = k.suspect && err != nil && after.Up
	switch {
	case k.suspect:
		again = k.haste()
	case after.turning():
		again = k.target.Check.FastInterval
	}
	c.mu.Unlock()
	if !removed && (before.Up != after.Up || before.Known != after.Known) {
		c.report(k, after)
	}
	return again
}

// report tells of a change.
func (c *Checker) report(k *check, s Status) {
	log := c.log.With("address", k.target.Address, "check", k.target.Check.Type)
	if s.Up {
		log.Info("backend is up")
	} else {
		log.Warn("backend is down", "error", s.LastError)
	}
	if c.changed != nil {
		c.changed(k.given, s)
	}
}

// Status returns what is known of a target, false if it is not checked.
func (c *Checker) Status(t Target) (Status, bool) { return c.StatusOf(t.Key()) }

// StatusOf is [Checker.Status] for who has the target's key.
func (c *Checker) StatusOf(key string) (Status, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := c.checks[key]
	if k == nil {
		return Status{}, false
	}
	return k.status, true
}

// Probes returns what there were of the target of this key, false if it is not
// probed.
func (c *Checker) Probes(key string) (Probes, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := c.checks[key]
	if k == nil || k.target.Check.Type == model.CheckNone {
		return Probes{}, false
	}
	return Probes{k.status.Successes, k.status.Failures, &k.latency}, true
}

// Knows reports whether what the check of this key says comes from a probe, or was
// adopted.
func (c *Checker) Knows(key string) bool {
	status, _ := c.StatusOf(key)
	return status.Known
}

// Trigger probes a target at once, or again as soon as the probe under way
// ends. Its later probes stay where they are in time.
func (c *Checker) Trigger(t Target) {
	key := t.Key()
	c.mu.Lock()
	defer c.mu.Unlock()
	if k := c.checks[key]; k != nil {
		k.probeNow()
	}
}

// Suspect says that something else than a probe has seen the target of this key
// fail. If it is up, it is probed at once, but no more than once an interval for
// that; and until a probe succeeds or the target is down, one that fails is
// repeated soon, so that all that it takes to be down fail within a time-out, if
// they do so at once.
func (c *Checker) Suspect(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := c.checks[key]
	if k == nil || k.target.Check.Type == model.CheckNone || !k.status.Up {
		return
	}
	k.suspect = true
	if now := time.Now(); k.hurried.IsZero() || now.Sub(k.hurried) >= k.target.Check.Interval {
		k.hurried = now
		k.probeNow()
	}
}
