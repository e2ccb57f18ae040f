package config

import (
	"cmp"
	"errors"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	"fairlead/userspace/model"
)

// Defaults of what bounds a request.
var defaultTimeouts = model.HTTPTimeouts{Connect: 3 * time.Second, FirstByte: time.Minute, Idle: 5 * time.Minute}

// httpOnly and packetsOnly are keys of services that mean nothing to the others.
var (
	httpOnly = append([]string{"routes", "trusted-proxies", "timeouts", "backend-keep-alive", "http2", "max-requests", "queue", "retry", "eject", "sticky", "load-feedback", "tls", "redirect-https", "backend-tls",
		"max-header", "max-uri", "max-body", "max-connections", "rate-limit", "cache"}, ruleKeys...)
	packetsOnly = []string{"affinity", "drain", "on-down", "passive-threshold", "passive-resets"}
	poolsOnly   = []string{"balance", "slow-start", "panic-threshold", "zone-threshold", "health", "send-proxy", "backend-keep-alive", "http2", "max-requests", "queue", "retry", "eject", "sticky", "load-feedback", "backend-tls"}
)

// httpFields adds the keys of a service with forward: http.
func (r *reader) httpFields(known fields, h *httpKeys) {
	h.timeouts = defaultTimeouts
	known["routes"] = func(v value) { h.routes = v }
	known["cache"] = func(v value) { r.cache(v, h) }
	known["timeouts"] = func(v value) { r.clientTimeouts(v, h) }
	r.boundsFields(known, h)
	r.ruleFields(known, h, &h.rules)
	known["tls"] = func(v value) { r.tls(v, h) }
	known["redirect-https"] = func(v value) { r.redirectHTTPS(v, h) }
	known["trusted-proxies"] = func(v value) {
		r.list(v, func(v value) {
			if p, ok := r.network(v); ok {
				h.http.Trusted = append(h.http.Trusted, p)
			}
		})
	}
}

// timeoutFields are those that routes have, too.
func (r *reader) timeoutFields(t *model.HTTPTimeouts) fields {
	return fields{
		"connect": r.time(&t.Connect), "first-byte": r.time(&t.FirstByte), "request": r.time(&t.Request),
		"idle": r.time(&t.Idle), "body": r.time(&t.Body),
	}
}

// time returns what reads a time-out into p.
func (r *reader) time(p *time.Duration) func(value) {
	return func(v value) { r.duration(v, p, minTime, maxTimeout) }
}

// httpBelongs finds keys that do not go with how the service forwards.
func (r *reader) httpBelongs(v value, met map[string]value, s *service) {
	_, hasBackends := met["backends"]
	routes, hasRoutes := met["routes"]
	refuse := func(keys []string, text string) { r.refuseKeys(met, keys, text) }
	if s.Forward == model.ForwardTLS {
		r.namesBelong(v, met, s)
		return
	}
	if s.Forward != model.ForwardHTTP {
		r.require(v, met, "backends", noBackends)
		refuse(httpOnly, "belongs to a service with forward: http: remove it, or set that")
		return
	}
	h := &s.http
	redirect, redirects := met["redirect-https"]
	if redirects && h.http.TLS != nil {
		r.fault(redirect, "does not belong to a service with tls: give it to the one that clients come to without")
	}
	refuse(packetsOnly, "does not belong to a service with forward: http: remove it")
	if s.Protocol == model.UDP {
		r.fault(met["forward"], "http is for TCP: remove protocol: udp")
	}
	switch {
	case hasRoutes && hasBackends:
		r.fault(routes, "stands beside backends: remove it to send all requests to these, or give them to a pool")
	case hasRoutes:
		refuse(poolsOnly, "belongs to the pools that the routes name: write it there")
	case !hasBackends && !redirects:
		r.require(v, met, "backends", "is missing: list backends, or routes that name pools")
	default:
		r.queueBelongs(met)
	}
}

func (r *reader) refuseKeys(met map[string]value, keys []string, text string) {
	for _, key := range keys {
		if at, ok := met[key]; ok {
			r.fault(at, "%s", text)
		}
	}
}

// routes reads those of a service with forward: http, or makes the one that
// leads to its own backends.
func (r *reader) routes(s *service) {
	h := &s.http
	if s.Forward != model.ForwardHTTP {
		return
	}
	defer boundCache(&h.http)
	h.http.ErrorPages, h.http.HSTS, h.http.ResponseHeaders = h.rules.ErrorPages, h.hsts, h.rules.ResponseHeaders
	fillBounds(&h.http.Bounds)
	if h.routes.Node == nil {
		own := h.newRoute()
		if own.Match = "/"; h.own {
			own.Pools = []model.Share{{Pool: s.OwnPool(), Weight: 1}}
		}
		h.http.Routes = []model.Route{own}
		return
	}
	var seen []place
	ok := r.list(h.routes, func(v value) { r.route(v, h, &seen) })
	if ok && len(h.routes.Content) == 0 {
		r.fault(h.routes, "is empty: list at least one, such as - {match: /, pool: main}")
	}
}

