package config

import (
	"net/http"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"

	"fairlead/userspace/model"
)

// rewrite reads how paths are changed.
func (r *reader) rewrite(v value) *model.Rewrite {
	var w model.Rewrite
	var to value
	before := len(r.faults)
	met := r.object(v, fields{
		"prefix": func(v value) { r.prefix(v, &w.Prefix) },
		"regexp": func(v value) { r.regexp(v, &w.Regexp) },
		"to":     func(v value) { to = v; r.set(v, &w.To) },
	})
	if len(r.faults) > before {
		return nil
	}
	_, hasPrefix := met["prefix"]
	expression, hasRegexp := met["regexp"]
	switch {
	case hasPrefix && hasRegexp:
		r.fault(expression, "stands beside a prefix: remove one of the two")
	case !hasPrefix && !hasRegexp:
		r.require(v, met, "prefix", "is missing: give the first part of paths, such as /api, or a regexp")
	case w.To == "":
		r.require(v, met, "to", "is missing: give what is put in its place, such as / or /v1")
	case w.To[0] != '/' || strings.ContainsAny(w.To, "?# ") || !httpguts.ValidHeaderFieldValue(w.To):
		r.fault(to, "%s is not a path: begin it with /, without ?, # and blanks; the query stays as it is", quote(w.To))
	case hasRegexp:
		r.references(to, w.To, w.Regexp)
	}
	return &w
}

// prefix reads the first segments of paths.
func (r *reader) prefix(v value, p *string) {
	r.path(v, p)
	switch clean := strings.TrimSuffix(*p, "/"); {
	case *p == "":
	case strings.Contains(*p, "?") || *p != "/" && path.Clean(*p) != clean:
		r.fault(v, "%s is not how paths are compared: write it without empty segments, dot segments and a query", quote(*p))
	case *p != "/":
		*p = clean
	}
}

func (r *reader) regexp(v value, p *string) {
	s, ok := r.text(v)
	if !ok {
		return
	}
	if _, err := regexp.Compile(s); err != nil {
		r.fault(v, `%s is not a regular expression: %v; write it like "^/old/(.*)$"`, quote(s), strings.TrimPrefix(err.Error(), "error parsing regexp: "))
		return
	}
	*p = s
}

var reference = regexp.MustCompile(`\$(\$|\{\w+\}|\w+)?`)

// references finds those in a text that name no group of a regular expression and
// none of others.
func (r *reader) references(v value, text, expression string, others ...string) {
	re, err := regexp.Compile(expression)
	if err != nil {
		return // a fault already
	}
	for _, m := range reference.FindAllStringSubmatch(text, -1) {
		name := strings.Trim(m[1], "{}")
		n, err := strconv.Atoi(name)
		switch {
		case name == "$" || err == nil && n <= re.NumSubexp() || slices.Contains(others, name):
		case name == "":
			r.fault(v, "%s has a $ that names nothing: write $1, ${name} or, for a dollar, $$", quote(text))
		case re.SubexpIndex(name) < 0:
			r.fault(v, "%s names %s, which is no group of the regexp: write ${1} where letters or digits follow, and $$ for a dollar", quote(text), m[0])
		}
	}
}

var redirects = []int{http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect}

// redirect reads where clients are sent.
func (r *reader) redirect(v value) *model.Redirect {
	d := model.Redirect{Status: http.StatusTemporaryRedirect}
	var to value
	before := len(r.faults)
	met := r.object(v, fields{
		"regexp": func(v value) { r.regexp(v, &d.Regexp) },
		"to":     func(v value) { to = v; r.set(v, &d.To) },
		"status": func(v value) {
			if r.number(v, &d.Status, 301, 308) && !slices.Contains(redirects, d.Status) {
				r.fault(v, "%d is no redirect: use 301, 302, 303, 307 or 308", d.Status)
			}
		},
	})
	r.require(v, met, "to", "is missing: give a location, such as https://www.example.com$path")
	if len(r.faults) > before {
		return nil
	}
	r.location(to, d.To)
	r.references(to, d.To, d.Regexp, "path", "host")
	return &d
}

// hosts is what may stand for one in a location: requests must not be able to lead
// clients elsewhere.
var hosts = regexp.MustCompile(`^https?://(?:\$host|\$\{host\}|[A-Za-z0-9._\[\]-][A-Za-z0-9._:\[\]-]*)(?::[0-9]+)?(?:[/?]|\$path\b|\$\{path\}|$)`)

func (r *reader) location(v value, to string) {
	_, err := url.Parse(reference.ReplaceAllString(to, "/x"))
	switch {
	case err != nil || strings.ContainsAny(to, " #") || !httpguts.ValidHeaderFieldValue(to) || strings.HasPrefix(to, "//"):
		r.fault(v, "%s is not a location: write it like /new$path or https://www.example.com/$1", quote(to))
	case strings.Contains(to, "://") && !hosts.MatchString(to):
		r.fault(v, "%s has no host that is certain: write a name or $host after http:// or https://, and a / before $1", quote(to))
	case to[0] != '/' && to[0] != '$' && !strings.Contains(to, "://"):
		r.fault(v, "%s is not a location: begin it with /, $path, http:// or https://", quote(to))
	}
}
