package config

import (
	"fmt"
	"net/url"
	"strings"
	"time"

	"golang.org/x/crypto/bcrypt"

	"fairlead/userspace/model"
)

// Bounds and defaults of who may pass, and of mirrors.
const (
	maxUsers       = 1 << 20 // bytes of their file
	maxCost        = 14      // of bcrypt: about a second
	defaultVerdict = 5 * time.Second
	maxMirrorBody  = 16 << 20
	maxMirrors     = 10_000
)

func (r *reader) requestID(v value) *model.RequestID {
	id := model.RequestID{Header: "X-Request-Id"}
	r.object(v, fields{
		"header": func(v value) {
			if name, ok := r.text(v); ok && r.headerName(v, name, false) {
				id.Header = name
			}
		},
		"answer": func(v value) { r.boolean(v, &id.Answer) },
	})
	return &id
}

// basicAuth reads the users who may pass.
func (r *reader) basicAuth(v value) *model.BasicAuth {
	a := model.BasicAuth{Realm: "restricted"}
	met := r.object(v, fields{
		"users": func(v value) { a.Users = r.users(v) },
		"realm": func(v value) {
			if r.set(v, &a.Realm); strings.ContainsFunc(a.Realm, func(c rune) bool { return c < ' ' || c > '~' }) {
				r.fault(v, "%s has more than letters, digits and signs of ASCII: use these", quote(a.Realm))
			}
		},
	})
	r.require(v, met, "users", "is missing: name a file that htpasswd -B makes")
	return &a
}

// users reads a file of names and hashes.
func (r *reader) users(v value) (all []model.User) {
	file, text, ok := r.content(v, maxUsers)
	if !ok {
		return nil
	}
	lines := map[string]int{}
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		name, hash, _ := strings.Cut(line, ":")
		why := ""
		cost, err := bcrypt.Cost([]byte(hash))
		switch {
		case name == "":
			why = "has no name before a colon: write it with htpasswd -B"
		case lines[name] != 0:
			why = fmt.Sprintf("has the name of line %d: remove one of the two", lines[name])
		case err != nil:
			why = "has no hash of bcrypt: write it with htpasswd -B"
		case cost > maxCost:
			why = fmt.Sprintf("has a hash of cost %d, which takes too long: use %d or less", cost, maxCost)
		}
		if why != "" {
			r.fault(v, "line %d of %s %s", i+1, file, why)
			return nil
		}
		lines[name] = i + 1
		all = append(all, model.User{Name: name, Hash: hash})
	}
	if len(all) == 0 {
		r.fault(v, "%s has no users: add one with htpasswd -B", file)
	}
	return all
}

// forwardAuth reads who is asked whether requests may pass.
func (r *reader) forwardAuth(v value) *model.ForwardAuth {
	a := model.ForwardAuth{Timeout: defaultVerdict}
	met := r.object(v, fields{
		"url": func(v value) {
			text, ok := r.text(v)
			if !ok {
				return
			}
			u, err := url.Parse(text)
			if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.Fragment != "" || u.User != nil {
				r.fault(v, "%s is not a URL: write it like http://10.0.0.1:9000/check", r.quoteURL(text))
			}
			a.URL = text
		},
		"headers": func(v value) {
			a.Headers = r.some(v, func(v value, s *string) bool {
				var ok bool
				*s, ok = r.text(v)
				return ok && r.headerName(v, *s, false)
			})
		},
		"timeout": func(v value) { r.duration(v, &a.Timeout, minTime, maxInterval) },
	})
	r.require(v, met, "url", "is missing: give where to ask, such as http://10.0.0.1:9000/check")
	return &a
}

// mirror reads who gets copies of requests.
func (r *reader) mirror(v value, h *httpKeys) *model.Mirror {
	m := model.Mirror{Percent: 100, MaxBody: 64 << 10, Most: 100}
	met := r.object(v, fields{
		"pool": func(v value) {
			if r.set(v, &m.Pool); m.Pool != "" {
				h.shares = append(h.shares, v)
			}
		},
		"percent":      func(v value) { r.number(v, &m.Percent, 1, 100) },
		"max-body":     func(v value) { r.number(v, &m.MaxBody, 0, maxMirrorBody) },
		"max-requests": func(v value) { r.number(v, &m.Most, 1, maxMirrors) },
	})
	r.require(v, met, "pool", "is missing: name one of the pools")
	return &m
}
