package health

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"fairlead/testenv/testca"
	"fairlead/userspace/model"
)

// serveForever is the server of [TestStoppedServer], in a process of its own.
func serveForever(t *testing.T) {
	l, err := net.Listen("tcp", os.Getenv("FAIRLEAD_TEST_ADDRESS"))
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println(l.Addr())
	t.Fatal(http.Serve(l, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})))
}

// site answers /status/N with that status and whatever body the query has.
func site(w http.ResponseWriter, r *http.Request) {
	status, err := strconv.Atoi(strings.TrimPrefix(r.URL.Path, "/status/"))
	if err != nil {
		status = http.StatusNotFound
	}
	w.Header().Set("Location", "/status/200")
	w.WriteHeader(status)
	fmt.Fprint(w, r.URL.Query().Get("body"))
}

func TestProbeHTTP(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(site))
	t.Cleanup(server.Close)
	for _, tt := range []struct {
		name  string
		check model.Check
		want  string
	}{
		{"200", model.Check{Path: "/status/200"}, ""},
		{"204 has no body", model.Check{Path: "/status/204"}, ""},
		{"a redirect is not followed", model.Check{Path: "/status/302", Statuses: []model.StatusRange{{Min: 302, Max: 302}}}, ""},
		{"400 is not", model.Check{Path: "/status/400"}, "status 400 is not in 200 to 399"},
		{"the path is / by default", model.Check{}, "status 404"},
		{"a range of its own", model.Check{Path: "/status/503", Statuses: []model.StatusRange{{Min: 500, Max: 599}}}, ""},
		{"below its own range", model.Check{Path: "/status/200", Statuses: []model.StatusRange{{Min: 500, Max: 599}}}, "status 200"},
		{"one of several", model.Check{Path: "/status/404", Statuses: []model.StatusRange{{Min: 200, Max: 299}, {Min: 404, Max: 404}}}, ""},
		{"none of several", model.Check{Path: "/status/403", Statuses: []model.StatusRange{{Min: 200, Max: 299}, {Min: 404, Max: 404}}}, "status 403 is not in 200 to 299, 404"},
		{"an answer to HEAD has no body", model.Check{Method: "HEAD", Path: "/status/200?body=x"}, ""},
		{"a method with a line break", model.Check{Method: "GET\r\n"}, "or method \"GET"},
		{"the expected text", model.Check{Path: "/status/200?body=all+is+well", Expect: "is well"}, ""},
		{"another text", model.Check{Path: "/status/200?body=alas", Expect: "well"}, "body lacks"},
		{"the expected text does not mend the status", model.Check{Path: "/status/500?body=well", Expect: "well"}, "status 500"},
		{"a healthy state whatever the status", model.Check{Path: `/status/500?body={"state":+"healthy"}`}, ""},
		{"with more beside it", model.Check{Path: `/status/500?body={"n":1,"state":"healthy"}%0a`}, ""},
		{"another state", model.Check{Path: `/status/500?body={"state":"sick"}`}, "status 500"},
		{"the state of something else", model.Check{Path: `/status/500?body={"db":{"state":"healthy"}}`}, "status 500"},
		{"a state in a text", model.Check{Path: `/status/500?body=x{"state":"healthy"}`}, "status 500"},
		{"a healthy state without the expected text", model.Check{Path: `/status/500?body={"state":"healthy"}`, Expect: "x"}, "body lacks"},
		{"a path with a line break", model.Check{Path: "/\r\nX: y"}, "bad path"},
		{"a header with a line break", model.Check{Headers: []model.Header{{Name: "A", Value: "b\r\nc: d"}}}, "bad header"},
		{"https to a server without", model.Check{Type: model.CheckHTTPS}, "shake hands"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.check.Type == "" {
				tt.check.Type = model.CheckHTTP
			}
			tt.check.Timeout = long
			expect(t, run(t, server.Listener.Addr().String(), tt.check), tt.want)
		})
	}
}

