package config

import (
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	"fairlead/userspace/model"
)

// Bounds and defaults of health checks.
const (
	minInterval     = 10 * time.Millisecond
	maxInterval     = time.Hour
	defaultInterval = 2 * time.Second
	defaultTimeout  = time.Second
	maxCount        = 100
	defaultRise     = 2
	defaultFall     = 3
)

var checkTypes = []model.CheckType{
	model.CheckNone, model.CheckTCP, model.CheckHTTP, model.CheckHTTPS,
	model.CheckUDP, model.CheckDNS, model.CheckGRPC, model.CheckExec,
}

// checkKeys names the types of check that each key belongs to. Every type but
// none has the keys that are not listed.
var checkKeys = map[string][]model.CheckType{
	"method":      {model.CheckHTTP, model.CheckHTTPS},
	"path":        {model.CheckHTTP, model.CheckHTTPS},
	"host":        {model.CheckHTTP, model.CheckHTTPS, model.CheckGRPC},
	"headers":     {model.CheckHTTP, model.CheckHTTPS},
	"status":      {model.CheckHTTP, model.CheckHTTPS},
	"expect":      {model.CheckHTTP, model.CheckHTTPS, model.CheckUDP},
	"send":        {model.CheckUDP},
	"skip-verify": {model.CheckHTTPS},
	"tls":         {model.CheckHTTPS},
	"query":       {model.CheckDNS},
	"service":     {model.CheckGRPC},
	"command":     {model.CheckExec},
}

// health reads the check of s; v has no node if there is none.
func (r *reader) health(v value, s *service) model.Check {
	c := model.Check{Type: model.CheckTCP}
	if s.Protocol == model.UDP {
		c.Type = model.CheckNone
	}
	var met map[string]value
	before := len(r.faults)
	if v.Node != nil {
		met = r.object(v, r.checkFields(&c))
		if len(met) == 0 && len(r.faults) > before {
			return c
		}
		if _, ok := met["type"]; !ok && s.Protocol == model.UDP {
			r.fault(v.at("type", v.Node), "is missing: use %s", oneOf(checkTypes))
			return c
		}
	}
	if c.Type == "" { // a fault already
		return c
	}
	r.belong(v, met, c.Type)
	if c.Type == model.CheckNone {
		return c
	}
	r.rhythm(met, &c)
	r.probe(v, met, &c, s)
	return c
}

// checkFields reads the keys of every type of check.
func (r *reader) checkFields(c *model.Check) fields {
	known := fields{
		"type": func(v value) {
			if !enum(r, v, &c.Type, checkTypes) {
				c.Type = ""
			}
		},
		"method": func(v value) { r.method(v, &c.Method) },
		"port": func(v value) {
			if s, ok := r.text(v); ok {
				c.Port, _ = r.port(v, s, s)
			}
		},
		"path":        func(v value) { r.path(v, &c.Path) },
		"host":        func(v value) { r.host(v, &c.Host) },
		"headers":     func(v value) { c.Headers = r.headers(v) },
		"status":      func(v value) { r.healthy(v, &c.Statuses) },
		"expect":      func(v value) { r.set(v, &c.Expect) },
		"send":        func(v value) { r.set(v, &c.Send) },
		"skip-verify": func(v value) { r.boolean(v, &c.SkipVerify) },
		"tls":         func(v value) { r.backendTLS(v, &c.TLS) },
		"query":       func(v value) { r.query(v, &c.Query) },
		"service":     func(v value) { r.set(v, &c.Service) },
		"command":     func(v value) { c.Command = r.command(v) },
	}
	r.rhythmFields(known, c)
	return known
}

// belong finds keys that mean nothing to a check of type t.
func (r *reader) belong(v value, met map[string]value, t model.CheckType) {
	for key, at := range met {
		types, ok := checkKeys[key]
		switch {
		case key == "type":
		case t == model.CheckNone:
			r.fault(at, "does not belong to a check of type none: remove it, or set another type")
		case ok && !slices.Contains(types, t):
			r.fault(at, "does not belong to a check of type %s: remove it, or use type %s", t, oneOf(types))
		}
	}
}

