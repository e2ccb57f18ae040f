package httpproxy

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestBackendsOverTLS(t *testing.T) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.Proto, " ", r.Host, " ", r.RequestURI)
	}))
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(s.Close)
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	for _, row := range []struct {
		name    string
		http2   bool
		trusted *x509.CertPool // nil is the host's
		status  int
		body    string
	}{
		{"a certificate that nobody vouches for", false, nil, 502, "Bad Gateway\n"},
		{"HTTP/1.1", false, roots, 200, "HTTP/1.1 example.com /x/a//b"},
		{"HTTP/2", true, roots, 200, "HTTP/2.0 example.com /x/a//b"},
	} {
		p := poolOf("https://" + s.Listener.Addr().String() + "/x")
		p.HTTP2 = row.http2
		f := one(t, p)
		if row.trusted != nil {
			f.pools["main"].set.Load().carriers.usual.TLSClientConfig = &tls.Config{RootCAs: row.trusted}
		}
		if status, body := f.get("/a//b"); status != row.status || body != row.body {
			t.Errorf("%s: %d %q, want %d %q", row.name, status, body, row.status, row.body)
		}
	}
}