func TestHTTPRequest(t *testing.T) {
	check := model.Check{Type: model.CheckHTTP, Path: "/a?b=c", Host: "www.example.com:81", Headers: []model.Header{
		{Name: "X-B", Value: "2"}, {Name: "user-agent", Value: "me"}, {Name: "X-A", Value: "1"}, {Name: "X-B", Value: "3"},
	}}
	got, err := httpRequest(target(1, check).normal())
	if err != nil {
		t.Fatal(err)
	}
	want := "GET /a?b=c HTTP/1.1\r\nHost: www.example.com:81\r\nAccept: */*\r\nConnection: close\r\n" +
		"X-B: 2\r\nuser-agent: me\r\nX-A: 1\r\nX-B: 3\r\n\r\n"
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("request (-want +got):\n%s", diff)
	}
}

func TestMethodOfARequest(t *testing.T) {
	got, err := httpRequest(target(1, model.Check{Type: model.CheckHTTP, Method: "OPTIONS", Path: "/a"}).normal())
	if err != nil {
		t.Fatal(err)
	}
	want := "OPTIONS /a HTTP/1.1\r\nHost: 10.0.0.1\r\nUser-Agent: fairlead-health\r\nAccept: */*\r\nConnection: close\r\n\r\n"
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("request (-want +got):\n%s", diff)
	}
}

// TestHostWithoutOne looks at the Host header of checks that name none.
func TestHostWithoutOne(t *testing.T) {
	for _, tt := range []struct {
		kind          model.CheckType
		address, want string
	}{
		{model.CheckHTTP, "10.0.0.1:80", "10.0.0.1"},
		{model.CheckHTTP, "10.0.0.1:443", "10.0.0.1:443"},
		{model.CheckHTTPS, "[2001:db8::1]:443", "[2001:db8::1]"},
		{model.CheckHTTP, "[fe80::1%eth0]:8080", "[fe80::1]:8080"},
	} {
		k := Target{Check: model.Check{Type: tt.kind}}
		if err := k.Address.UnmarshalText([]byte(tt.address)); err != nil {
			t.Fatal(err)
		}
		if got := defaultHost(k); got != tt.want {
			t.Errorf("%s %s: %q, want %q", tt.kind, tt.address, got, tt.want)
		}
	}
}

// TestProbeHTTPBadServers gives every probe the bytes that a server must not send.
func TestProbeHTTPBadServers(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\n"
	for _, tt := range []struct {
		name, answer, expect, want string
	}{
		{"nothing", "", "", "read answer"},
		{"garbage", "\x00\xff\x16\x03 hello\r\n\r\n", "", "read answer"},
		{"half a header", ok + "Content-Le", "", "read answer"},
		{"an endless header", ok + "A: " + strings.Repeat("b", 2*maxHead), "", "header too long"},
		{"an early hint first", "HTTP/1.1 103 Early Hints\r\n\r\n" + ok + "\r\n", "", ""},
		{"less body than promised", ok + "Content-Length: 10\r\n\r\nabc", "d", "read body"},
		{"less body than promised, but enough", ok + "Content-Length: 10\r\n\r\nabc", "b", ""},
		{"bad chunks", ok + "Transfer-Encoding: chunked\r\n\r\nxyz\r\n", "d", "read body"},
		{"text within the bound", ok + "\r\n" + strings.Repeat("a", maxBody-1) + "b", "b", ""},
		{"text behind the bound", ok + "\r\n" + strings.Repeat("a", maxBody) + "b", "b", "body lacks"},
		{"no more than a status line", "HTTP/1.0 200 OK\r\n\r\n", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			address := serveTCP(t, func(conn net.Conn) {
				r, err := http.ReadRequest(bufio.NewReader(conn))
				if err != nil || !r.Close {
					t.Errorf("request: %+v, %v", r, err)
				}
				_, _ = io.WriteString(conn, tt.answer)
			})
			expect(t, run(t, address, model.Check{Type: model.CheckHTTP, Expect: tt.expect, Timeout: long}), tt.want)
		})
	}
}

