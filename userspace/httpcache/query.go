package httpcache

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"fairlead/userspace/model"
)

// A query is what a request asks of the cache.
type query struct {
	key        string // of what it is about
	scope      string // in which answers are shared
	method     string
	header     http.Header
	control    directives
	authorized bool
	judged     *model.ForwardAuth // who said that it may pass; may be nil
}

// query returns what r asks for by a route that is identified so.
func (c *Cache) query(r *http.Request, route *model.Route, id string) *query {
	key, scope := c.front.Key(r)
	return &query{
		key: key, scope: scope + " " + id, method: r.Method, header: r.Header, control: parseControl(r.Header["Cache-Control"]),
		authorized: r.Header.Get("Authorization") != "" || route.BasicAuth != nil, judged: route.ForwardAuth,
	}
}

// How an entry may be used.
type use int

const (
	notAtAll use = iota
	asFresh
	asStale // while another is fetched, if nobody fetches it already
)

// judge returns how an entry may be used now, and why not (RFC 9111, section 4;
// the word is of RFC 9211).
func (q *query) judge(e *entry, now time.Time) (use, string) {
	left := e.left(now)
	if q.control.has("no-cache") {
		return notAtAll, "request"
	}
	if most, ok := q.control.seconds("max-age"); ok && e.age(now) > most && (!e.immutable || left <= 0) {
		return notAtAll, "request"
	}
	if least, _ := q.control.seconds("min-fresh"); left > 0 && left < least {
		return notAtAll, "request"
	}
	switch {
	case e.ask || left <= 0 && e.must:
		return notAtAll, "stale"
	case left > 0 || left+q.maxStale() > 0 && !e.shared || now.Before(e.bridging):
		return asFresh, ""
	case left+e.whileRevalidate > 0:
		return asStale, ""
	}
	return notAtAll, "stale"
}

// maxStale returns how stale an answer may be for the client.
func (q *query) maxStale() time.Duration {
	if value, ok := q.control["max-stale"]; ok && value == "" {
		return maxSeconds * time.Second
	}
	t, _ := q.control.seconds("max-stale")
	return t
}

// bridges reports whether an entry may be used in place of an answer with a status
// of a server that cannot serve; none is how long if no backend has answered and
// the entry does not say (RFC 9111, section 4.2.4; RFC 5861, section 4).
func (q *query) bridges(e *entry, status int, answered bool, none time.Duration, now time.Time) bool {
	switch status {
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
	case http.StatusInternalServerError:
		if !answered {
			return false
		}
	default:
		return false
	}
	if e.ask || e.must || q.control.has("no-cache") {
		return false
	}
	asked, _ := q.control.seconds("stale-if-error")
	if answered {
		none = 0
	}
	if e.shared {
		asked, none = 0, 0
	}
	return e.left(now)+max(e.ifError, asked, none) > 0
}

// bypasses reports whether only a backend can answer, and nothing may be stored.
func (q *query) bypasses() bool {
	return q.control.has("no-store") || len(q.header["If-Match"]) > 0 || len(q.header["If-Unmodified-Since"]) > 0
}

// conditions are headers by which a client asks for less than all.
var conditions = []string{"If-None-Match", "If-Modified-Since", "If-Range", "Range"}

// asksForAll reports whether the answer will be a whole one.
func (q *query) asksForAll() bool {
	return q.method == http.MethodGet && !slices.ContainsFunc(conditions, func(name string) bool { return len(q.header[name]) > 0 })
}

// A selector is a header that an answer depends on, and the value that it had.
type selector struct{ name, value string }

// hidden are headers that clients cannot know, as backends see them.
var hidden = []string{"Forwarded", "X-Forwarded-For", "X-Real-Ip"}

// selectors returns those that Vary names with the values of q, or false if no
// other request could have the answer.
func (q *query) selectors(vary []string) (all []selector, ok bool) {
	for _, name := range splitList(vary) {
		name = http.CanonicalHeaderKey(name)
		if name == "*" || slices.Contains(hidden, name) {
			return nil, false
		}
		all = append(all, selector{name, q.selecting(name)})
	}
	return all, true
}

// selecting returns the value of a header, in one form for all that mean the same.
func (q *query) selecting(name string) string {
	lines, ok := q.header[name]
	if !ok {
		return "\x00" // not what an empty one is
	}
	value := strings.Join(splitList(lines), ",")
	switch name {
	case "Accept-Encoding", "Accept-Language":
		return strings.ToLower(strings.ReplaceAll(value, " ", ""))
	}
	return value
}

// selects reports whether an entry is for such requests.
func (q *query) selects(e *entry) bool {
	return e.scope == q.scope && !slices.ContainsFunc(e.selectors, func(s selector) bool { return q.selecting(s.name) != s.value })
}

// tells reports whether an answer with such selectors is another one wherever
// forward-auth has said something else.
func (q *query) tells(selectors []selector) bool {
	return len(q.judged.Headers) > 0 && !slices.ContainsFunc(q.judged.Headers, func(name string) bool {
		return !slices.ContainsFunc(selectors, func(s selector) bool { return strings.EqualFold(s.name, name) })
	})
}
