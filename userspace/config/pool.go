package config

import (
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"fairlead/userspace/model"
)

// Bounds and defaults of pools.
const (
	maxRequests  = 1_000_000
	maxQueue     = 100_000
	maxAttempts  = 10
	maxFailures  = 1000
	defaultQueue = time.Second // that a request waits
	minExpiry    = time.Second
	usualExpiry  = 10 * time.Second // of what backends say
	minTime      = 10 * time.Millisecond
)

// httpKeys are the keys that only services with forward: http, and pools, have.
type httpKeys struct {
	pool     model.Pool // without its Service
	timeouts model.HTTPTimeouts
	maxBody  int64 // of routes that do not say otherwise
	http     model.HTTP
	rules    model.Rules // of routes that do not say otherwise
	routes   value
	secrets  []value // places of vault
	acme     value   // names whose certificates come over ACME
	redirect uint16  // port; of every route
	hsts     string  // of every route
	shares   []value // places of the names of pools, in the order of routes
	named    bool    // it is not a service but a pool
	own      bool    // it lists backends itself
	cached   bool    // routes that say nothing store answers
}

// newPool returns what a pool is that says nothing but its backends.
func newPool() model.Pool {
	return model.Pool{
		Retry: model.Retry{Attempts: 2, Budget: 20},
		Eject: model.Eject{Failures: 5, Time: 10 * time.Second, Most: 5 * time.Minute, Share: 50},
	}
}

// pools reads named pools into all.
func (r *reader) pools(v value, all map[string]*service) {
	r.each(v, func(key, v value) {
		if by := all[key.Value]; by != nil {
			r.fault(key, "the pool stands in %s already: use another name", r.place(by.name, key))
			return
		}
		if !nameSyntax.MatchString(key.Value) {
			r.fault(key, "%s is not a name: use 1 to 63 of a-z, 0-9 and -, a - only inside", quote(key.Value))
			return
		}
		x := remembered(r, v, "pool", func() service { return r.pool(key, v) })
		all[key.Value] = &x
	})
}

// pool reads one named pool.
func (r *reader) pool(key, v value) service {
	s := newService(model.ForwardHTTP)
	s.Name, s.name, s.http.named = key.Value, key, true
	before := len(r.faults)
	var g group
	v = r.withDefaults(v, r.poolLacks())
	met := r.object(v, r.namedFields(&s, &g))
	if len(met) == 0 && len(r.faults) > before {
		return s
	}
	r.require(v, met, "backends", noBackends)
	r.queueBelongs(met)
	r.group(met, &s, &g)
	s.SourcePrefix = 0
	return s
}

// queueBelongs finds a queue that nobody ever waits in.
func (r *reader) queueBelongs(met map[string]value) {
	at, ok := met["queue"]
	if _, bounded := met["max-requests"]; ok && !bounded {
		r.fault(at, "is of no effect without max-requests, as every request gets a backend at once: give that, too, or remove it")
	}
}

// namedFields are the keys of a named pool.
func (r *reader) namedFields(s *service, g *group) fields {
	known := fields{}
	r.groupFields(known, s, g)
	r.poolFields(known, &s.http)
	return known
}

// poolFields adds the keys of pools that other groups of backends have not.
func (r *reader) poolFields(known fields, h *httpKeys) {
	h.pool = newPool()
	p := &h.pool
	known["backend-tls"] = func(v value) { r.backendTLS(v, &p.TLS) }
	known["backend-keep-alive"] = func(v value) { r.duration(v, &p.KeepAlive, minTime, maxInterval) }
	known["http2"] = func(v value) { r.boolean(v, &p.HTTP2) }
	known["max-requests"] = func(v value) { r.number(v, &p.MaxRequests, 1, maxRequests) }
	known["queue"] = func(v value) {
		p.Queue.Timeout = defaultQueue
		met := r.object(v, fields{
			"size":    func(v value) { r.number(v, &p.Queue.Size, 1, maxQueue) },
			"timeout": func(v value) { r.duration(v, &p.Queue.Timeout, minTime, maxInterval) },
		})
		r.require(v, met, "size", "is missing: give the number of requests that may wait, such as 100")
	}
	known["retry"] = func(v value) {
		r.object(v, fields{
			"attempts": func(v value) { r.number(v, &p.Retry.Attempts, 0, maxAttempts) },
			"statuses": func(v value) { r.statuses(v, &p.Retry.Statuses) },
			"budget":   func(v value) { r.number(v, &p.Retry.Budget, 0, 100) },
		})
	}
	known["eject"] = func(v value) { r.eject(v, &p.Eject) }
	known["load-feedback"] = func(v value) { r.feedback(v, &p.Load) }
	known["sticky"] = func(v value) { r.sticky(v, &p.Sticky) }
}

