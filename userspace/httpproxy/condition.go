package httpproxy

import (
	"net/http"
	"slices"

	"fairlead/userspace/model"
)

// takes reports whether the conditions of a route hold.
func (r *route) takes(x *exchange) bool {
	if !r.Conditional() {
		return true
	}
	if len(r.Clients) > 0 && !within(x.client, r.Clients) {
		return false
	}
	return hold(r.Headers, x.in.Header.Values) && hold(r.Query, queryOf(x.in)) && hold(r.Cookies, cookiesOf(x.in))
}

// hold reports whether each name has the value that it must have, or one at all.
func hold(conditions []model.Header, values func(name string) []string) bool {
	for _, c := range conditions {
		all := values(c.Name)
		if len(all) == 0 || c.Value != model.AnyValue && !slices.Contains(all, c.Value) {
			return false
		}
	}
	return true
}

func queryOf(r *http.Request) func(string) []string {
	return func(name string) []string { return r.URL.Query()[name] }
}

func cookiesOf(r *http.Request) func(string) []string {
	return func(name string) (all []string) {
		for _, c := range r.CookiesNamed(name) {
			all = append(all, c.Value)
		}
		return all
	}
}
