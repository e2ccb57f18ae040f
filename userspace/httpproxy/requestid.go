package httpproxy

import (
	"crypto/rand"
	"net/http"
	"strings"

	"fairlead/userspace/model"
)

// identify gives requests an identifier, unless a trusted peer has.
func identify(r *model.Route, next http.Handler) http.Handler {
	rule := r.RequestID
	if rule == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		id := req.Header.Get(rule.Header)
		if !exchangeOf(req.Context()).trusted || !isIdentifier(id) {
			id = rand.Text()
		}
		dropAlike(req.Header, rule.Header)
		req.Header.Set(rule.Header, id)
		if rule.Answer {
			h := w.Header()
			w = &tap{ResponseWriter: w, begin: func(int) sink {
				h.Set(rule.Header, id)
				return nil
			}}
		}
		next.ServeHTTP(w, req)
	})
}

// isIdentifier reports whether s can stand in a log as it is.
func isIdentifier(s string) bool {
	const most = 128
	return s != "" && len(s) <= most && strings.IndexFunc(s, func(c rune) bool {
		return !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.ContainsRune("-._~+/=:@", c))
	}) < 0
}
