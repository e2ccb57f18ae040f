package httpproxy

import (
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"

	"fairlead/testenv/testca"
	"fairlead/userspace/model"
)

// serveTLS opens a front with a certificate for example.com.
func serveTLS(t *testing.T, ca *testca.CA, h *model.HTTP, pools map[string]*model.Pool) *front {
	t.Helper()
	config := &tls.Config{Certificates: []tls.Certificate{ca.Pair("example.com")}}
	return serveWith(t, &Proxy{TLS: config}, h, pools)
}

// over returns a client that finds the front wherever it is to go.
func over(t *testing.T, ca *testca.CA, f *front, http2 bool) *http.Client {
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: ca.Pool(), ServerName: "example.com"}, ForceAttemptHTTP2: http2, DisableCompression: true,
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: patience}
}

func TestClientsOverTLS(t *testing.T) {
	ca := testca.New(t)
	backend := handle(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Strict-Transport-Security", "max-age=1")
		fmt.Fprint(w, r.Header.Get("X-Forwarded-Proto"), " ", r.Header.Get("Forwarded"))
	})
	h := everything(usual)
	h.Routes[0].HSTS = "max-age=60; includeSubDomains"
	h.Routes[0].Match = "/a"
	f := serveTLS(t, ca, h, map[string]*model.Pool{"main": poolOf(backend)})
	for _, row := range []struct {
		http2 bool
		proto string
	}{{false, "HTTP/1.1"}, {true, "HTTP/2.0"}} {
		client := over(t, ca, f, row.http2)
		res, err := client.Get("https://" + f.addr + "/a")
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		if want := `https for=127.0.0.1;host="` + f.addr + `";proto=https`; err != nil || string(body) != want || res.Proto != row.proto {
			t.Errorf("%s %q, %v; want %s %q", res.Proto, body, err, row.proto, want)
		}
		if got := res.Header["Strict-Transport-Security"]; len(got) != 1 || got[0] != "max-age=60; includeSubDomains" {
			t.Errorf("%s: HSTS %q", row.proto, got)
		}
	}
	if res, body := f.ask("GET / HTTP/1.1\r\nHost: example.com\r\n\r\n"); res.StatusCode != 400 {
		t.Errorf("without TLS: %d %q", res.StatusCode, body)
	}
}

// TestTicketsStayGood: who comes again with TLS need not shake hands anew.
func TestTicketsStayGood(t *testing.T) {
	ca := testca.New(t)
	certificates := &tls.Config{Certificates: []tls.Certificate{ca.Pair("example.com")}}
	config := &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return certificates.Clone(), nil }}
	f := serveWith(t, &Proxy{TLS: config}, everything(usual), map[string]*model.Pool{"main": poolOf(names(t, "a"))})
	cache := tls.NewLRUClientSessionCache(1)
	for i := range 3 {
		c, err := tls.Dial("tcp", f.addr, &tls.Config{RootCAs: ca.Pool(), ServerName: "example.com", ClientSessionCache: cache})
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n")
		if _, err := io.ReadAll(c); err != nil {
			t.Error(err)
		}
		if resumed := c.ConnectionState().DidResume; resumed != (i > 0) {
			t.Errorf("connection %d resumed: %t", i, resumed)
		}
		c.Close()
	}
}

func TestAnswersWithoutTLSHaveNoHSTS(t *testing.T) {
	h := everything(usual)
	h.Routes[0].HSTS = "max-age=60"
	f := serve(t, h, map[string]*model.Pool{"main": poolOf(names(t, "a"))})
	if res, _ := f.ask("GET / HTTP/1.1\r\nHost: example.com\r\n\r\n"); res.Header.Get("Strict-Transport-Security") != "" {
		t.Errorf("HSTS %q", res.Header)
	}
}

