package httpproxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/netip"
	"net/textproto"
	"strings"
	"testing"

	"fairlead/userspace/model"
)

func admits(a model.Admission) func(netip.Addr) model.Admission {
	return func(netip.Addr) model.Admission { return a }
}

// plaintext2 is a client that speaks HTTP/2 without TLS.
func plaintext2(t *testing.T) *http.Client {
	var p http.Protocols
	p.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: &p}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// handle2 is handle for HTTP/2 without TLS.
func handle2(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetHTTP1(true)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Start()
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

func TestTrailersPassBothWays(t *testing.T) {
	backend := handle2(t, func(w http.ResponseWriter, r *http.Request) {
		body := readAll(t, r)
		w.Header().Set("Trailer", "X-Sum")
		fmt.Fprint(w, r.Proto)
		w.Header().Set("X-Sum", body+r.Trailer.Get("X-End"))
		w.Header().Set(http.TrailerPrefix+"X-Unannounced", "u")
	})
	for _, http2 := range []bool{false, true} {
		p := poolOf(backend)
		p.HTTP2 = http2
		f := one(t, p)
		for name, client := range map[string]*http.Client{"HTTP/1.1": {Transport: &http.Transport{DisableKeepAlives: true}}, "HTTP/2": plaintext2(t)} {
			r, _ := http.NewRequest("POST", "http://"+f.addr, struct{ io.Reader }{strings.NewReader("body")})
			r.Trailer = http.Header{"X-End": {"end"}}
			res, err := client.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(res.Body)
			res.Body.Close()
			if want := map[bool]string{false: "HTTP/1.1", true: "HTTP/2.0"}[http2]; string(body) != want {
				t.Errorf("%s: backend got %s, want %s", name, body, want)
			}
			if got := res.Trailer.Get("X-Sum") + res.Trailer.Get("X-Unannounced"); got != "bodyendu" {
				t.Errorf("%s: trailers %q", name, got)
			}
		}
	}
}

func TestEventsComeAsTheyAreSent(t *testing.T) {
	for name, head := range map[string]string{
		"events":         "Content-Type: text/event-stream\r\n",
		"a known length": "Content-Length: 8\r\n",
		"known events":   "Content-Type: Text/Event-Stream; a=b\r\nContent-Length: 8\r\n",
		"no length":      "Connection: close\r\n",
	} {
		goOn := make(chan struct{})
		f := one(t, poolOf(take(t, func(_ string, c net.Conn) string {
			fmt.Fprint(c, "HTTP/1.1 200 OK\r\n"+head+"\r\none\n")
			<-goOn
			fmt.Fprint(c, "two\n")
			return ""
		}).addr()))
		res, err := http.Get("http://" + f.addr)
		if err != nil {
			t.Fatal(err)
		}
		r := bufio.NewReader(res.Body)
		if line, err := r.ReadString('\n'); line != "one\n" {
			t.Errorf("%s: %q, error %v", name, line, err)
		}
		close(goOn)
		if line, err := r.ReadString('\n'); line != "two\n" {
			t.Errorf("%s: %q, error %v", name, line, err)
		}
		res.Body.Close()
	}
}

func TestInformationalAnswersPass(t *testing.T) {
	f := one(t, poolOf(handle(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", "</a.css>")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Del("Link")
		w.WriteHeader(http.StatusOK)
	})))
	var got []string
	trace := &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
		got = append(got, fmt.Sprint(code, h["Link"]))
		return nil
	}}
	r, _ := http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), trace), "GET", "http://"+f.addr, nil)
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if len(got) != 1 || got[0] != "103 [</a.css>]" || res.Header.Get("Link") != "" {
		t.Errorf("got %q, then Link %q", got, res.Header.Get("Link"))
	}
}

func TestAClientMayWaitUntilItsBodyIsWanted(t *testing.T) {
	f := one(t, poolOf(handle(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/no" {
			http.Error(w, "no", http.StatusExpectationFailed)
			return
		}
		fmt.Fprint(w, readAll(t, r))
	})))
	ask := func(path string) (*net.TCPConn, *bufio.Reader) {
		c, r := f.dial()
		fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n", path)
		return c, r
	}
	c, r := ask("/")
	if line, _ := r.ReadString('\n'); line != "HTTP/1.1 100 Continue\r\n" {
		t.Fatalf("first line %q", line)
	}
	_, _ = r.ReadString('\n')
	fmt.Fprint(c, "body")
	if _, body := answerOf(t, r, false); body != "body" {
		t.Errorf("answer %q", body)
	}
	_, r = ask("/no")
	if res, _ := answerOf(t, r, false); res.StatusCode != http.StatusExpectationFailed {
		t.Errorf("status %d", res.StatusCode)
	}
}

func TestAnswersAreNotChanged(t *testing.T) {
	b := take(t, func(string, net.Conn) string {
		return "HTTP/1.1 203 Odd\r\nContent-Length: 6\r\nServer: x\r\nConnection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 1\r\nX-Two: a\r\nX-Two: b\r\nDate: then\r\n\r\n<html>"
	})
	c, r := one(t, poolOf(b.addr())).dial()
	fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: br\r\n\r\n")
	const want = "HTTP/1.1 203 Non-Authoritative Information\r\nContent-Length: 6\r\nDate: then\r\nServer: x\r\nX-Two: a\r\nX-Two: b\r\n\r\n<html>"
	got := make([]byte, len(want))
	if _, err := io.ReadFull(r, got); err != nil || string(got) != want {
		t.Errorf("client got %q, want %q", got, want)
	}
	const asked = "GET / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: br\r\nForwarded: for=127.0.0.1;host=\"a\";proto=http\r\n" +
		"X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Host: a\r\nX-Forwarded-Proto: http\r\n\r\n"
	if b.seen()[0] != asked {
		t.Errorf("backend got %q, want %q", b.seen()[0], asked)
	}
}

// TestWhatInformationalAnswersDoNotCarry is what is of the backend's connection alone.
// Clients of HTTP/1.0 know of no such answers.
func TestWhatInformationalAnswersDoNotCarry(t *testing.T) {
	f := one(t, poolOf(take(t, func(string, net.Conn) string {
		return "HTTP/1.1 103 Early Hints\r\nLink: a\r\nConnection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 1\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
	}).addr()))
	const early = "HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n"
	for request, want := range map[string]string{
		" HTTP/1.0\r\n":                                      "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
		" HTTP/1.1\r\nConnection: close\r\n":                 early + "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
		" HTTP/1.1\r\nUpgrade: x\r\nConnection: Upgrade\r\n": early + "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", // nobody guards what follows
	} {
		if got := f.raw("GET /" + request + "Host: a\r\n\r\n"); got != want {
			t.Errorf("%q: got %q, want %q", request, got, want)
		}
	}
}