// newRoute returns one that does what the service says for all.
func (h *httpKeys) newRoute() model.Route {
	return model.Route{Timeouts: h.timeouts, MaxBody: h.maxBody, Rules: h.rules, RedirectHTTPS: h.redirect, HSTS: h.hsts, Cache: h.cached}
}

// A place is where the file has a route.
type place struct {
	match string
	at    value
	every bool // it has no conditions
}

func (r *reader) route(v value, h *httpKeys, seen *[]place) {
	t := h.newRoute()
	var match value
	before, shares := len(r.faults), len(h.shares)
	known := fields{
		"match": func(v value) {
			if text, ok := r.text(v); ok {
				match, t.Match = v, strings.Join(strings.Fields(text), " ")
			}
		},
		"pool": func(v value) {
			if name, ok := r.text(v); ok {
				t.Pools = []model.Share{{Pool: name, Weight: 1}}
				h.shares = append(h.shares, v)
			}
		},
		"split":    func(v value) { r.split(v, h, &t) },
		"clients":  func(v value) { t.Clients = r.routeClients(v) },
		"headers":  func(v value) { t.Headers = r.conditions(v, true) },
		"query":    func(v value) { t.Query = r.conditions(v, false) },
		"cookies":  func(v value) { t.Cookies = r.conditions(v, true) },
		"cache":    func(v value) { r.boolean(v, &t.Cache) },
		"timeouts": func(v value) { r.object(v, r.timeoutFields(&t.Timeouts)) },
		"redirect": func(v value) { t.Redirect = r.redirect(v) },

		"access":     func(v value) { r.access(v, &t.Access) },
		"rate-limit": func(v value) { r.rate(v, &t.Rate) },
		"max-body":   func(v value) { r.size(v, &t.MaxBody, 1, maxBodySize) },
	}
	r.ruleFields(known, h, &t.Rules)
	met := r.object(v, known)
	if len(met) == 0 && len(r.faults) > before {
		return
	}
	r.require(v, met, "match", "is missing: give a pattern, such as /images/ or GET example.com/")
	if !r.hasPool(v, met, &t) {
		h.shares = h.shares[:shares]
		return
	}
	if match.Node != nil && r.pattern(match, t.Match) && r.unlike(match, &t, *seen) {
		*seen = append(*seen, place{t.Match, match, !t.Conditional()})
	}
	h.http.Routes = append(h.http.Routes, t)
}

// hasPool reports whether a route says once where its requests go, or need not.
func (r *reader) hasPool(v value, met map[string]value, t *model.Route) bool {
	_, hasPool := met["pool"]
	split, hasSplit := met["split"]
	redirect, redirects := met["redirect"]
	switch {
	case hasPool && hasSplit:
		r.fault(split, "stands beside a pool: remove one of the two")
		return false
	case redirects && t.Redirect == nil: // a fault already
	case redirects && t.Redirect.Regexp == "":
		if hasPool || hasSplit {
			r.fault(redirect, "answers every request, so that none gets to a pool: remove the pool, or give it a regexp")
		}
	case !hasPool && !hasSplit:
		r.require(v, met, "pool", "is missing: name one of the pools")
	}
	return true
}

// split reads the weights of pools.
func (r *reader) split(v value, h *httpKeys, t *model.Route) {
	total, before := 0, len(r.faults)
	r.each(v, func(key, v value) {
		share := model.Share{Pool: key.Value}
		r.number(v, &share.Weight, 0, maxWeight)
		total += share.Weight
		t.Pools = append(t.Pools, share)
		h.shares = append(h.shares, key)
	})
	if total == 0 && len(r.faults) == before {
		r.fault(v, "gives no pool a weight: write it like {stable: 95, canary: 5}")
	}
}

// routeClients reads networks, of both families.
func (r *reader) routeClients(v value) (all []netip.Prefix) {
	ok := r.list(v, func(v value) {
		if p, ok := r.network(v); ok {
			all = append(all, p)
		}
	})
	if ok && len(v.Content) == 0 {
		r.fault(v, "is empty, so nobody could take the route: list at least one network, or remove the key")
	}
	return all
}

// conditions reads names and the values that they must have.
func (r *reader) conditions(v value, token bool) (all []model.Header) {
	before := len(r.faults)
	r.each(v, func(key, v value) {
		s, ok := r.text(v)
		switch {
		case !ok:
		case token && !httpguts.ValidHeaderFieldName(key.Value):
			r.fault(key, "%s is not a name: use letters, digits and -", quote(key.Value))
		case strings.EqualFold(key.Value, "host"):
			r.fault(key, "the host is part of match: write it before the path, such as example.com/")
		default:
			all = append(all, model.Header{Name: key.Value, Value: s})
		}
	})
	if len(all) == 0 && len(r.faults) == before {
		r.fault(v, "is empty: give a name and a value, such as {x-beta: yes}, or remove the key")
	}
	return all
}