func TestRedirectsToHTTPS(t *testing.T) {
	h := everything(usual)
	h.Routes[0].RedirectHTTPS = 443
	h.Routes = append(h.Routes, model.Route{Match: "/port", RedirectHTTPS: 8443}, model.Route{Match: "/none/", RedirectHTTPS: 443})
	h.Trusted = nil
	f := serve(t, h, map[string]*model.Pool{"main": poolOf(names(t, "a"))})
	trusting := *h
	trusting.Trusted = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	for _, row := range []struct {
		name, request string
		trusting      bool
		status        int
		location      string
	}{
		{"a page", "GET /a HTTP/1.1\r\nHost: example.com\r\n\r\n", false, 308, "https://example.com/a"},
		{"a port", "GET /a HTTP/1.1\r\nHost: example.com:8080\r\n\r\n", false, 308, "https://example.com/a"},
		{"to a port", "GET /port HTTP/1.1\r\nHost: example.com:8080\r\n\r\n", false, 308, "https://example.com:8443/port"},
		{"IPv6", "GET /a HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", false, 308, "https://[::1]/a"},
		{"byte for byte", "GET //a/../%2F%61?b=%20&c HTTP/1.1\r\nHost: example.com\r\n\r\n", false, 308, "https://example.com//a/../%2F%61?b=%20&c"},
		{"an empty query", "GET /? HTTP/1.1\r\nHost: example.com\r\n\r\n", false, 308, "https://example.com/?"},
		{"POST keeps its method", "POST /a HTTP/1.1\r\nHost: example.com\r\nContent-Length: 1\r\n\r\nx", false, 308, "https://example.com/a"},
		{"no host", "GET /a HTTP/1.0\r\n\r\n", false, 400, ""},
		{"who says https is not believed", "GET /a HTTP/1.1\r\nHost: example.com\r\nX-Forwarded-Proto: https\r\n\r\n", false, 308, "https://example.com/a"},
		{"unless trusted", "GET /a HTTP/1.1\r\nHost: example.com\r\nX-Forwarded-Proto: HTTPS\r\n\r\n", true, 200, ""},
		{"a trusted one that says http", "GET /a HTTP/1.1\r\nHost: example.com\r\nX-Forwarded-Proto: http\r\n\r\n", true, 308, "https://example.com/a"},
		{"nothing but redirects", "GET /none/ HTTP/1.1\r\nHost: example.com\r\nX-Forwarded-Proto: https\r\n\r\n", true, 404, ""},
	} {
		f.route(h)
		if row.trusting {
			f.route(&trusting)
		}
		res, _ := f.ask(row.request)
		if got := res.Header.Get("Location"); res.StatusCode != row.status || got != row.location {
			t.Errorf("%s: %d %q, want %d %q", row.name, res.StatusCode, got, row.status, row.location)
		}
	}
}

// secured opens a backend that shows a certificate for app and wants one of
// clients, and answers who has come how.
func secured(t *testing.T, ca *testca.CA, auth tls.ClientAuthType) string {
	t.Helper()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.Proto, " ", r.TLS.ServerName, " ", len(r.TLS.PeerCertificates), " ", r.RequestURI)
	}))
	s.TLS = &tls.Config{Certificates: []tls.Certificate{ca.Pair("app")}, ClientCAs: ca.Pool(), ClientAuth: auth}
	s.EnableHTTP2 = true
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	s.StartTLS()
	t.Cleanup(s.Close)
	return "https://" + s.Listener.Addr().String()
}

