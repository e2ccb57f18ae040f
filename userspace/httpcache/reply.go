package httpcache

import (
	"bytes"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// replyUnasked is reply with what no backend has just said to be good.
func (c *Cache) replyUnasked(w http.ResponseWriter, r *http.Request, e *entry, detail string) {
	if e.left(time.Now()) <= 0 {
		c.stale.Add(1)
	}
	c.reply(w, r, e, detail)
}

// reply answers with an entry, or with as much of it as the client asks for;
// detail is what Cache-Status says.
func (c *Cache) reply(w http.ResponseWriter, r *http.Request, e *entry, detail string) {
	now, h := time.Now(), w.Header()
	left, part := e.left(now), partOf(r.Header)
	copyHeader(h, e.header)
	if len(e.header["Content-Type"]) == 0 {
		h["Content-Type"] = nil // or the server would guess one
	}
	h.Set("Age", strconv.FormatInt(int64(e.age(now)/time.Second), 10))
	addStatus(h, detail+"; ttl="+strconv.FormatInt(int64(left/time.Second), 10))
	switch {
	case e.status == http.StatusOK && e.satisfies(r.Header):
		for _, name := range []string{"Content-Length", "Content-Type", "Content-Encoding"} {
			h.Del(name)
		}
		w.WriteHeader(http.StatusNotModified)
	case e.status == http.StatusOK && r.Method == http.MethodGet && part != "":
		in := &http.Request{Method: http.MethodGet, Header: http.Header{"Range": {part}, "If-Range": r.Header["If-Range"]}}
		http.ServeContent(partWriter{w}, in, "", e.modified, bytes.NewReader(e.body))
	default:
		if e.status != http.StatusNoContent {
			h.Set("Content-Length", strconv.Itoa(len(e.body)))
		}
		w.WriteHeader(e.status)
		if r.Method != http.MethodHead {
			_, _ = w.Write(e.body) // a client that is gone is no concern of the cache
		}
	}
}

// partOf returns the range of bytes that a client asks for, "" for several, and for
// those of another unit (RFC 9110, section 14.2).
func partOf(h http.Header) string {
	unit, part, ok := strings.Cut(strings.Join(h["Range"], ","), "=")
	if !ok || !strings.EqualFold(unit, "bytes") || strings.Contains(part, ",") {
		return ""
	}
	return "bytes=" + part
}

// A partWriter takes away what would have others keep that there is no such part.
type partWriter struct{ http.ResponseWriter }

func (w partWriter) WriteHeader(status int) {
	if status == http.StatusRequestedRangeNotSatisfiable {
		w.Header().Del("Expires")
	}
	w.ResponseWriter.WriteHeader(status)
}

// satisfies reports whether a client has what the entry is (RFC 9110, section
// 13.1; RFC 9111, section 4.3.2).
func (e *entry) satisfies(h http.Header) bool {
	if tags := splitList(h["If-None-Match"]); len(tags) > 0 {
		own := e.header.Get("Etag")
		return slices.ContainsFunc(tags, func(t string) bool {
			return t == "*" || own != "" && strings.TrimPrefix(t, "W/") == strings.TrimPrefix(own, "W/")
		})
	}
	since, err := http.ParseTime(h.Get("If-Modified-Since"))
	if err != nil {
		return false
	}
	modified := e.modified
	if modified.IsZero() {
		modified, err = http.ParseTime(e.header.Get("Date"))
	}
	return err == nil && !modified.After(since)
}

// addStatus appends what this cache says to Cache-Status (RFC 9211).
func addStatus(h http.Header, detail string) { h.Add("Cache-Status", "fairlead; "+detail) }

func copyHeader(to, from http.Header) {
	for name, values := range from {
		to[name] = append(to[name], values...)
	}
}
