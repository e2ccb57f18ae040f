package daemon

import (
	"net/netip"
	"reflect"
	"sync"

	"fairlead/userspace/datapath"
	"fairlead/userspace/health"
	"fairlead/userspace/model"
)

// A roster says which check judges each backend of a state. It does not change.
type roster struct {
	state    *model.State
	groups   []*model.Service // of state: its services, and its pools behind them
	targets  []health.Target
	checks   map[model.Key][]string // keys of checks, by index of a service's backends
	services map[string][]int       // indexes of groups, by key of a check
}

func newRoster(state *model.State) *roster { return (&roster{}).next(state) }

// next returns the roster of a state that may differ little from that of r.
func (r *roster) next(state *model.State) *roster {
	before := map[model.Key]*model.Service{}
	for _, s := range r.groups {
		before[s.Key()] = s
	}
	n := &roster{state: state, groups: state.Groups(), checks: map[model.Key][]string{}, services: map[string][]int{}}
	n.targets = make([]health.Target, 0, len(r.targets))
	for i, s := range n.groups {
		n.add(i, s, before[s.Key()], r.checks[s.Key()])
	}
	return n
}

// add adds the i-th group, which had some checks before, by their keys, if it was
// there.
func (r *roster) add(i int, s, was *model.Service, had []string) {
	known := map[netip.AddrPort]string{}
	if was != nil && reflect.DeepEqual(was.Health, s.Health) {
		for b := range was.Backends {
			known[was.Backends[b].Address] = had[b]
		}
	}
	keys := make([]string, len(s.Backends))
	for b := range s.Backends {
		t := target(s, b)
		if keys[b] = known[s.Backends[b].Address]; keys[b] == "" {
			keys[b] = t.Key()
		}
		r.targets = append(r.targets, t)
		if at := r.services[keys[b]]; len(at) == 0 || at[len(at)-1] != i {
			r.services[keys[b]] = append(at, i)
		}
	}
	r.checks[s.Key()] = keys
}

// sameChecks reports whether two rosters have the same checks.
func (r *roster) sameChecks(o *roster) bool {
	if len(r.services) != len(o.services) {
		return false
	}
	for key := range r.services {
		if o.services[key] == nil {
			return false
		}
	}
	return true
}

// target is what is checked for a backend of a service.
func target(s *model.Service, backend int) health.Target {
	t := health.Target{Address: s.Backends[backend].Address, Check: s.Health}
	if t.Address.Port() == 0 && t.Check.Port == 0 {
		t.Check.Port = s.Listen.Port()
	}
	return t
}

// A standing is what a check knows of a backend.
type standing struct {
	down  bool
	known bool // by probes
}

// inherit returns what old knew of targets of r, given the keys of the checks
// that say down, and whether one has probed: a check that changes makes no
// backend of its service new. Who was down stays so until the first result; who
// was seen to be up, until as many probes have failed as the new check wants.
// New backends are as their check has it.
func (r *roster) inherit(old *roster, isDown map[string]bool, known func(key string) bool) func(health.Target) (up, known bool) {
	before := map[model.Key]*model.Service{}
	for _, s := range old.groups {
		before[s.Key()] = s
	}
	had := map[string]standing{}
	for _, s := range r.groups {
		was := before[s.Key()]
		if was == nil {
			continue
		}
		stood := map[netip.AddrPort]standing{}
		for b, key := range old.checks[s.Key()] {
			stood[was.Backends[b].Address] = standing{isDown[key], was.Health.Type != model.CheckNone && known(key)}
		}
		for b, key := range r.checks[s.Key()] {
			if x, ok := stood[s.Backends[b].Address]; ok {
				had[key] = standing{had[key].down || x.down, had[key].known || x.known}
			}
		}
	}
	return func(t health.Target) (up, known bool) {
		x, stays := had[t.Key()]
		return !x.down && (stays || t.Check.Initial != model.InitialDown), !x.down && x.known
	}
}

// look returns the keys of the checks that say down now.
func (r *roster) look(c *health.Checker) map[string]bool {
	down := map[string]bool{}
	for key := range r.services {
		if isDown(c, key) {
			down[key] = true
		}
	}
	return down
}

func isDown(c *health.Checker, key string) bool {
	status, ok := c.StatusOf(key)
	return ok && !status.Serves()
}

// down returns which backends of a service of r are down, by index, given the
// keys of the checks that say so.
func (r *roster) down(keys map[string]bool) func(*model.Service) []bool {
	return func(s *model.Service) []bool {
		down := make([]bool, len(s.Backends))
		for i, key := range r.checks[s.Key()] {
			down[i] = keys[key]
		}
		return down
	}
}

// adopt returns what a target counts as when an agent starts, as its check has it:
// by what the kernel knows of health from a former agent, and by what that one has
// kept of its checks.
func (r *roster) adopt(known [][]datapath.Health, kept lastKnown) func(health.Target) (up, ok bool) {
	byKey := map[string]datapath.Health{}
	for i := range known {
		for b, h := range known[i] {
			if h != datapath.HealthUnknown {
				byKey[r.checks[r.state.Services[i].Key()][b]] = h
			}
		}
	}
	return func(t health.Target) (up, ok bool) {
		key := t.Key()
		h := byKey[key]
		switch t.Check.Initial {
		case model.InitialUp:
			return true, false
		case model.InitialDown:
			return false, false
		case model.InitialLast:
			if up, ok := kept[digestOf(key)]; ok && h == datapath.HealthUnknown {
				return up, true
			}
		}
		return h != datapath.HealthDown, h != datapath.HealthUnknown
	}
}

// A mailbox collects the keys of checks whose result has changed.
type mailbox struct {
	mu   sync.Mutex
	keys map[string]bool
	// ready holds one element while there are keys.
	ready chan struct{}
}

func newMailbox() *mailbox {
	return &mailbox{keys: map[string]bool{}, ready: make(chan struct{}, 1)}
}

// put never blocks: the checker waits for it.
func (m *mailbox) put(key string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.keys[key] = true
	select {
	case m.ready <- struct{}{}:
	default: // it is said already
	}
}

func (m *mailbox) take() map[string]bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	keys := m.keys
	m.keys = map[string]bool{}
	return keys
}
