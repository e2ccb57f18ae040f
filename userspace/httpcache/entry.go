package httpcache

import (
	"net/http"
	"slices"
	"strings"
	"time"
)

// An entry is an answer that is stored. It does not change.
type entry struct {
	scope     string
	selectors []selector
	status    int
	header    http.Header // without Age
	body      []byte
	modified  time.Time // Last-Modified; zero if there is none

	received time.Time
	initial  time.Duration // its age then
	lifetime time.Duration

	// ask says that it may not be used before its backend was asked, must and
	// shared that it may not be when it is stale: shared because of s-maxage,
	// which directives that allow it outweigh.
	ask, must, shared, immutable bool
	whileRevalidate, ifError     time.Duration // after its lifetime
	// bridging is until when a stale entry is used because backends have failed.
	bridging time.Time
}

// longest bounds how long an answer is fresh that does not say it.
const longest = 24 * time.Hour

// notStored are headers that are another's at each use (RFC 9111, section 3.1).
var notStored = []string{"Age", "Connection", "Proxy-Authenticate", "Proxy-Authentication-Info", "Proxy-Authorization"}

// notUpdated are headers of a 304 that are about a body which it has not.
var notUpdated = []string{"Content-Length", "Content-Encoding", "Content-Range", "Content-Md5", "Content-Digest"}

// assess returns what is to be stored of an answer to q, without its body, or
// false if it must not be (RFC 9111, section 3) or is of no use.
func (q *query) assess(status int, h http.Header, asked, now time.Time) (*entry, bool) {
	d := parseControl(h["Cache-Control"])
	selectors, ok := q.selectors(h["Vary"])
	switch {
	case !ok || !d.allow(status, h) || len(h["Trailer"]) > 0:
		return nil, false
	case q.authorized && !d.shared() && !d.has("must-revalidate"):
		return nil, false
	case q.judged != nil && !d.shared() && !q.tells(selectors):
		return nil, false // a backend may know users by what it is told, and nothing of a cache
	case len(h["Set-Cookie"]) > 0 && !d.shared():
		return nil, false // a session of one client is not another's
	}
	e := &entry{
		scope: q.scope, selectors: selectors, status: status, header: keep(h, d), received: now,
		ask: d.whole("no-cache"), must: d.has("must-revalidate") || d.has("proxy-revalidate"),
		shared: d.has("s-maxage"), immutable: d.has("immutable"),
	}
	e.whileRevalidate, _ = d.seconds("stale-while-revalidate")
	e.ifError, _ = d.seconds("stale-if-error")
	e.modified, _ = http.ParseTime(h.Get("Last-Modified"))
	date, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		date = now
	}
	if len(h["Date"]) == 0 {
		e.header.Set("Date", now.UTC().Format(http.TimeFormat))
	}
	e.initial = max(now.Sub(date), ageOf(h["Age"])+now.Sub(asked), 0)
	e.lifetime = lifetime(d, h, status, date)
	usable := e.lifetime+e.whileRevalidate > e.initial && !e.ask
	return e, usable || e.hasValidator()
}

// keep returns the headers to store.
func keep(h http.Header, d directives) http.Header {
	kept := h.Clone()
	for _, name := range notStored {
		delete(kept, name)
	}
	for _, name := range []string{"no-cache", "private"} {
		for _, field := range splitList([]string{d[name]}) {
			kept.Del(field)
		}
	}
	return kept
}

// ageOf returns what Age says. If that is not one number the answer may be old:
// RFC 9111 would have it ignored, which is the less careful choice.
func ageOf(lines []string) time.Duration {
	if len(lines) == 0 {
		return 0
	}
	if len(lines) == 1 {
		if t, ok := parseSeconds(strings.TrimSpace(lines[0])); ok {
			return t
		}
	}
	return maxSeconds * time.Second
}

// lifetime returns how long an answer is fresh, from its date on (RFC 9111,
// section 4.2.1).
func lifetime(d directives, h http.Header, status int, date time.Time) time.Duration {
	for _, name := range []string{"s-maxage", "max-age"} {
		if t, ok := d.seconds(name); ok {
			return t
		}
	}
	if lines := h["Expires"]; len(lines) > 0 {
		expires, err := http.ParseTime(lines[0])
		if err != nil || slices.ContainsFunc(lines, func(l string) bool { return l != lines[0] }) {
			return 0
		}
		return min(max(expires.Sub(date), 0), maxSeconds*time.Second)
	}
	modified, err := http.ParseTime(h.Get("Last-Modified"))
	if err != nil || !d.has("public") && !slices.Contains(heuristic, status) {
		return 0
	}
	return min(max(date.Sub(modified)/10, 0), longest)
}

// hasValidator reports whether a backend can be asked for changes.
func (e *entry) hasValidator() bool { return e.header.Get("Etag") != "" || !e.modified.IsZero() }

// age returns how old the entry is (RFC 9111, section 4.2.3).
func (e *entry) age(now time.Time) time.Duration { return e.initial + max(now.Sub(e.received), 0) }

// left returns how long the entry will be fresh; negative: has been stale.
func (e *entry) left(now time.Time) time.Duration { return e.lifetime - e.age(now) }

// merge returns the headers of an entry after its backend has sent those of h
// about it.
func (e *entry) merge(h http.Header, now time.Time) http.Header {
	merged := e.header.Clone()
	merged.Set("Date", now.UTC().Format(http.TimeFormat))
	for name, values := range h {
		switch {
		case slices.Contains(notUpdated, name):
		case name == "Etag" && merged.Get("Etag") != "": // it is what was asked with
		default:
			merged[name] = values
		}
	}
	return merged
}

// refreshed returns the entry as it is after such headers, and false if it may not
// be stored any more.
func (q *query) refreshed(e *entry, h http.Header, asked, now time.Time) (*entry, bool) {
	merged := e.merge(h, now)
	n, ok := q.assess(e.status, merged, asked, now)
	if !ok {
		once := *e
		once.header, once.received, once.initial = keep(merged, nil), now, 0
		return &once, false
	}
	n.body = e.body
	return n, true
}

// weight returns how much memory the entry takes, about.
func (e *entry) weight() uint64 {
	n := cap(e.body) + len(e.scope) + overhead
	for name, values := range e.header {
		n += len(name) + 64
		for _, v := range values {
			n += len(v) + 16
		}
	}
	for _, s := range e.selectors {
		n += len(s.name) + len(s.value) + 32
	}
	return uint64(n)
}

// overhead is what an entry takes besides, and a page without any.
const overhead = 512
