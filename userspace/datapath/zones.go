package datapath

import (
	"maps"
	"net/netip"
	"slices"

	"fairlead/loader"
	"fairlead/userspace/model"
)

// everyService is what networks have in the place of a service's row that say in
// which zone a client is: ALL_SERVICES of bpf/types.h.
const everyService = ^uint32(0)

// zoneNetworks are the networks of clients that say in which zone these are, by
// the number of the zone.
type zoneNetworks map[network]uint32

// zoneNumbers are the numbers of zones, by name. Clients of a zone are told by its
// number, which networks have before the services: so a name keeps its number.
type zoneNumbers map[string]uint32

// numbersOf returns the numbers of the zones that services have clients in: those
// that the maps have, and for the others some that nothing there has.
func (r *rows) numbersOf(services []Service) zoneNumbers {
	numbers, taken := zoneNumbers{}, map[uint32]bool{}
	for i := range r.services {
		z := &r.services[i]
		if z.State != serviceZone {
			continue
		}
		if _, known := numbers[r.names[i]]; !known && !taken[z.Zone] {
			numbers[r.names[i]] = z.Zone
		}
		taken[z.Zone] = true
	}
	for n, zone := range r.clients {
		if n.service == everyService {
			taken[zone] = true
		}
	}
	next := uint32(1)
	for i := range services {
		for _, name := range services[i].ClientZones.Names() {
			if _, known := numbers[name]; known {
				continue
			}
			for taken[next] {
				next++
			}
			numbers[name] = next
			next++
		}
	}
	return numbers
}

// add adds those that the flows of a service look up.
func (z zoneNetworks) add(s *Service, numbers zoneNumbers) {
	mixed := s.Mixed()
	for p, name := range s.ClientZones.Networks {
		if p.Addr().Is4() == s.Listen.Addr().Is4() {
			z[network{everyService, tablePrefix(p, mixed)}] = numbers[name]
		}
	}
}

// networksOf returns the networks that say in which zones the clients of
// services are. A family's are the same for all of them.
func networksOf(services []Service, numbers zoneNumbers) zoneNetworks {
	type kind struct {
		zones       *model.ClientZones
		four, mixed bool
	}
	all, done := zoneNetworks{}, map[kind]bool{}
	for i := range services {
		s := &services[i]
		if s.ClientZones == nil {
			continue
		}
		if k := (kind{s.ClientZones, s.Listen.Addr().Is4(), s.Mixed()}); !done[k] {
			done[k] = true
			all.add(s, numbers)
		}
	}
	return all
}

// tablePrefix returns a network of clients as keys have it: one of IPv4 of a
// service between families stands among those of IPv6.
func tablePrefix(p netip.Prefix, mixed bool) netip.Prefix {
	if mixed && p.Addr().Is4() {
		return netip.PrefixFrom(wide(p.Addr()), p.Bits()+v4Bits)
	}
	return p
}

// prefixOf is the reverse of tablePrefix.
func prefixOf(p netip.Prefix) netip.Prefix {
	if p.Addr().Is4In6() && p.Bits() >= v4Bits {
		return netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-v4Bits)
	}
	return p
}

// zoneRow returns the part of the row of a zone that says which one it is, and
// how its service chooses.
func (s *Service) zoneRow(number uint32) loader.Service {
	row := s.row()
	row.State, row.Zone = serviceZone, number
	s.setChoice(&row)
	return row
}

// zones returns the rows of a service's zones, the last one first: whom clients of
// each of them may get. Its own row, which is to lead to them, learns where.
func (p *planner) zones(s *Service, own *loader.Service, backends []uint32, of []tables) (rows []named, err error) {
	for k, name := range slices.Backward(s.ClientZones.Names()) {
		row := s.zoneRow(p.numbers[name])
		id, _, err := p.claim(&row)
		if err != nil {
			return nil, err
		}
		if err := p.slotTables(&row, backends, of[k+1]); err != nil {
			return nil, err
		}
		row.Zones, own.Zones = own.Zones, id+1
		rows = append(rows, named{id, row, name})
	}
	return rows, nil
}

// zonesOf returns the rows of a service's zones.
func (r *rows) zonesOf(s *loader.Service) (zones []uint32) {
	for next := s.Zones; next != 0 && int(next) <= len(r.services) && len(zones) < model.MaxClientZones; next = r.services[next-1].Zones {
		zones = append(zones, next-1)
	}
	return zones
}

// zonesByName returns the zones of a service.
func (r *rows) zonesByName(s *loader.Service) map[string]loader.Service {
	zones := map[string]loader.Service{}
	for _, row := range r.zonesOf(s) {
		zones[r.names[row]] = r.services[row]
	}
	return zones
}

// eachZone calls yield for the zones that a service has now or then, by name. One
// that it has not has no slots.
func (v *preview) eachZone(now, then *loader.Service, yield func(name string, now, then *loader.Service)) {
	before, after := v.have.zonesByName(now), v.then.zonesByName(then)
	names := slices.AppendSeq(slices.Collect(maps.Keys(before)), maps.Keys(after))
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		b, a := before[name], after[name]
		yield(name, &b, &a)
	}
}

// A ZoneView says whom clients of a zone may get.
type ZoneView struct {
	Zone  string `json:"zone"`
	Slots int    `json:"slots"` // length of its slot table
	// Networks are where its clients are, in order.
	Networks []netip.Prefix `json:"networks"`
}

// A homeKey is a zone's number, and the family of its clients there.
type homeKey struct {
	zone uint32
	is4  bool
}

// homes returns where the clients of zones are, in order.
func (r *rows) homes() map[homeKey][]netip.Prefix {
	all := map[homeKey][]netip.Prefix{}
	for n, zone := range r.clients {
		if n.service == everyService {
			p := prefixOf(n.prefix)
			at := homeKey{zone, p.Addr().Is4()}
			all[at] = append(all[at], p)
		}
	}
	for at, networks := range all {
		slices.SortFunc(networks, netip.Prefix.Compare)
		all[at] = slices.Compact(networks)
	}
	return all
}

// zoneViews returns the zones of the clients of a service, which are at homes.
func (r *rows) zoneViews(s *loader.Service, homes map[homeKey][]netip.Prefix) []ZoneView {
	var views []ZoneView
	for _, row := range r.zonesOf(s) {
		z := &r.services[row]
		v := ZoneView{r.names[row], len(r.at(z.Slots)), homes[homeKey{z.Zone, s.Addr.Addr().Is4()}]}
		if v.Networks == nil {
			v.Networks = []netip.Prefix{}
		}
		views = append(views, v)
	}
	return views
}
