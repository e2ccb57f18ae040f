package admin

import (
	"fmt"
	"slices"

	"fairlead/userspace/control"
	"fairlead/userspace/view"
)

// A health is how a backend is.
type health string

const (
	healthy   health = "healthy"
	unhealthy health = "unhealthy"
	draining  health = "draining"
	unknown   health = "unknown"
)

// statusOf says how a backend is.
func statusOf(b *view.Backend) health {
	switch {
	case b.Weight == 0 || b.Drains != nil:
		return draining
	case b.Ejected != nil || b.Known && !b.Up:
		return unhealthy
	case !b.Known:
		return unknown
	}
	return healthy
}

// A fullness is how many of a pool's backends can serve.
type fullness string

const (
	full     fullness = "full"
	degraded fullness = "degraded"
	none     fullness = "none"
	unprobed fullness = "unknown" // nobody was asked
	unused   fullness = "unused"  // no service sends to it
)

// A pool is what services send to.
type pool struct {
	name     string
	services []string
	backends []*view.Backend
}

// status says how many of the backends that are to serve can. One that was not asked
// yet counts as one that can, as it does for new flows.
func (p *pool) status() fullness {
	if len(p.services) == 0 {
		return unused
	}
	wanted, can, known := 0, 0, false
	for _, b := range p.backends {
		is := statusOf(b)
		if is == draining {
			continue
		}
		known = known || is != unknown
		if wanted++; b.Up && b.Ejected == nil {
			can++
		}
	}
	switch {
	case can == 0:
		return none
	case !known:
		return unprobed
	case can == wanted:
		return full
	}
	return degraded
}

// poolsOf returns the pools in a view, in its order.
func poolsOf(v *view.View) (all []*pool) {
	byName := map[string]*pool{}
	of := func(name, service string) *pool {
		p := byName[name]
		if p == nil {
			p = &pool{name: name}
			byName[name] = p
			all = append(all, p)
		}
		if !slices.Contains(p.services, service) {
			p.services = append(p.services, service)
		}
		return p
	}
	for i := range v.Services {
		s := &v.Services[i]
		for j := range s.Backends {
			b := &s.Backends[j]
			name := b.Pool
			if name == "" {
				name = s.Name
			}
			// Another service that sends to the pool has the same backends.
			if p := of(name, s.Name); p.services[0] == s.Name {
				p.backends = append(p.backends, b)
			}
		}
	}
	for i := range v.Pools {
		x := &v.Pools[i]
		p := &pool{name: x.Name, services: x.Services}
		for j := range x.Backends {
			p.backends = append(p.backends, &x.Backends[j])
		}
		all = append(all, p)
	}
	return all
}

// notFound is the error for a name that nothing has.
func notFound(what, name string) error {
	return fmt.Errorf("%s %q: %w", what, name, control.ErrNotFound)
}
