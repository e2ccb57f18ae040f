package config

import (
	"net/netip"
	"strconv"
	"strings"

	"fairlead/userspace/model"
)

// Bounds of limits. A burst times the kernel's ticks per second, at most 1000,
// must fit 32 bits. A shorter prefix is not what one client comes from.
const (
	maxClientRate  = 1_000_000
	minLimitPrefix = 8
)

// A listed network stands in one of the two lists.
type listed struct {
	list string
	line int
}

// clients reads who may make flows.
func (r *reader) clients(v value, c *model.Clients) {
	seen := map[netip.Prefix]listed{}
	r.object(v, fields{
		"allow": func(v value) {
			var ok bool
			if c.Allow, ok = r.networks(v, "allow", seen); ok && len(v.Content) == 0 {
				r.fault(v, "is empty, so nobody could connect: list at least one network, such as 198.51.100.0/24, or remove the key")
			}
		},
		"deny":  func(v value) { c.Deny, _ = r.networks(v, "deny", seen) },
		"limit": func(v value) { r.limit(v, &c.Limit) },
	})
}

// networks reads a list of prefixes, none of which may be among those seen.
func (r *reader) networks(v value, list string, seen map[netip.Prefix]listed) (all []netip.Prefix, ok bool) {
	ok = r.list(v, func(v value) {
		p, ok := r.network(v)
		if !ok {
			return
		}
		switch at, twice := seen[p]; {
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

// network reads a prefix, or an address, which is one of length 32.
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
		r.fault(v, "%s is not a network: write it like 198.51.100.0/24, or 198.51.100.7 for one address", quote(text))
	case !p.Addr().Is4():
		r.fault(v, "%s is IPv6, which is not supported by this version: use an IPv4 network", quote(text))
	case p != p.Masked():
		r.fault(v, "%s has bits beyond its length: write %s for the network, or %s for the address", quote(text), p.Masked(), p.Addr())
	default:
		return p, true
	}
	return netip.Prefix{}, false
}

// limit reads how many flows each network may make.
func (r *reader) limit(v value, l *model.Limit) {
	limit := model.Limit{Prefix: 32}
	before := len(r.faults)
	met := r.object(v, fields{
		"rate":   func(v value) { r.number(v, &limit.Rate, 1, maxClientRate) },
		"burst":  func(v value) { r.number(v, &limit.Burst, 1, maxClientRate) },
		"prefix": func(v value) { r.limitPrefix(v, &limit.Prefix) },
	})
	if len(met) > 0 || len(r.faults) == before {
		r.require(v, met, "rate", "is missing: give the connections that each network may open in a second, such as 100")
	}
	if limit.Burst == 0 {
		limit.Burst = min(2*limit.Rate, maxClientRate)
	}
	*l = limit
}

// limitPrefix reads the length of the prefixes that a limit counts by.
func (r *reader) limitPrefix(v value, p *int) {
	if n, err := strconv.Atoi(v.Value); err == nil && 0 <= n && n < minLimitPrefix {
		r.fault(v, "/%d is so large a network that one client could use up what millions share: use a length from %d to 32", n, minLimitPrefix)
		return
	}
	r.number(v, p, minLimitPrefix, 32)
}
