package httpcache

import (
	"net/http"
	"net/url"
	"strings"
)

// An unsafeWriter sees whether a request has changed something.
type unsafeWriter struct {
	http.ResponseWriter
	cache *Cache
	in    *http.Request
	seen  bool // the status
}

// Unwrap is for [http.ResponseController].
func (w *unsafeWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader forgets what has changed before the client knows that it has (RFC
// 9111, section 4.4).
func (w *unsafeWriter) WriteHeader(status int) {
	if !w.seen && status >= 200 {
		w.seen = true
		if status < 400 {
			w.forget()
		}
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *unsafeWriter) Write(p []byte) (int, error) {
	if !w.seen {
		w.WriteHeader(http.StatusOK)
	}
	return w.ResponseWriter.Write(p)
}

// forget makes the cache forget what the request was about, and what the answer
// says that it was about, too, as far as it is on the same host.
func (w *unsafeWriter) forget() {
	key, _ := w.cache.front.Key(w.in)
	w.cache.Purge(key)
	for _, name := range []string{"Location", "Content-Location"} {
		if other, ok := resolve(key, w.Header().Get(name)); ok {
			w.cache.Purge(other)
		}
	}
}

// resolve returns the key of what a reference leads to, from a key, if it is on the
// same host.
func resolve(key, ref string) (string, bool) {
	if ref == "" {
		return "", false
	}
	base, err := url.Parse("http://" + key)
	if err != nil {
		return "", false
	}
	u, err := base.Parse(ref)
	if err != nil || !strings.EqualFold(u.Host, base.Host) {
		return "", false
	}
	return base.Host + u.RequestURI(), true
}
