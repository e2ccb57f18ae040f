package daemon

import (
	"crypto/tls"
	"log/slog"
	"net/netip"
	"slices"
	"sync/atomic"

	"fairlead/userspace/certs"
	"fairlead/userspace/httpcache"
	"fairlead/userspace/httpproxy"
	"fairlead/userspace/model"
	"fairlead/userspace/view"
)

// A frontHTTP is what a front of an HTTP service has.
type frontHTTP struct {
	proxy *httpproxy.Proxy
	pool  func(name string) *pool
	cache atomic.Pointer[httpcache.Cache] // nil while no route stores answers
	log   *slog.Logger
	// shown are the certificates of the service, nil if it is one without TLS.
	shown atomic.Pointer[certs.Set]
	sets  func(model.Key) *certs.Set
}

// newFrontHTTP returns one that serves s.
func newFrontHTTP(s *model.Service, o *frontOptions, admit func(netip.Addr) model.Admission) *frontHTTP {
	h := &frontHTTP{proxy: &httpproxy.Proxy{Admit: admit, Grace: o.grace, Challenge: o.challenge, Log: o.log}, pool: o.pool, sets: o.sets, log: o.log}
	if s.HTTP.TLS != nil {
		h.proxy.TLS = &tls.Config{GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			return h.shown.Load().For(hello), nil
		}}
	}
	h.use(s)
	return h
}

// use makes the routes of s decide where requests go from now on.
func (h *frontHTTP) use(s *model.Service) {
	t, err := httpproxy.NewTable(&s.HTTP, func(name string) *httpproxy.Pool { return h.pool(name).http }, h.useCache(s))
	if err != nil { // not of a configuration that was read
		h.log.Error("make routes", "service", s.Name, "err", err)
		return
	}
	h.proxy.Use(t)
	h.shown.Store(h.sets(s.Key()))
}

// useCache returns what stores answers of s, with what is stored by now, or nil.
func (h *frontHTTP) useCache(s *model.Service) httpproxy.Cache {
	if !slices.ContainsFunc(s.HTTP.Routes, func(r model.Route) bool { return r.Cache }) {
		h.cache.Store(nil)
		return nil
	}
	c := h.cache.Load()
	if c == nil {
		c = httpcache.New(httpcache.Front{Key: httpproxy.CacheKey, Answered: httpproxy.Answered, Aside: httpproxy.Aside}, &s.HTTP.Cache)
		h.cache.Store(c)
	}
	c.Use(&s.HTTP.Cache)
	return c
}

// serves reports whether the front is of the kind that a service asks for.
func (f *front) serves(s *model.Service) bool {
	if f.http != nil {
		return s.Forward == model.ForwardHTTP && (f.http.proxy.TLS != nil) == (s.HTTP.TLS != nil)
	}
	return s.Forward != model.ForwardHTTP && (f.names != nil) == (s.Forward == model.ForwardTLS)
}

func (h *frontHTTP) count(p *view.HTTP) {
	s := h.proxy.Stats()
	p.Accepted += s.Accepted
	p.Active += s.Active
	p.Denied += s.Denied
	p.SourceLimit += s.SourceLimit
	p.Requests += s.Requests
	p.Running += s.Running
	p.Broken += s.Broken
	p.NoBackend += s.NoBackend
	p.Retries += s.Retries
	p.Tunnels += s.Tunnels
	p.RateLimited += s.RateLimited
	p.Malformed += s.Malformed
	p.Unannounced += s.Unannounced
	p.Mirrored += s.Mirrored
	p.MirrorDrops += s.MirrorDrops
	for status, n := range s.Answers {
		p.Answered(status, n)
	}
	if c := h.cache.Load(); c != nil {
		s := c.Stats()
		p.Cache.Hits += s.Hits
		p.Cache.Misses += s.Misses
		p.Cache.Stale += s.Stale
		p.Cache.Revalidated += s.Revalidated
		p.Cache.Bytes += s.Bytes
		p.Cache.Pages += s.Pages
	}
}