// probe fills in and checks what a probe says, by the type of the check.
func (r *reader) probe(v value, met map[string]value, c *model.Check, s *service) {
	switch c.Type {
	case model.CheckHTTP, model.CheckHTTPS:
		if c.Path == "" {
			c.Path = "/"
		}
		if len(c.Statuses) == 0 {
			c.Statuses = []model.StatusRange{{Min: 200, Max: 399}}
		}
		if at, ok := met["expect"]; ok && c.Method == http.MethodHead {
			r.fault(at, "does not go with method: HEAD, which has no body: remove one of the two")
		}
		_, hasTLS := met["tls"]
		if at, ok := met["skip-verify"]; ok && hasTLS {
			r.fault(at, "stands beside tls: write it there")
		}
	case model.CheckDNS:
		if c.Query == "" {
			c.Query = "."
		}
	case model.CheckUDP:
		r.require(v, met, "send", "is missing: give the text that the backend answers to")
	case model.CheckExec:
		r.require(v, met, "command", `is missing: give the program and its arguments, such as ["/usr/bin/test", "-e", "/run/ok"]`)
	}
	if c.Port != 0 || met["port"].Node != nil {
		return
	}
	for i, b := range s.Backends {
		hasPort := func(b model.Backend) bool { return b.Address.Port() != 0 || b.Name.SRV }
		if hasPort(b) {
			continue
		}
		if slices.ContainsFunc(s.Backends, hasPort) {
			r.fault(s.backends[i], "%s has no port to check while other backends have: give it one, or set health.port", quote(s.backends[i].Value))
			return
		}
		c.Port = s.Listen.Port()
	}
}

func (r *reader) path(v value, p *string) {
	s, ok := r.text(v)
	if !ok {
		return
	}
	if _, err := url.ParseRequestURI(s); err != nil || s[0] != '/' || strings.ContainsAny(s, " #") {
		r.fault(v, "%s is not a path: begin it with / and write %%20 for a blank", quote(s))
		return
	}
	*p = s
}

func (r *reader) host(v value, p *string) {
	s, ok := r.text(v)
	if ok && !httpguts.ValidHostHeader(s) {
		r.fault(v, "%s is not a host name: write it like www.example.com", quote(s))
		return
	}
	*p = s
}

// badHeaderValue does not quote the value, which may be a secret.
const badHeaderValue = "is not a header value: write it in one line, without control characters"

func (r *reader) headers(v value) (headers []model.Header) {
	names := map[string]int{}
	r.each(v, func(key, v value) {
		s, ok := r.text(v)
		name := strings.ToLower(key.Value)
		switch {
		case !ok:
			return
		case name == "host":
			r.fault(key, "the host header has a key of its own: use host beside headers")
		case !httpguts.ValidHeaderFieldName(key.Value):
			r.fault(key, "%s is not a header name: use letters, digits and -", quote(key.Value))
		case !httpguts.ValidHeaderFieldValue(s):
			r.fault(v, badHeaderValue)
		case names[name] != 0:
			r.fault(key, "the header stands in line %d already: remove one of the two", names[name])
		default:
			names[name] = key.Line
			headers = append(headers, model.Header{Name: key.Value, Value: s})
		}
	})
	return headers
}

var label = regexp.MustCompile(`^[A-Za-z0-9_-]{1,63}$`)

func (r *reader) query(v value, p *string) {
	s, ok := r.text(v)
	if !ok {
		return
	}
	*p = s
	name := strings.TrimSuffix(s, ".")
	bad := func(l string) bool { return !label.MatchString(l) }
	if s != "." && (len(name) > 253 || slices.ContainsFunc(strings.Split(name, "."), bad)) {
		r.fault(v, "%s is not a domain name: write it like www.example.com", quote(s))
	}
}

func (r *reader) command(v value) (words []string) {
	ok := r.list(v, func(v value) {
		if len(words) > 0 && v.Value == "" && v.Style != 0 { // "" is a good argument
			words = append(words, "")
			return
		}
		if s, ok := r.text(v); ok {
			if len(words) == 0 {
				r.program(v, s)
			}
			words = append(words, s)
		}
	})
	if ok && len(v.Content) == 0 {
		r.fault(v, "is empty: give the program and its arguments")
	}
	return words
}
