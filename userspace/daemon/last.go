package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"time"

	"fairlead/userspace/health"
	"fairlead/userspace/view"
)

const (
	// lastName is where a store has what was last seen.
	lastName = "backends"
	// lastEvery is how often that is kept.
	lastEvery = 10 * time.Second
	// lastFor is how long an agent tells figures of the one before: as long as the
	// time is that its own are of.
	lastFor = 5 * time.Minute
	// recallFor is how long nobody may have looked at a backend that counts as having
	// been the same meanwhile.
	recallFor = time.Minute
)

// lastSeen is what an agent leaves to the next one.
type lastSeen struct {
	// Backends are those of services and pools, by "name address".
	Backends map[string]view.Last `json:"backends"`
	Checks   lastKnown            `json:"checks,omitempty"`
}

// readLast returns what the last agent has kept, nil if there is nothing.
func (p *plane) readLast(ctx context.Context) *lastSeen {
	data, at, err := p.store.Kept(ctx, lastName)
	if data == nil && err == nil {
		return nil
	}
	var last lastSeen
	if err == nil {
		err = json.Unmarshal(data, &last)
	}
	if err != nil {
		p.log.Warn("read what was last seen of backends", "err", err)
		return nil
	}
	for key, l := range last.Backends {
		l.At = at
		last.Backends[key] = l
	}
	return &last
}

// eachBackend calls f for all backends of a view, with what tells them apart.
func eachBackend(v *view.View, f func(key string, b *view.Backend)) {
	all := func(name string, backends []view.Backend) {
		for i := range backends {
			owner := name
			if backends[i].Pool != "" {
				owner = backends[i].Pool
			}
			f(owner+" "+backends[i].Address, &backends[i])
		}
	}
	for i := range v.Services {
		all(v.Services[i].Name, v.Services[i].Backends)
	}
	for i := range v.Pools {
		all(v.Pools[i].Name, v.Pools[i].Backends)
	}
}

// addLast adds to a view what the agent before this one saw, as long as this one has
// nothing newer.
func (a *agent) addLast(v *view.View) {
	if a.last == nil {
		return
	}
	eachBackend(v, func(key string, b *view.Backend) {
		last, ok := a.last.Backends[key]
		if !ok {
			return
		}
		if b.Known {
			last.Up, last.Since = nil, time.Time{}
		}
		if b.Latency != nil || time.Since(a.started) > lastFor {
			last.Latency = nil
		}
		if last.Up != nil || last.Latency != nil {
			b.Last = &last
		}
	})
}

// seen returns what is to be kept of a view.
func seen(v *view.View, checks lastKnown) ([]byte, error) {
	last := lastSeen{Backends: map[string]view.Last{}, Checks: checks}
	eachBackend(v, func(key string, b *view.Backend) {
		last.Backends[key] = lastOf(b)
	})
	return json.Marshal(last)
}

// lastOf returns what is to be kept of a backend.
func lastOf(b *view.Backend) view.Last {
	l := view.Last{Weight: b.Weight, Share: b.Share, Latency: b.Latency}
	if b.Known {
		l.Up, l.Since = &b.Up, b.Since
	}
	return l
}

// recall has backends that are as the process before this one saw them be so since
// when they were for that one. It must have looked lately: what one has published that
// lives still, or was killed, is newer than what is kept.
func (a *agent) recall() {
	was := map[string]view.Last{}
	if v, err := view.Read(a.opts.RunDir); err == nil {
		eachBackend(&v, func(key string, b *view.Backend) {
			l := lastOf(b)
			l.At = v.Written
			was[key] = l
		})
	} else if a.last != nil {
		was = a.last.Backends
	}
	a.checker.Recall(a.roster.recall(was, time.Now()))
}

// recall returns what checks of r said, by their keys, given what was seen of backends
// and kept not too long ago. What a backend says itself is no word of its check.
func (r *roster) recall(was map[string]view.Last, now time.Time) map[string]health.Past {
	all := map[string]health.Past{}
	for _, s := range r.groups {
		for b, key := range r.checks[s.Key()] {
			l := was[s.ShownName()+" "+s.Backends[b].String()]
			if away := now.Sub(l.At); l.Up != nil && !l.Since.IsZero() && away >= 0 && away < recallFor && s.Health.Agent.Port == 0 {
				all[key] = health.Past{Up: *l.Up, Since: l.Since}
			}
		}
	}
	return all
}

// remember keeps what is seen of backends from time to time until ctx is done, and
// once more then.
func (a *agent) remember(ctx context.Context) {
	tick := time.NewTicker(lastEvery)
	defer tick.Stop()
	var kept []byte
	told := ""
	for over := false; !over; {
		select {
		case <-ctx.Done():
			over = true
		case <-tick.C:
		}
		v := a.latest.Load()
		if v == nil {
			continue
		}
		var checks lastKnown
		if c := a.checks.Load(); c != nil {
			checks = *c
		}
		data, err := seen(v, checks)
		if err == nil && (over || !bytes.Equal(data, kept)) { // at last for the time of it
			err = a.plane.store.Keep(context.WithoutCancel(ctx), lastName, data)
		}
		if errors.Is(err, errLent) {
			continue // the successor has seen more by then
		}
		if err != nil {
			if err.Error() != told {
				a.log.Warn("keep what is seen of backends", "err", err)
			}
			told = err.Error()
			continue
		}
		kept, told = data, ""
	}
}
