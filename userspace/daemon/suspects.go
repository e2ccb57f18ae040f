package daemon

import (
	"errors"
	"sync"
	"syscall"
	"time"

	"fairlead/userspace/datapath"
	"fairlead/userspace/health"
	"fairlead/userspace/model"
	"fairlead/userspace/view"
)

// quiet is how long nothing may be heard of a suspect that no check judges, until
// it is none any more.
const quiet = 10 * time.Second

// suspects are the backends that seem not to serve by what clients saw, although
// no probe has said so yet. Suspicion takes nobody out: it has the backend probed
// at once, and what the check makes of that decides.
type suspects struct {
	counted map[member]datapath.Troubles // by the kernel, at the last look
	dials   *dials
	now     map[member]suspicion
	looked  time.Time
	cost    time.Duration // of looking
}

// A suspicion is what made a backend suspect.
type suspicion struct {
	since, last time.Time // when it began, and was last confirmed
	troubles    datapath.Troubles
}

func newSuspects() *suspects {
	return &suspects{counted: map[member]datapath.Troubles{}, dials: newDials(), now: map[member]suspicion{}}
}

// judge returns what is thought of a backend now that troubles have come, and
// whether it is to be probed for them. ok is false if it is no suspect.
func (was suspicion) judge(s *model.Service, status health.Status, troubles datapath.Troubles) (is suspicion, ok, hint bool) {
	is, now := was, time.Now()
	hint = reaches(troubles.Unanswered+troubles.Refused, s.PassiveThreshold) || reaches(troubles.Resets, s.PassiveResets)
	switch {
	case !status.Up:
		return suspicion{}, false, false // it is known by now
	case hint && is.since.IsZero():
		is.since, is.last = now, now
	case hint:
		is.last = now
	case is.since.IsZero(), is.cleared(s, status):
		return suspicion{}, false, false
	}
	is.troubles = is.troubles.Add(troubles)
	return is, true, hint
}

// reaches says that so many signs are enough; a threshold of 0 is switched off.
func reaches(signs uint64, threshold int) bool { return threshold > 0 && signs >= uint64(threshold) }

// cleared reports whether a probe has succeeded that is later than all troubles.
// Without a check silence has to do.
func (x suspicion) cleared(s *model.Service, status health.Status) bool {
	if s.Health.Type == model.CheckNone {
		return time.Since(x.last) >= quiet
	}
	return status.LastError == "" && status.LastProbe.After(x.last)
}

// suspect looks who seems not to serve, and has them probed. It takes no more
// than a twentieth of the agent's time.
func (a *agent) suspect() {
	x := a.suspects
	if time.Since(x.looked) < 20*x.cost {
		return
	}
	x.looked = time.Now()
	come, thought := x.since(a.state, a.troubles()), x.now
	x.now = map[member]suspicion{}
	for i := range a.state.Services {
		s := &a.state.Services[i]
		for b, key := range a.roster.checks[s.Key()] {
			m := memberOf(s, s.Backends[b].Address)
			troubles := come[m]
			status, _ := a.checker.StatusOf(key)
			is, ok, hint := thought[m].judge(s, status, troubles)
			if ok {
				x.now[m] = is
			}
			if hint {
				a.log.Debug("backend is suspect", "service", s.Name, "backend", s.Backends[b], "unanswered", troubles.Unanswered, "refused", troubles.Refused, "reset", troubles.Resets)
				a.checker.Suspect(key)
			}
		}
	}
	x.cost = time.Since(x.looked)
}

// since returns the troubles that have come since the last look: failed dials, and
// what the kernel has counted, by service and backend of state. Where that is nil,
// not known, the next look has what comes until then.
func (x *suspects) since(state *model.State, counted [][]datapath.Troubles) map[member]datapath.Troubles {
	come := x.dials.take()
	if counted == nil {
		return come
	}
	before := x.counted
	x.counted = map[member]datapath.Troubles{}
	for i := range state.Services {
		s := &state.Services[i]
		for b := range s.Backends {
			m := memberOf(s, s.Backends[b].Address)
			x.counted[m] = counted[i][b]
			if was, known := before[m]; known {
				come[m] = come[m].Add(counted[i][b].Since(was))
			}
		}
	}
	return come
}

// troubles returns what the kernel has counted, nil if that is not known.
func (a *agent) troubles() [][]datapath.Troubles {
	if a.kernel == nil {
		return nil
	}
	counted, err := a.kernel.Troubles(a.state)
	if a.news("troubles", err) {
		a.log.Warn("look for backends in trouble", "err", err)
	}
	return counted
}

// view returns what makes a backend suspect, nil if nothing does.
func (x *suspects) view(m member) *view.Suspicion {
	is, ok := x.now[m]
	if !ok {
		return nil
	}
	return &view.Suspicion{Since: is.since, Unanswered: is.troubles.Unanswered, Refused: is.troubles.Refused, Resets: is.troubles.Resets}
}

// dials are those of the proxies that failed, until somebody takes them.
type dials struct {
	mu     sync.Mutex
	failed map[member]datapath.Troubles
}

func newDials() *dials { return &dials{failed: map[member]datapath.Troubles{}} }

// add counts one, from any goroutine.
func (d *dials) add(m member, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	t := datapath.Troubles{Unanswered: 1}
	if errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ECONNRESET) {
		t = datapath.Troubles{Refused: 1}
	}
	d.failed[m] = d.failed[m].Add(t)
}

func (d *dials) take() map[member]datapath.Troubles {
	d.mu.Lock()
	defer d.mu.Unlock()
	failed := d.failed
	d.failed = map[member]datapath.Troubles{}
	return failed
}
