package config

import (
	"net/netip"
	"slices"

	"go.yaml.in/yaml/v3"

	"fairlead/userspace/model"
)

// Bounds of a cache.
const (
	minCache      = 1 << 20
	maxCache      = 1 << 40
	maxCachedBody = 128 << 20
)

// cache reads whether a service stores answers, or how.
func (r *reader) cache(v value, h *httpKeys) {
	h.http.Cache = model.DefaultCache()
	if v.Kind == yaml.ScalarNode {
		r.boolean(v, &h.cached)
		return
	}
	h.cached = true
	c := &h.http.Cache
	met := r.object(v, fields{
		"size":           func(v value) { r.size(v, &c.Size, minCache, maxCache) },
		"max-body":       func(v value) { r.size(v, &c.MaxBody, 1, maxCachedBody) },
		"stale-if-error": func(v value) { r.duration(v, &c.StaleIfError, 0, maxTimeout) },
		"purge":          func(v value) { c.Purge = r.purgers(v) },
	})
	if at, ok := met["max-body"]; ok && c.MaxBody > c.Size {
		r.fault(at, "%s is more than the size of %s: lower it, or raise the size", sizeText(c.MaxBody), sizeText(c.Size))
	}
	c.MaxBody = min(c.MaxBody, c.Size)
}

// purgers reads the networks of those who may purge.
func (r *reader) purgers(v value) (all []netip.Prefix) {
	ok := r.list(v, func(v value) {
		if p, ok := r.network(v); ok {
			all = append(all, p)
		}
	})
	if ok && len(v.Content) == 0 {
		r.fault(v, "is empty: list at least one network, such as 10.0.0.0/8, or remove the key")
	}
	return all
}

// boundCache gives a service the bounds of a cache if a route has one.
func boundCache(h *model.HTTP) {
	switch {
	case !slices.ContainsFunc(h.Routes, func(r model.Route) bool { return r.Cache }):
		h.Cache = model.Cache{}
	case h.Cache.Size == 0:
		h.Cache = model.DefaultCache()
	}
}
