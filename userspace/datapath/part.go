package datapath

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"fairlead/userspace/model"
)

// clone returns a copy of s that shares nothing with it that may change.
func (s *Service) clone() Service {
	c := *s
	c.Backends, c.Down, c.Shares = slices.Clone(s.Backends), slices.Clone(s.Down), slices.Clone(s.Shares)
	c.Clients.Allow, c.Clients.Deny = slices.Clone(s.Clients.Allow), slices.Clone(s.Clients.Deny)
	return c
}

// outside reports whether two services are the same in what a part of a plan
// takes no notice of, besides the zones of clients: who may connect, and where.
func (s *Service) outside(t *Service) bool {
	return s.Listen == t.Listen && s.LastPort == t.LastPort && s.Protocol == t.Protocol && s.Clients.Equal(&t.Clients)
}

// inside is the same of all else that the maps hold of a service.
func (s *Service) inside(t *Service) bool {
	return s.Name == t.Name && s.Forward == t.Forward && s.UserSpace() == t.UserSpace() &&
		s.OnDown == t.OnDown && s.Balance == t.Balance &&
		s.SourcePrefix == t.SourcePrefix && s.Affinity == t.Affinity && s.CookieAbove == t.CookieAbove &&
		s.Zone == t.Zone && s.ZoneThreshold == t.ZoneThreshold && s.PanicThreshold == t.PanicThreshold &&
		s.Proxy == t.Proxy && s.Local == t.Local && s.Standby == t.Standby &&
		slices.Equal(s.Backends, t.Backends) && slices.Equal(s.Down, t.Down) && slices.Equal(s.Shares, t.Shares)
}

// changed returns the indexes of the services that want has otherwise than the
// maps, which hold what done says. It returns false if more than these services
// has changed, so that only a whole plan will do.
func changed(done []planned, want *Want) (which []int, ok bool) {
	if len(done) != len(want.Services) {
		return nil, false
	}
	which = []int{}
	var zones, old *model.ClientZones // the same; many services have one
	for i := range done {
		s, d := &want.Services[i], &done[i].Service
		if s.ClientZones != d.ClientZones && (s.ClientZones != zones || d.ClientZones != old) {
			if zones, old = s.ClientZones, d.ClientZones; !zones.Equal(old) {
				return nil, false
			}
		}
		if !s.outside(d) {
			return nil, false
		}
		if !s.inside(d) {
			which = append(which, i)
		}
	}
	return which, true
}

// partPlan is makePlan for who knows that the maps hold what done says, and that
// want differs from it in some services alone: it looks at no others.
func partPlan(have *rows, want *Want, done []planned, which []int) (*plan, error) {
	p := newPlanner(have)
	p.begin(want)
	for _, i := range which {
		s, d := &want.Services[i], &done[i]
		row := s.row()
		p.byID[identity(&row)], p.backends[d.row] = d.row, d.backends
		for _, z := range have.zonesOf(&have.services[d.row]) {
			p.byID[identity(&have.services[z])], p.numbers[have.names[z]] = z, have.services[z].Zone
		}
		if _, err := p.service(s); err != nil {
			return nil, fmt.Errorf("service %s: %w", s.Name, err)
		}
		for _, b := range d.backends {
			p.endBackend(b)
		}
	}
	p.plan.devices = diff(have.devices, want.devices())
	p.plan.vips = vipChanges(have, want, done, which)
	p.plan.snat = p.sources.runs
	p.plan.which = which
	return &p.plan, nil
}

// settle returns what is done when the plan is, if done was before.
func (p *plan) settle(done []planned) []planned {
	if p.which == nil {
		return p.planned
	}
	for k, i := range p.which {
		done[i] = p.planned[k]
	}
	return done
}

// vipChanges returns what becomes of addresses when some services change. What
// they gain is new, but what they lose others may have.
func vipChanges(have *rows, want *Want, done []planned, which []int) changes[netip.Addr, uint32] {
	before, after := map[netip.Addr]uint32{}, map[netip.Addr]uint32{}
	for _, i := range which {
		done[i].addUses(before)
		want.Services[i].addUses(after)
	}
	maps.DeleteFunc(before, func(a netip.Addr, uses uint32) bool { return after[a]&uses == uses })
	if len(before) > 0 {
		for i := range want.Services {
			want.Services[i].addUsesOf(before, after)
		}
	}
	c := changes[netip.Addr, uint32]{put: map[netip.Addr]uint32{}}
	for a := range before {
		if after[a] == 0 {
			c.del = append(c.del, a)
		} else if after[a] != have.vips[a] {
			c.put[a] = after[a]
		}
	}
	for a, uses := range after {
		if _, lost := before[a]; !lost && have.vips[a]&uses != uses {
			c.put[a] = have.vips[a] | uses
		}
	}
	return c
}
