package daemon

import (
	"log/slog"
	"slices"
	"sync/atomic"

	"fairlead/userspace/httpcache"
	"fairlead/userspace/httpproxy"
	"fairlead/userspace/model"
	"fairlead/userspace/view"
)

// A frontHTTP is what a front of an HTTP service has.
type frontHTTP struct {
	proxy *httpproxy.Proxy
	pool  func(name string) *httpproxy.Pool
	cache atomic.Pointer[httpcache.Cache] // nil while no route stores answers
	log   *slog.Logger
}

// use makes the routes of s decide where requests go from now on.
func (h *frontHTTP) use(s *model.Service) {
	t, err := httpproxy.NewTable(&s.HTTP, h.pool, h.useCache(s))
	if err != nil { // not of a configuration that was read
		h.log.Error("make routes", "service", s.Name, "err", err)
		return
	}
	h.proxy.Use(t)
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
	return (f.http != nil) == (s.Forward == model.ForwardHTTP)
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
	p.Answers.Good += s.Answers[0]
	p.Answers.Elsewhere += s.Answers[1]
	p.Answers.Clients += s.Answers[2]
	p.Answers.Servers += s.Answers[3]
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
