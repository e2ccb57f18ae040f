package httpproxy

import (
	"fmt"
	"net"
	"net/http"
	"net/url"
	"path"
	"strings"
)

// pathOf returns the path of a request as the client wrote it.
func pathOf(r *http.Request) string {
	p, _, _ := strings.Cut(r.RequestURI, "?")
	if strings.HasPrefix(p, "/") {
		return p
	}
	_, p, _ = strings.Cut(p, "://") // http://host/path, as to a proxy
	if i := strings.IndexByte(p, '/'); i >= 0 {
		return p[i:]
	}
	return "/"
}

// locate sets the path that u is written with to p, byte for byte. It returns
// false if [url.URL] cannot hold it: two slashes first, and further on what no
// URL may have.
func locate(u *url.URL, p string) bool {
	if !strings.HasPrefix(p, "//") {
		u.Opaque = p
		return true
	}
	var err error
	u.RawPath = p
	u.Path, err = url.PathUnescape(p)
	return err == nil && u.EscapedPath() == p
}

// shadow returns a request for the route of r, which a ServeMux neither redirects
// for its path nor takes for another one: without dot segments, empty ones, and
// bytes that ought to be escaped. What is escaped without need stays so, but for
// dots.
func shadow(r *http.Request, p string) *http.Request {
	p = tidy(p)
	plain, err := url.PathUnescape(p)
	if err != nil {
		plain = p
	}
	return &http.Request{Method: r.Method, Host: hostOf(r.Host), URL: &url.URL{Path: plain, RawPath: p}}
}

// tidy returns a path as patterns see it.
func tidy(p string) string {
	if isClean(p) {
		return p
	}
	return clean(escape(p))
}

// hostOf returns a host as patterns have it.
func hostOf(host string) string {
	if strings.Contains(host, ":") {
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		}
	}
	return strings.TrimSuffix(strings.ToLower(host), ".")
}

// isClean reports whether p is what clean and escape would make of it; false may
// be wrong.
func isClean(p string) bool {
	for i := range len(p) {
		if !inPath(p[i]) || p[i] == '%' || i > 0 && p[i-1] == '/' && (p[i] == '/' || p[i] == '.') {
			return false
		}
	}
	return true
}

// inPath reports whether a path may have c unescaped, or it escapes (RFC 3986,
// section 3.3), as [url.URL.EscapedPath] sees it.
func inPath(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-._~!$&'()*+,;=:@/%[]", c) >= 0
}

// escape escapes what must be and puts dots in place of escaped ones.
func escape(p string) string {
	var b strings.Builder
	for i := 0; i < len(p); i++ {
		switch c := p[i]; {
		case c == '%' && i+2 < len(p) && p[i+1] == '2' && p[i+2]|0x20 == 'e':
			b.WriteByte('.')
			i += 2
		case inPath(c):
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// clean returns p without dot segments and empty ones. A slash at the end stays,
// or comes where a dot segment stood.
func clean(p string) string {
	c := path.Clean(p)
	for _, end := range []string{"/", "/.", "/.."} {
		if c != "/" && strings.HasSuffix(p, end) {
			return c + "/"
		}
	}
	return c
}
