package httpproxy

import (
	"crypto/rand"
	"net/http"
	"regexp"

	"fairlead/userspace/model"
)

// identify gives requests an identifier, unless a trusted peer has.
func identify(r *model.Route, next http.Handler) http.Handler {
	rule := r.RequestID
	if rule == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		x, id := exchangeOf(req.Context()), req.Header.Get(rule.Header)
		if !x.trusted || !identifier.MatchString(id) {
			id = rand.Text()
		}
		x.say(req, rule.Header, []string{id})
		x.w.note.identified(id)
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

// identifier is one that can stand in a log as it is.
var identifier = regexp.MustCompile(`^[A-Za-z0-9._~+/=:@-]{1,128}$`)
