package httpproxy

import (
	"net/http"
	"strings"

	"fairlead/userspace/model"
)

// changeRequest changes the headers that backends get, last of all.
func changeRequest(r *model.Route, next http.Handler) http.Handler {
	rules := &r.RequestHeaders
	if isEmpty(rules) {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		x := exchangeOf(req.Context())
		x.prepare = append(x.prepare, func(out *http.Request) {
			change(rules, out.Header)
			if hosts := out.Header["Host"]; len(hosts) > 0 {
				out.Host = hosts[0]
				delete(out.Header, "Host")
			}
		})
		next.ServeHTTP(w, req)
	})
}

// changeAnswer changes the headers that clients get, whoever answers.
func changeAnswer(r *model.Route, next http.Handler) http.Handler {
	rules := &r.ResponseHeaders
	if isEmpty(rules) {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		next.ServeHTTP(changed(w, rules), req)
	})
}

// changed returns what changes the headers of an answer.
func changed(w http.ResponseWriter, rules *model.HeaderRules) http.ResponseWriter {
	if isEmpty(rules) {
		return w
	}
	return &tap{ResponseWriter: w, begin: func(int) sink {
		h := w.Header()
		change(rules, h)
		if h["Content-Type"] == nil {
			h["Content-Type"] = nil // or the server would guess one
		}
		return nil
	}}
}

func isEmpty(rules *model.HeaderRules) bool {
	return len(rules.Remove)+len(rules.Set)+len(rules.Add) == 0
}

// change applies rules to headers.
func change(rules *model.HeaderRules, h http.Header) {
	for _, name := range rules.Remove {
		h.Del(name)
	}
	for _, s := range rules.Set {
		h.Set(s.Name, s.Value)
	}
	for _, s := range rules.Add {
		h.Add(s.Name, s.Value)
	}
}

// say gives a request a header of ours, in place of what the client says, to which
// it cannot put an end by Connection either.
func (x *exchange) say(req *http.Request, name string, values []string) {
	set := func(r *http.Request) {
		dropAlike(r.Header, name)
		for _, v := range values {
			r.Header.Add(name, v)
		}
	}
	set(req)
	x.prepare = append(x.prepare, set)
}

// dropAlike drops a header, written with _ in place of - too, which is the same to
// many a backend.
func dropAlike(h http.Header, header string) {
	for name := range h {
		if alike(name, header) {
			delete(h, name)
		}
	}
}

func alike(a, b string) bool {
	return strings.EqualFold(strings.ReplaceAll(a, "_", "-"), strings.ReplaceAll(b, "_", "-"))
}
