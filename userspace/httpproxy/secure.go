package httpproxy

import (
	"net"
	"net/http"
	"strconv"
	"strings"

	"fairlead/userspace/model"
)

const httpsPort = 443

// secure reports whether the client has come with TLS, to us or to a trusted peer.
func (x *exchange) secure() bool {
	return x.in.TLS != nil || x.trusted && strings.EqualFold(x.in.Header.Get("X-Forwarded-Proto"), "https")
}

// redirectHTTPS sends who comes without TLS to the same page with it.
func redirectHTTPS(r *model.Route, next http.Handler) http.Handler {
	if r.RedirectHTTPS == 0 {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		x := exchangeOf(req.Context())
		switch {
		case x.secure():
			next.ServeHTTP(w, req)
		case req.Host == "":
			refuse(w, http.StatusBadRequest)
		default:
			w.Header().Set("Location", "https://"+authority(req.Host, r.RedirectHTTPS)+x.target())
			w.WriteHeader(http.StatusPermanentRedirect)
		}
	})
}

// authority returns a Host header with another port.
func authority(host string, port uint16) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
		if strings.ContainsRune(name, ':') {
			host = "[" + name + "]"
		}
	}
	if port == httpsPort {
		return host
	}
	return host + ":" + strconv.Itoa(int(port))
}

// target returns path and query as the client wrote them.
func (x *exchange) target() string {
	if x.in.URL.RawQuery != "" || x.in.URL.ForceQuery {
		return x.path + "?" + x.in.URL.RawQuery
	}
	return x.path
}

// setHSTS says in answers over TLS for how long clients shall not come without.
func setHSTS(r *model.Route, next http.Handler) http.Handler {
	if r.HSTS == "" {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		next.ServeHTTP(strictly(w, req, r.HSTS), req)
	})
}

// strictly returns what gives answers to a request that came over TLS this header of
// HSTS, if there is one.
func strictly(w http.ResponseWriter, req *http.Request, value string) http.ResponseWriter {
	if value == "" || req.TLS == nil {
		return w
	}
	return &strict{ResponseWriter: w, value: value}
}

// A strict writer gives answers the header of HSTS.
type strict struct {
	http.ResponseWriter
	value string
	wrote bool // the header
}

func (w *strict) WriteHeader(status int) {
	if status >= http.StatusOK {
		w.wrote = true
		w.Header().Set("Strict-Transport-Security", w.value)
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *strict) Write(b []byte) (int, error) {
	if !w.wrote {
		w.WriteHeader(http.StatusOK)
	}
	return w.ResponseWriter.Write(b)
}

// Unwrap is for [http.ResponseController].
func (w *strict) Unwrap() http.ResponseWriter { return w.ResponseWriter }
