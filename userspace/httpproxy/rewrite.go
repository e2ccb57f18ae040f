package httpproxy

import (
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"fairlead/userspace/model"
)

// rewritePath changes the path that backends are asked for.
func rewritePath(r *model.Route, next http.Handler) http.Handler {
	rule := r.Rewrite
	if rule == nil {
		return next
	}
	to := func(path string) string {
		rest, ok := cutPath(path, rule.Prefix)
		if !ok {
			return path
		}
		return strings.TrimSuffix(rule.To, "/") + rest
	}
	if rule.Regexp != "" {
		re := regexp.MustCompile(rule.Regexp)
		to = func(path string) string { return re.ReplaceAllString(path, rule.To) }
	}
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		x := exchangeOf(req.Context())
		path := tidy(x.path)
		if p := to(path); p != path {
			x.path = tidy("/" + strings.TrimLeft(p, "/"))
		}
		next.ServeHTTP(w, req)
	})
}

// cutPath returns what follows in a path after the segments of prefix, which may
// be escaped in other ways.
func cutPath(path, prefix string) (rest string, ok bool) {
	if prefix == "/" {
		return path, true
	}
	for want := range strings.SplitSeq(prefix[1:], "/") {
		if path == "" {
			return "", false
		}
		got, _, _ := strings.Cut(path[1:], "/")
		if got != want && plain(got) != plain(want) {
			return "", false
		}
		path = path[1+len(got):]
	}
	return path, true
}

// plain returns a segment without what is escaped in it.
func plain(segment string) string {
	if s, err := url.PathUnescape(segment); err == nil {
		return s
	}
	return segment
}

// reference is one to a group of a regular expression, or $$ for a dollar.
var reference = regexp.MustCompile(`\$(?:\$|\{\w+\}|\w+)`)

// redirect answers with another location.
func redirect(r *model.Route, next http.Handler) http.Handler {
	rule := r.Redirect
	if rule == nil {
		return next
	}
	re := regexp.MustCompile(rule.Regexp)
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		path := tidy(exchangeOf(req.Context()).path)
		match := re.FindStringSubmatch(path)
		if match == nil {
			next.ServeHTTP(w, req)
			return
		}
		to := reference.ReplaceAllStringFunc(rule.To, func(ref string) string {
			switch name := strings.Trim(ref[1:], "{}"); name {
			case "$":
				return "$"
			case "path":
				return path
			case "host":
				return bracketed(hostOf(req.Host))
			default:
				return string(re.ExpandString(nil, ref, path, re.FindStringSubmatchIndex(path)))
			}
		})
		if !strings.Contains(rule.To, "://") {
			to = "/" + strings.TrimLeft(to, "/") // never to another host
		}
		if u := req.URL; !strings.Contains(rule.To, "?") && (u.RawQuery != "" || u.ForceQuery) {
			to += "?" + u.RawQuery
		}
		w.Header().Set("Location", sendable(to))
		w.Header()["Content-Type"] = nil
		w.WriteHeader(rule.Status)
	})
}

// bracketed returns a host as URLs have it.
func bracketed(host string) string {
	if strings.Contains(host, ":") && host[0] != '[' {
		return "[" + host + "]"
	}
	return host
}

// sendable escapes what no URL may have.
func sendable(location string) string {
	var b strings.Builder
	for i := range len(location) {
		if c := location[i]; c <= ' ' || c >= 0x7f || strings.IndexByte("\"<>\\^`{|}", c) >= 0 {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}
