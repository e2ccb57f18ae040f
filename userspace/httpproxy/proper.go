package httpproxy

import (
	"net/http"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// isProper reports whether a request is one that can be sent on as HTTP/1.1 and still
// say the same. What net/http has let pass is not: of HTTP/2 it looks at little more
// than frames.
func isProper(r *http.Request) bool {
	// A name that is no token would be refused by the transport, as if a backend had failed.
	delete(r.Trailer, "")
	for name := range r.Trailer {
		if !httpguts.ValidHeaderFieldName(name) {
			return false
		}
	}
	return httpguts.ValidHeaderFieldName(r.Method) && httpguts.ValidHostHeader(r.Host) && isTarget(r.RequestURI) &&
		(r.ProtoMajor == 1 || isConsistent(r))
}

// isTarget reports whether a request of a server may ask for this. Where a server ends
// the path at a #, it would serve another one than the route is for.
func isTarget(uri string) bool {
	if strings.ContainsAny(uri, " #") {
		return false
	}
	if strings.HasPrefix(uri, "/") {
		return true
	}
	scheme, _, ok := strings.Cut(uri, "://")
	return ok && (is([]byte(scheme), "http") || is([]byte(scheme), "https"))
}

// isConsistent reports whether a request of HTTP/2 says only one thing of its host and
// its length, and takes the header away that says the host once more.
func isConsistent(r *http.Request) bool {
	for _, host := range r.Header["Host"] {
		if !strings.EqualFold(host, r.Host) {
			return false
		}
	}
	delete(r.Header, "Host")
	for _, text := range r.Header["Content-Length"] {
		if n, ok := number([]byte(text), 10); !ok || int64(n) != r.ContentLength {
			return false
		}
	}
	return true
}
