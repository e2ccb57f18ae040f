package config

import (
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"

	"fairlead/userspace/model"
)

// Bounds of looking names up, and how long a service with names drains by default.
const (
	minDNS        = 100 * time.Millisecond
	maxDNSTimeout = time.Minute
	dnsPort       = 53
	namesDrain    = time.Minute
)

// resolver reads how names are looked up.
func (r *reader) resolver(v value, x *model.Resolver) {
	met := r.object(v, fields{
		"servers": func(v value) {
			r.list(v, func(v value) {
				if at, ok := r.server(v); ok {
					x.Servers = append(x.Servers, at)
				}
			})
		},
		"timeout": func(v value) { r.duration(v, &x.Timeout, minDNS, maxDNSTimeout) },
		"min-ttl": func(v value) { r.duration(v, &x.MinTTL, minDNS, maxTimeout) },
		"max-ttl": func(v value) { r.duration(v, &x.MaxTTL, minDNS, maxTimeout) },
	})
	if at, ok := met["max-ttl"]; ok && x.MaxTTL < x.MinTTL {
		r.fault(at, "%s is shorter than the min-ttl of %s: raise it, or lower the min-ttl", span(x.MaxTTL), span(x.MinTTL))
	}
	x.MaxTTL = max(x.MaxTTL, x.MinTTL)
}

// server reads the address of a name server, whose port goes without saying.
func (r *reader) server(v value) (at netip.AddrPort, ok bool) {
	text, ok := r.text(v)
	if !ok {
		return at, false
	}
	host, portText, hasPort := cutPort(text)
	addr, ok := r.addr(v, text, host)
	if !ok || !hasPort {
		return netip.AddrPortFrom(addr, dnsPort), ok
	}
	port, ok := r.port(v, text, portText)
	return netip.AddrPortFrom(addr, port), ok
}

var (
	hostLabel = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?$`)
	allDigits = regexp.MustCompile(`^[0-9]+$`)
)

// hostName reports whether text is the name of a host: not only digits stand
// behind its last dot, as in a mistyped address.
func hostName(text string) bool {
	labels := strings.Split(strings.TrimSuffix(text, "."), ".")
	return len(text) <= 253 && !allDigits.MatchString(labels[len(labels)-1]) &&
		!slices.ContainsFunc(labels, func(l string) bool { return !hostLabel.MatchString(l) })
}

// nameOf returns text as a name.
func nameOf(text string) string { return strings.ToLower(strings.TrimSuffix(text, ".")) }

// srv reads the name of SRV records into b.
func (r *reader) srv(v value, b *model.Backend) bool {
	text := ""
	if r.query(v, &text); text == "" {
		return false
	}
	service, rest, _ := strings.Cut(text, ".")
	proto, _, _ := strings.Cut(rest, ".")
	if !strings.HasPrefix(service, "_") || !strings.HasPrefix(proto, "_") {
		r.fault(v, "%s is not a name of SRV records: write it like _http._tcp.example.com", quote(text))
		return false
	}
	b.Name = model.Name{Host: nameOf(text), SRV: true}
	return true
}

// secureNames has the certificates of a pool's backends with TLS and a host name be
// for that name.
func (r *reader) secureNames(s *service) {
	t := &s.http.pool.TLS
	if t.ServerName != "" || t.SkipVerify {
		return
	}
	first := true
	for i, b := range s.Backends {
		switch {
		case !b.Origin.TLS:
		case first:
			t.ServerName, first = b.Name.Host, false
		case b.Name.Host != t.ServerName:
			r.fault(s.backends[i], "%s has another name than the https backend before it, but all get one certificate's name: set server-name under backend-tls", quote(s.backends[i].Value))
		}
	}
}
