package config

import (
	"reflect"
	"slices"
	"strings"

	"fairlead/userspace/model"
)

// namesBelong finds keys that do not go with forward: tls.
func (r *reader) namesBelong(v value, met map[string]value, s *service) {
	notHTTP := slices.DeleteFunc(slices.Clone(httpOnly), func(key string) bool { return key == "routes" || slices.Contains(poolsOnly, key) })
	r.refuseKeys(met, notHTTP, "belongs to a service with forward: http: remove it, or set that")
	r.refuseKeys(met, packetsOnly, "does not belong to a service with forward: tls: remove it")
	r.refuseKeys(met, append([]string{"backends"}, poolsOnly...), "belongs to the pools that the routes name: write it there")
	if s.Protocol == model.UDP {
		r.fault(met["forward"], "tls is for TCP: remove protocol: udp")
	}
	r.require(v, met, "routes", "is missing: list names and their pools, such as - {server-name: example.com, pool: main}")
}

// nameRoutes reads the routes of a service with forward: tls.
func (r *reader) nameRoutes(s *service) {
	v := s.http.routes
	if s.Forward != model.ForwardTLS || v.Node == nil {
		return
	}
	lines := map[string]int{}
	ok := r.list(v, func(v value) {
		var t model.NameRoute
		before := len(r.faults)
		met := r.object(v, fields{
			"server-name": func(v value) {
				if !r.serverName(v, &t.Name) {
					return
				}
				if line := lines[t.Name]; line != 0 {
					r.fault(v, "%s has a route in line %d already: remove one of the two", quote(t.Name), line)
				}
				lines[t.Name] = v.Line
			},
			"pool": func(v value) {
				if r.set(v, &t.Pool); t.Pool != "" {
					s.http.shares = append(s.http.shares, v)
				}
			},
		})
		if len(met) > 0 || len(r.faults) == before {
			r.require(v, met, "server-name", `is missing: give a name, such as example.com, *.example.com, or "*" for all others`)
			r.require(v, met, "pool", "is missing: name one of the pools")
		}
		s.Names = append(s.Names, t)
	})
	if ok && len(v.Content) == 0 {
		r.fault(v, "is empty: list at least one, such as - {server-name: example.com, pool: main}")
	}
}

// serverName reads a name, or a pattern of names.
func (r *reader) serverName(v value, p *string) bool {
	text, ok := r.text(v)
	if !ok {
		return false
	}
	name := strings.ToLower(text)
	bad := func(l string) bool { return !label.MatchString(l) }
	if rest := strings.TrimPrefix(name, "*."); name != "*" && (len(rest) > 253 || slices.ContainsFunc(strings.Split(rest, "."), bad)) {
		r.fault(v, "%s is not a server name: write it like example.com, *.example.com, or \"*\" for all others", quote(text))
		return false
	}
	*p = name
	return true
}

// asksHTTP reports whether a pool has what is about requests.
func (s *service) asksHTTP() bool {
	plain := newPool()
	plain.Service = s.http.pool.Service
	return !reflect.DeepEqual(plain, s.http.pool) ||
		slices.ContainsFunc(s.Backends, func(b model.Backend) bool { return b.Origin != model.Origin{} })
}
