package config

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
	"golang.org/x/net/http/httpguts"

	"fairlead/userspace/model"
)

// Bounds and defaults of sticky sessions.
const (
	maxLifetime     = 400 * 24 * time.Hour // what browsers keep a cookie for at most
	defaultLifetime = time.Hour
	minKey          = 16 // characters
)

var stickyBys = []model.StickyBy{model.StickyCookie, model.StickyHeader, model.StickySource}

// stickyKeys names what each key belongs to; the others belong to all.
var stickyKeys = map[string][]model.StickyBy{
	"name": {model.StickyCookie, model.StickyHeader},
	"path": {model.StickyCookie}, "domain": {model.StickyCookie}, "same-site": {model.StickyCookie},
	"http-only": {model.StickyCookie}, "secure": {model.StickyCookie}, "key": {model.StickyCookie},
}

// sticky reads by what requests come back, by itself or with options.
func (r *reader) sticky(v value, s *model.Sticky) {
	*s = model.Sticky{Path: "/", SameSite: model.SameSiteLax, HTTPOnly: true}
	var met map[string]value
	if before := len(r.faults); v.Kind == yaml.MappingNode {
		met = r.object(v, r.stickyFields(s))
		r.require(v, met, "by", "is missing: use "+oneOf(stickyBys))
		for key, at := range met {
			if of := stickyKeys[key]; s.By != "" && of != nil && !slices.Contains(of, s.By) {
				r.fault(at, "does not belong to sessions by %s: remove it, or use %s", s.By, oneOf(of))
			}
		}
		if len(r.faults) > before {
			return
		}
	} else if !enum(r, v, &s.By, stickyBys) {
		return
	}
	if _, ok := met["name"]; s.By == model.StickyHeader && !ok {
		r.fault(v.at("name", v.Node), "is missing: give the header's name, such as {by: header, name: X-Session}")
	}
	if s.By != model.StickyCookie {
		if s.Path, s.SameSite, s.HTTPOnly = "", "", false; s.Lifetime == 0 {
			s.Lifetime = defaultLifetime
		}
		return
	}
	r.cookieFits(met, s)
}

func (r *reader) stickyFields(s *model.Sticky) fields {
	return fields{
		"by": func(v value) { enum(r, v, &s.By, stickyBys) },
		"name": func(v value) {
			r.set(v, &s.Name)
			switch {
			case s.Name == "":
			case !httpguts.ValidHeaderFieldName(s.Name):
				r.fault(v, "%s is not a name: use letters, digits and -", quote(s.Name))
			case strings.EqualFold(s.Name, "host"):
				r.fault(v, "the host cannot be it: use a header that tells clients apart")
			}
		},
		"lifetime": func(v value) {
			if r.duration(v, &s.Lifetime, minTimeout, maxLifetime) && s.Lifetime%time.Second != 0 {
				r.fault(v, "%s is not in whole seconds: use %s", quote(v.Value), span(s.Lifetime.Truncate(time.Second)))
			}
		},
		"path": func(v value) {
			if r.set(v, &s.Path); s.Path != "" && (s.Path[0] != '/' || (&http.Cookie{Name: "x", Path: s.Path}).Valid() != nil) {
				r.fault(v, "%s is not a path for cookies: begin it with /, without ; and control characters", quote(s.Path))
			}
		},
		"domain": func(v value) {
			if r.set(v, &s.Domain); s.Domain != "" && (&http.Cookie{Name: "x", Domain: s.Domain}).Valid() != nil {
				r.fault(v, "%s is not a domain: write it like example.com", quote(s.Domain))
			}
		},
		"same-site": func(v value) {
			enum(r, v, &s.SameSite, []model.SameSite{model.SameSiteLax, model.SameSiteStrict, model.SameSiteNone})
		},
		"http-only": func(v value) { r.boolean(v, &s.HTTPOnly) },
		"secure":    func(v value) { enum(r, v, &s.Secure, []model.Secure{model.SecureYes, model.SecureNo}) },
		"key": func(v value) {
			if r.set(v, &s.Key); s.Key != "" && len(s.Key) < minKey {
				r.fault(v, "has %d characters: give it at least %d that nobody can guess", len(s.Key), minKey)
			}
		},
	}
}

// cookieFits finds cookies that browsers do not take.
func (r *reader) cookieFits(met map[string]value, s *model.Sticky) {
	lower := strings.ToLower(s.Name)
	switch {
	case s.Secure == model.SecureYes:
	case s.SameSite == model.SameSiteNone:
		r.fault(met["same-site"], "none is for cookies that are sent over TLS only: set secure: true, or use lax")
	case strings.HasPrefix(lower, "__secure-"), strings.HasPrefix(lower, "__host-"):
		r.fault(met["name"], "%s is a name of cookies that are sent over TLS only: set secure: true, or use another name", quote(s.Name))
	}
	if strings.HasPrefix(lower, "__host-") && (s.Domain != "" || s.Path != "/") {
		r.fault(met["name"], "%s is a name of cookies without a domain and with the path /: remove these keys, or use another name", quote(s.Name))
	}
}

// stickyName fills in the name of a pool's cookies: each pool has its own, since
// one client may come to several.
func stickyName(p *model.Pool) {
	if p.Sticky.By == model.StickyCookie && p.Sticky.Name == "" {
		p.Sticky.Name = "fairlead-" + strings.ReplaceAll(p.Name, "/", ".")
	}
}