// TestProbeHTTPSlowServers has servers that stop at some point.
func TestProbeHTTPSlowServers(t *testing.T) {
	for _, tt := range []struct {
		name, answer string
		kind         model.CheckType
	}{
		{"before the answer", "", model.CheckHTTP},
		{"within the header", "HTTP/1.1 200 OK\r\nA:", model.CheckHTTP},
		{"within the body", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab", model.CheckHTTP},
		{"before the handshake", "", model.CheckHTTPS},
	} {
		t.Run(tt.name, func(t *testing.T) {
			address := serveTCP(t, func(conn net.Conn) {
				_, _ = io.WriteString(conn, tt.answer)
				_, _ = io.Copy(io.Discard, conn) // until the probe gives up
			})
			err := run(t, address, model.Check{Type: tt.kind, Expect: "x", Timeout: short})
			expect(t, err, "not done within 100ms")
		})
	}
}

func TestProbeHTTPS(t *testing.T) {
	var name atomic.Value
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		name.Store(r.TLS.ServerName + " " + r.Host)
	}))
	server.TLS = &tls.Config{}
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	address := server.Listener.Addr().String()

	check := model.Check{Type: model.CheckHTTPS, Host: "www.example.com:8443", Timeout: long}
	expect(t, run(t, address, check), "certificate")
	check.SkipVerify = true
	expect(t, run(t, address, check), "")
	if got, want := name.Load(), "www.example.com www.example.com:8443"; got != want {
		t.Errorf("server name and host %q, want %q", got, want)
	}
}

// TestProxiesAreNotAsked sets the environment that net/http would heed.
func TestProxiesAreNotAsked(t *testing.T) {
	t.Setenv("HTTP_PROXY", "http://192.0.2.1:9")
	t.Setenv("http_proxy", "http://192.0.2.1:9")
	var connections atomic.Int32
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			connections.Add(1)
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	for range 3 {
		expect(t, run(t, server.Listener.Addr().String(), model.Check{Type: model.CheckHTTP, Timeout: time.Minute}), "")
	}
	if n := connections.Load(); n != 3 {
		t.Errorf("%d connections for 3 probes: none may be kept", n)
	}
}

// TestProbeHTTPSWithFiles has a server that wants a certificate, and shows one of an
// authority that nobody else trusts.
func TestProbeHTTPSWithFiles(t *testing.T) {
	ca, foreign := testca.New(t), testca.New(t)
	var name atomic.Value
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		name.Store(r.TLS.ServerName + " " + r.Host)
	}))
	server.TLS = &tls.Config{Certificates: []tls.Certificate{ca.Pair("app.inside")}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ca.Pool()}
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	address := server.Listener.Addr().String()
	cert, key := ca.Issue(testca.Leaf{Names: []string{"balancer"}})
	own := model.Certificate{Cert: cert, Key: key}
	for _, row := range []struct {
		name string
		tls  model.BackendTLS
		want string
	}{
		{"all that it wants", model.BackendTLS{CA: ca.File, ServerName: "app.inside", Certificate: own}, ""},
		{"no certificate of ours", model.BackendTLS{CA: ca.File, ServerName: "app.inside"}, "certificate required"},
		{"another name", model.BackendTLS{CA: ca.File, ServerName: "other", Certificate: own}, "not other"},
		{"a foreign authority", model.BackendTLS{CA: foreign.File, ServerName: "app.inside", Certificate: own}, "unknown authority"},
		{"no look at it", model.BackendTLS{SkipVerify: true, Certificate: own}, ""},
		{"a file that is gone", model.BackendTLS{CA: cert + ".gone", ServerName: "app.inside"}, "no such file"},
	} {
		t.Run(row.name, func(t *testing.T) {
			expect(t, run(t, address, model.Check{Type: model.CheckHTTPS, Host: "shown.example", TLS: row.tls, Timeout: long}), row.want)
		})
	}
	if got := name.Load(); got != "shown.example shown.example" { // of the last that passed, by its Host
		t.Errorf("server name and host %q", got)
	}
}
