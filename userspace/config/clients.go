package config

import (
	"net/netip"
	"strconv"
	"strings"

	"fairlead/userspace/model"
)

// maxClientRate bounds limits: a burst times the kernel's ticks per second, at
// most 1000, must fit 32 bits.
const maxClientRate = 1_000_000

// A listed network stands in one of the two lists.
type listed struct {
	list string
	line int
}

// clients reads who may make flows of a service, whose address is known.
func (r *reader) clients(v value, s *service) {
	c := &s.Clients
	seen := map[netip.Prefix]listed{}
	r.object(v, fields{
		"allow": func(v value) {
			var ok bool
			if c.Allow, ok = r.networks(v, s, "allow", seen); ok && len(v.Content) == 0 {
				r.fault(v, "is empty, so nobody could connect: list at least one network, such as 198.51.100.0/24, or remove the key")
			}
		},
		"deny":  func(v value) { c.Deny, _ = r.networks(v, s, "deny", seen) },
		"limit": func(v value) { r.limit(v, s) },
	})
}

// networks reads a list of prefixes of a service's clients, none of which may be
// among those seen.
func (r *reader) networks(v value, s *service, list string, seen map[netip.Prefix]listed) (all []netip.Prefix, ok bool) {
	ok = r.list(v, func(v value) {
		p, ok := r.network(v)
		if !ok {
			return
		}
		have, want := family(p.Addr()), family(s.Listen.Addr())
		switch at, twice := seen[p]; {
		case have != want && s.listen.Node != nil:
			r.fault(v, "%s is %s, but the service listens on %s, so no client is in it: remove it", quote(v.Value), have, want)
		case !twice:
			seen[p] = listed{list, v.Line}
			all = append(all, p)
		case at.list == list:
			r.fault(v, "%s stands in line %d already: remove one of the two", quote(v.Value), at.line)
		default:
			r.fault(v, "%s stands in line %d, under %s, already: remove one of the two", quote(v.Value), at.line, at.list)
		}
	})
	return all, ok
}

// network reads a prefix, or an address, which is one of full length.
func (r *reader) network(v value) (netip.Prefix, bool) {
	text, ok := r.text(v)
	if !ok {
		return netip.Prefix{}, false
	}
	p, err := netip.ParsePrefix(text)
	if !strings.Contains(text, "/") {
		var a netip.Addr
		a, err = netip.ParseAddr(text)
		p = netip.PrefixFrom(a, a.BitLen())
	}
	switch {
	case err != nil:
		r.fault(v, "%s is not a network: %s", quote(text), likeNetwork)
	case p.Addr().Is4In6() || p.Addr().Zone() != "":
		r.fault(v, "%s %s", quote(text), unfit(p.Addr()))
	case p != p.Masked():
		r.fault(v, "%s has bits beyond its length: write %s for the network, or %s for the address", quote(text), p.Masked(), p.Addr())
	default:
		return p, true
	}
	return netip.Prefix{}, false
}

// limitPrefixes are the bounds of the prefix that a limit counts by, and its
// default. A shorter one is not what one client comes from; of IPv6 one client
// usually has a /64 to choose addresses from.
var limitPrefixes = map[string]struct{ least, most, usual int }{
	"IPv4": {8, 32, 32},
	"IPv6": {32, 128, 64},
	"":     {8, 128, 32}, // the service's address is at fault already
}

// limit reads how many flows each network may make of a service.
func (r *reader) limit(v value, s *service) {
	bounds := limitPrefixes[family(s.Listen.Addr())]
	limit := model.Limit{Prefix: bounds.usual}
	before := len(r.faults)
	met := r.object(v, fields{
		"rate":   func(v value) { r.number(v, &limit.Rate, 1, maxClientRate) },
		"burst":  func(v value) { r.number(v, &limit.Burst, 1, maxClientRate) },
		"prefix": func(v value) { r.limitPrefix(v, &limit.Prefix, bounds.least, bounds.most) },
	})
	if len(met) > 0 || len(r.faults) == before {
		r.require(v, met, "rate", "is missing: give the connections that each network may open in a second, such as 100")
	}
	if limit.Burst == 0 {
		limit.Burst = min(2*limit.Rate, maxClientRate)
	}
	s.Clients.Limit = limit
}

// limitPrefix reads the length of the prefixes that a limit counts by.
func (r *reader) limitPrefix(v value, p *int, least, most int) {
	if n, err := strconv.Atoi(v.Value); err == nil && 0 <= n && n < least {
		r.fault(v, "/%d is so large a network that one client could use up what millions share: use a length from %d to %d", n, least, most)
		return
	}
	r.number(v, p, least, most)
}
