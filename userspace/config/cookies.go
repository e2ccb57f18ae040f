package config

import "fairlead/userspace/model"

// maxCookieAbove bounds the SYNs in a second that a service takes itself.
const maxCookieAbove = 10_000_000

// cookies reads above which rate SYNs are answered with cookies.
func (r *reader) cookies(v value, above *int) {
	before := len(r.faults)
	met := r.object(v, fields{
		"above": func(v value) { r.number(v, above, 1, maxCookieAbove) },
	})
	if len(met) > 0 || len(r.faults) == before {
		r.require(v, met, "above", "is missing: give the new connections in a second that are still no attack, such as 5000")
	}
}

// cookiesBelong finds SYN cookies of services that cannot have them.
func (r *reader) cookiesBelong(met map[string]value, s *service) {
	v, has := met["syn-cookies"]
	switch {
	case !has:
	case s.Protocol == model.UDP:
		r.fault(v, "does not belong to a UDP service: remove it")
	case s.Forward.UserSpace():
		r.fault(v, "does not belong to a service with forward: %s, whose SYNs are the kernel's: remove it", s.Forward)
	case s.UserSpace():
		r.fault(v, "does not belong to a service with %s, which the proxy serves: remove it", s.ByProxyProtocol())
	case s.listen.Node != nil && s.Listen.Port() != s.LastPort:
		r.fault(v, "does not belong to a service with a range of ports: remove it, or make services of one port each")
	}
}