// pattern finds what is wrong with a pattern by itself.
func (r *reader) pattern(v value, match string) bool {
	method, rest, ok := strings.Cut(match, " ")
	if !ok {
		method, rest = "GET", match
	}
	host, _, _ := strings.Cut(rest, "/")
	err := register(method + " " + rest)
	for cause := err; cause != nil; cause = errors.Unwrap(cause) {
		err = cause // the innermost says what it is
	}
	switch {
	case strings.HasPrefix(rest, "//") || err == nil && method == http.MethodConnect:
		r.fault(v, "%s matches nothing that could be forwarded: use another pattern", quote(match))
	case strings.ContainsRune(host, ':') || strings.ToLower(host) != host:
		r.fault(v, "%s has a host with a port or with capitals, which is compared without: write it like example.com/", quote(match))
	case err == nil && strings.ToUpper(method) != method:
		r.fault(v, "%s has a method in small letters, which clients do not send: write it like GET /images/", quote(match))
	case err != nil:
		r.fault(v, "%s is not a pattern: %v; write it like /images/, GET /images/{name} or example.com/", quote(match), err)
	default:
		return true
	}
	return false
}

// unlike finds a route before this one that takes its requests, or whose pattern
// is neither more nor less specific.
func (r *reader) unlike(v value, t *model.Route, seen []place) bool {
	for _, p := range seen {
		switch {
		case p.match == t.Match && p.every:
			r.fault(v, "%s takes every request of this pattern in %s already: write this route before it, with a condition, or remove one of the two", quote(t.Match), r.place(p.at, v))
			return false
		case p.match != t.Match && register(p.match, t.Match) != nil:
			r.fault(v, "%s conflicts with %s in %s: some requests match both, and neither is more specific; change one of the two", quote(t.Match), quote(p.match), r.place(p.at, v))
			return false
		}
	}
	return true
}

// register returns why no ServeMux can have all these patterns.
func register(patterns ...string) (err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = cause.(error) // what Handle panics with
		}
	}()
	mux := http.NewServeMux()
	for _, p := range patterns {
		mux.Handle(p, http.NotFoundHandler())
	}
	return nil
}

// linkPools puts services and pools into state, and finds routes to pools that
// are not there.
func (r *reader) linkPools(state *model.State, services []service, named map[string]*service, zone string) {
	add := func(x *service, name string) {
		p := x.http.pool
		p.Service = x.Service
		if p.Name, p.Zone = name, zone; zoned(&p.Service) {
			p.ClientZones = state.ClientZones
		}
		stickyName(&p)
		p.Listen, p.LastPort, p.Clients, p.AcceptProxy = netip.AddrPort{}, 0, model.Clients{}, model.AcceptProxy{}
		state.Pools = append(state.Pools, p)
	}
	for _, name := range slices.Sorted(maps.Keys(named)) {
		add(named[name], name)
	}
	state.Services = slices.Grow(state.Services, len(services))
	for i := range services {
		x := &services[i]
		routes := x.Forward == model.ForwardHTTP || x.Forward == model.ForwardTLS
		if p := named[x.Name]; p != nil && (!routes || x.http.own) && x.name.Node != nil {
			r.fault(x.name, "%s is a pool in %s, too: what lists backends shares its names with pools, use another one", quote(x.Name), r.place(p.name, x.name))
		}
		if !routes {
			state.Services = append(state.Services, x.Service)
			continue
		}
		for _, v := range x.http.shares {
			switch p := named[v.Value]; {
			case p == nil:
				r.fault(v, "%s is not a pool: %s%s", quote(v.Value), poolHint(v.Value, named), r.within(x, v))
			case x.Forward == model.ForwardTLS && p.asksHTTP():
				r.fault(v, "%s has keys or URLs that are about requests, which a service with forward: tls does not see: use a pool of addresses without them", quote(v.Value))
			default:
				r.notItself(x, p)
			}
		}
		if x.Forward == model.ForwardHTTP && x.http.routes.Node == nil && x.http.own {
			add(x, x.OwnPool())
		}
		s := newService(x.Forward).Service
		s.Name, s.Listen, s.LastPort, s.Clients, s.Zone = x.Name, x.Listen, x.LastPort, x.Clients, zone
		s.HTTP, s.Names, s.AcceptProxy = x.http.http, x.Names, x.AcceptProxy
		state.Services = append(state.Services, s)
	}
	slices.SortStableFunc(state.Pools, func(a, b model.Pool) int { return cmp.Compare(a.Name, b.Name) })
}

// notItself finds backends of a pool that are the service which sends to it: what it
// gets would go round and round.
func (r *reader) notItself(s, pool *service) {
	if s.listen.Node == nil {
		return
	}
	for i, b := range pool.Backends {
		if s.isAt(b.Address) {
			r.fault(pool.backends[i], "%s is service %s itself: use the address of a server", quote(pool.backends[i].Value), quote(s.Name))
		}
	}
}

// poolHint says which name may have been meant.
func poolHint(name string, named map[string]*service) string {
	if len(named) == 0 {
		return "write it under pools, at the top of the file"
	}
	known := fields{}
	for n := range named {
		known[n] = nil
	}
	return suggest(name, known)
}
