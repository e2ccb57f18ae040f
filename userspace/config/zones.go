package config

import (
	"net/netip"
	"slices"

	"fairlead/userspace/model"
)

// clientZones reads in which zones networks of clients are; it returns nil where
// there are none.
func (r *reader) clientZones(v value) *model.ClientZones {
	networks := map[netip.Prefix]string{}
	lines := map[netip.Prefix]int{}
	zones := 0
	r.each(v, func(key, v value) {
		var zone string
		if !r.word(key, &zone) {
			return
		}
		if zones++; zones == model.MaxClientZones+1 {
			r.fault(key, "is one zone more than the %d that there may be: put some of them together", model.MaxClientZones)
		}
		ok := r.list(v, func(v value) {
			p, ok := r.network(v)
			switch {
			case !ok:
			case lines[p] != 0:
				r.fault(v, "%s stands in line %d already: remove one of the two", quote(v.Value), lines[p])
			default:
				lines[p], networks[p] = v.Line, zone
			}
		})
		if ok && len(v.Content) == 0 {
			r.fault(v, "is empty: list at least one network, such as 198.51.100.0/24, or remove the zone")
		}
	})
	if len(networks) == 0 {
		return nil
	}
	return model.NewClientZones(networks)
}

// zoned reports whether some backend of a service has a zone.
func zoned(s *model.Service) bool {
	return slices.ContainsFunc(s.Backends, func(b model.Backend) bool { return b.Zone != "" })
}