func TestBackendsMustShowWhoTheyAre(t *testing.T) {
	ca, foreign := testca.New(t), testca.New(t)
	own := []tls.Certificate{ca.Pair("balancer")}
	plain, mutual := secured(t, ca, tls.NoClientCert), secured(t, ca, tls.RequireAndVerifyClientCert)
	for _, row := range []struct {
		name    string
		backend string
		conf    *tls.Config
		http2   bool
		status  int
		body    string
	}{
		{"an authority of its own, and a name", plain, &tls.Config{RootCAs: ca.Pool(), ServerName: "app"}, false, 200, "HTTP/1.1 app 0 /x/a//b"},
		{"the same over HTTP/2", plain, &tls.Config{RootCAs: ca.Pool(), ServerName: "app"}, true, 200, "HTTP/2.0 app 0 /x/a//b"},
		{"the authorities of the host", plain, &tls.Config{ServerName: "app"}, false, 502, "Bad Gateway\n"},
		{"the address in place of the name", plain, &tls.Config{RootCAs: ca.Pool()}, false, 502, "Bad Gateway\n"},
		{"another name", plain, &tls.Config{RootCAs: ca.Pool(), ServerName: "other"}, false, 502, "Bad Gateway\n"},
		{"a foreign authority", plain, &tls.Config{RootCAs: foreign.Pool(), ServerName: "app"}, false, 502, "Bad Gateway\n"},
		{"no look at all", plain, &tls.Config{InsecureSkipVerify: true}, false, 200, "HTTP/1.1  0 /x/a//b"},
		{"nothing to show", mutual, &tls.Config{RootCAs: ca.Pool(), ServerName: "app"}, false, 502, "Bad Gateway\n"},
		{"a certificate of ours", mutual, &tls.Config{RootCAs: ca.Pool(), ServerName: "app", Certificates: own}, false, 200, "HTTP/1.1 app 1 /x/a//b"},
		{"the same over HTTP/2", mutual, &tls.Config{RootCAs: ca.Pool(), ServerName: "app", Certificates: own}, true, 200, "HTTP/2.0 app 1 /x/a//b"},
	} {
		p := poolOf(row.backend + "/x")
		p.HTTP2 = row.http2
		f := one(t, p)
		f.pools["main"].UseTLS(row.conf)
		if status, body := f.get("/a//b"); status != row.status || body != row.body {
			t.Errorf("%s: %d %q, want %d %q", row.name, status, body, row.status, row.body)
		}
	}
}

func TestNewCertificatesOfBackendsCountAtOnce(t *testing.T) {
	ca, foreign := testca.New(t), testca.New(t)
	f := one(t, poolOf(secured(t, ca, tls.NoClientCert)))
	for range 3 {
		f.pools["main"].UseTLS(&tls.Config{RootCAs: ca.Pool(), ServerName: "app"})
		if status, _ := f.get("/"); status != 200 {
			t.Errorf("status %d with the right authority", status)
		}
		f.pools["main"].UseTLS(&tls.Config{RootCAs: foreign.Pool(), ServerName: "app"})
		if status, _ := f.get("/"); status != 502 {
			t.Errorf("status %d with a foreign authority", status)
		}
	}
}

// TestAnswersThatNoRouteMakesHaveTheHeadersOfTheService also where a limit of a route
// answers.
func TestAnswersThatNoRouteMakesHaveTheHeadersOfTheService(t *testing.T) {
	ca := testca.New(t)
	h := everything(usual)
	h.HSTS, h.ResponseHeaders = "max-age=1", model.HeaderRules{Set: []model.Header{{Name: "X-Frame-Options", Value: "DENY"}}}
	r := &h.Routes[0]
	r.Match, r.HSTS, r.ResponseHeaders = "GET /here", h.HSTS, h.ResponseHeaders
	r.Rate = model.Rate{Requests: 1, Per: time.Hour, Burst: 1}
	f := serveWith(t, &Proxy{TLS: &tls.Config{Certificates: []tls.Certificate{ca.Pair("127.0.0.1")}}}, h, map[string]*model.Pool{"main": poolOf(names(t, "x"))})
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: ca.Pool()}, DisableKeepAlives: true}, Timeout: patience}
	for _, row := range []struct {
		method, path string
		status       int
	}{
		{"GET", "/here", 200},
		{"GET", "/here", 429},
		{"GET", "/there", 404},
		{"POST", "/here", 405},
	} {
		req, err := http.NewRequestWithContext(t.Context(), row.method, "https://"+f.addr+row.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if got := []string{res.Header.Get("Strict-Transport-Security"), res.Header.Get("X-Frame-Options")}; res.StatusCode != row.status || got[0] != "max-age=1" || got[1] != "DENY" {
			t.Errorf("%s %s: status %d, want %d; headers %q", row.method, row.path, res.StatusCode, row.status, got)
		}
	}
}
