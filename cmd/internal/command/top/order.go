package top

import (
	"cmp"
	"slices"
	"strings"
)

// An order sorts services, and the backends of each.
type order struct {
	name string
	key  byte // by which it is chosen on the terminal
	by   func(Row) float64
}

// orders are all there are. By name, backends stay as they are configured.
var orders = []order{
	{"name", 'n', nil},
	{"packets", 'p', func(r Row) float64 { return rates(r).ForwardPackets + rates(r).ReplyPackets }},
	{"bytes", 'b', func(r Row) float64 { return rates(r).ForwardBytes + rates(r).ReplyBytes }},
	{"new", 'w', func(r Row) float64 { return rates(r).Flows }},
	{"flows", 'f', func(r Row) float64 { return float64(r.Live) }},
}

func rates(r Row) Rates {
	if r.Rates == nil {
		return Rates{}
	}
	return *r.Rates
}

func names() (all []string) {
	for _, o := range orders {
		all = append(all, o.name)
	}
	return all
}

func orderNames() string { return strings.Join(names(), ", ") }

// sortSample puts services and backends in order.
func sortSample(s *Sample, o order) {
	slices.SortStableFunc(s.Services, func(a, b Service) int {
		if o.by != nil {
			if c := cmp.Compare(o.by(b.Row), o.by(a.Row)); c != 0 {
				return c
			}
		}
		return cmp.Compare(a.Name, b.Name)
	})
	if o.by == nil {
		return
	}
	for i := range s.Services {
		slices.SortStableFunc(s.Services[i].Backends, func(a, b Backend) int { return cmp.Compare(o.by(b.Row), o.by(a.Row)) })
	}
}