func (r *reader) eject(v value, e *model.Eject) {
	met := r.object(v, fields{
		"failures":  func(v value) { r.number(v, &e.Failures, 0, maxFailures) },
		"time":      func(v value) { r.duration(v, &e.Time, minTime, maxTimeout) },
		"max-time":  func(v value) { r.duration(v, &e.Most, minTime, maxTimeout) },
		"max-share": func(v value) { r.number(v, &e.Share, 1, 100) },
	})
	if e.Most >= e.Time {
		return
	}
	if at, ok := met["max-time"]; ok {
		r.fault(at, "%s is shorter than the time of %s: raise it, or lower the time", span(e.Most), span(e.Time))
		return
	}
	e.Most = e.Time
}

// feedback reads how backends tell their load.
func (r *reader) feedback(v value, f *model.LoadFeedback) {
	f.Expiry = usualExpiry
	met := r.object(v, fields{
		"header": func(v value) {
			if r.set(v, &f.Header); f.Header != "" {
				r.headerName(v, f.Header, false) // it does not reach clients
			}
		},
		"expiry": func(v value) { r.duration(v, &f.Expiry, minExpiry, maxInterval) },
	})
	r.require(v, met, "header", "is missing: give "+model.ORCAHeader+", or a header with a number such as X-Load")
}

// statuses reads those of answers that are as good as none.
func (r *reader) statuses(v value, all *[]int) {
	r.list(v, func(v value) {
		n := 0
		switch {
		case !r.number(v, &n, 400, 599):
		case slices.Contains(*all, n):
			r.fault(v, "%d stands in the list already: remove one of the two", n)
		default:
			*all = append(*all, n)
		}
	})
}

// origin reads the URL of a backend into b.
func (r *reader) origin(v value, s *service, b *model.Backend) bool {
	text, ok := r.text(v)
	if !ok {
		return false
	}
	if s.Forward != model.ForwardHTTP {
		r.fault(v, "belongs to services with forward: http and to pools: use address")
		return false
	}
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.Hostname() == "":
		r.fault(v, "%s is not a URL: write it like http://10.0.0.1:8080 or https://10.0.0.1/prefix", r.quoteURL(text))
		return false
	case u.User != nil || strings.ContainsAny(text, "?#"):
		r.fault(v, "%s has more than a scheme, a host, a port and a path: remove the rest", r.quoteURL(text))
		return false
	}
	addr, err := netip.ParseAddr(u.Hostname())
	switch named := err != nil && hostName(u.Hostname()); {
	case named:
		b.Name.Host = nameOf(u.Hostname())
	case err != nil:
		r.fault(v, "%s has neither an address nor a name: write it like http://10.0.0.1:8080 or http://app.example.com", r.quoteURL(text))
		return false
	case addr.IsUnspecified():
		r.fault(v, "%s is no server's address: use the address that the backend has", r.quoteURL(text))
		return false
	case unfit(addr) != "":
		r.fault(v, "%s %s", r.quoteURL(text), unfit(addr))
		return false
	}
	port := uint16(80)
	if b.Origin.TLS = u.Scheme == "https"; b.Origin.TLS {
		port = 443
	}
	if u.Port() != "" {
		if port, ok = r.port(v, text, u.Port()); !ok {
			return false
		}
	}
	b.Address = netip.AddrPortFrom(addr, port)
	b.Origin.Prefix = strings.TrimRight(u.EscapedPath(), "/")
	return true
}
