package httpproxy

import (
	"crypto/tls"
	"io"
	"maps"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"fairlead/testenv"
	"fairlead/testenv/testca"
	"fairlead/userspace/accesslog"
	"fairlead/userspace/model"
)

// unhandled are requests that net/http answers without a handler.
var unhandled = []struct {
	name, request string
	status        int
	by            accesslog.Party
	reason        accesslog.Reason
}{
	{"no host", "GET / HTTP/1.1\r\n\r\n", 400, accesslog.Client, accesslog.Malformed},
	{"two hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, accesslog.Client, accesslog.Malformed},
	{"a length beside chunks", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", 400, accesslog.Client, accesslog.Malformed},
	{"a control character", "GET / HTTP/1.1\r\nHost: a\r\nX: \x01\r\n\r\n", 400, accesslog.Client, accesslog.Malformed},
	{"rubbish", "what is this\r\n\r\n", 400, accesslog.Client, accesslog.Malformed},
	{"another version", "GET / HTTP/3.1\r\nHost: a\r\n\r\n", 505, accesslog.Agent, accesslog.Done},
	{"a large header", "GET / HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("a", 80<<10) + "\r\n\r\n", 431, accesslog.Agent, accesslog.Limit},
	{"a coding that nobody knows", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: blah\r\n\r\n", 501, accesslog.Agent, accesslog.Done},
	{"an expectation that nobody knows", "GET / HTTP/1.1\r\nHost: a\r\nExpect: foo\r\n\r\n", 417, accesslog.Agent, accesslog.Done},
}

// exchanged sends requests over a connection of its own, and returns what comes until
// it ends, and whose it was.
func (f *front) exchanged(own *tls.Config, requests string) (answers, peer string) {
	f.t.Helper()
	c, _ := f.dial()
	defer c.Close()
	spoken := net.Conn(c)
	if own != nil {
		spoken = tls.Client(c, own)
	}
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		_, _ = io.WriteString(spoken, requests) // who refuses them may have closed by then
	}()
	text, _ := io.ReadAll(spoken)
	c.Close()
	<-sent
	return string(text), c.LocalAddr().String()
}

// since returns what was counted after was.
func (f *front) since(was Stats) Stats {
	is := f.Stats()
	maps.DeleteFunc(is.Answers, func(status int, n uint64) bool {
		is.Answers[status] -= was.Answers[status]
		return n == was.Answers[status]
	})
	return Stats{Requests: is.Requests - was.Requests, Malformed: is.Malformed - was.Malformed, Answers: is.Answers}
}

// TestAnswersWithoutAHandlerAreCountedAndLogged as the first of a connection, and after
// another one that is still to be answered; with TLS, too.
func TestAnswersWithoutAHandlerAreCountedAndLogged(t *testing.T) {
	ca := testca.New(t)
	b := take(t, say("ok"))
	for _, way := range []struct {
		name, before string
		secure       bool
	}{
		{"alone", "", false}, {"second", "GET /first HTTP/1.1\r\nHost: a\r\n\r\n", false},
		{"alone, TLS", "", true}, {"second, TLS", "GET /first HTTP/1.1\r\nHost: a\r\n\r\n", true},
	} {
		var own, theirs *tls.Config
		if way.secure {
			own, theirs = &tls.Config{Certificates: []tls.Certificate{ca.Pair("example.com")}}, &tls.Config{RootCAs: ca.Pool(), ServerName: "example.com"}
		}
		f, told := loggedWith(t, &Proxy{TLS: own}, everything(usual), poolOf(b.addr()))
		for _, row := range unhandled {
			t.Run(row.name+", "+way.name, func(t *testing.T) {
				was := f.Stats()
				answers, peer := f.exchanged(theirs, way.before+row.request)
				want := Stats{Requests: 1, Answers: map[int]uint64{row.status: 1}}
				if row.status == http.StatusBadRequest {
					want.Malformed = 1
				}
				if way.before != "" {
					want.Requests, want.Answers[200] = 2, 1
					next(t, told)
				}
				got := next(t, told)
				if diff := cmp.Diff(want, f.since(was)); diff != "" {
					t.Errorf("counted -want +got:\n%s", diff)
				}
				_, body, _ := strings.Cut(answers[strings.LastIndex(answers, "HTTP/1.1 "):], "\r\n\r\n")
				record := &accesslog.Record{Began: got.Began, Protocol: "http", Client: peer, Peer: peer, Status: row.status, BytesOut: uint64(len(body)), Ending: accesslog.Ending{By: row.by, Reason: row.reason}}
				if diff := cmp.Diff(record, got); diff != "" || time.Since(got.Began) > patience {
					t.Errorf("began %v, record -want +got:\n%s", got.Began, diff)
				}
			})
		}
	}
}

// TestWhoComesWithoutTLSIsCounted: it is told so, with 400.
func TestWhoComesWithoutTLSIsCounted(t *testing.T) {
	f, told := loggedWith(t, &Proxy{TLS: &tls.Config{}}, everything(usual), poolOf(testenv.FreeAddress(t)))
	if res, _ := f.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n"); res.StatusCode != http.StatusBadRequest {
		t.Errorf("status %d", res.StatusCode)
	}
	got := next(t, told)
	if got.Status != http.StatusBadRequest || got.By != accesslog.Client || got.Reason != accesslog.Malformed {
		t.Errorf("%+v", got)
	}
	if s := f.Stats(); s.Requests != 1 || s.Malformed != 1 || s.Answers[400] != 1 {
		t.Errorf("%+v", s)
	}
}

// TestWhatHTTP2WritesIsNoAnswerOfItsOwn even if a piece of it looks like one.
func TestWhatHTTP2WritesIsNoAnswerOfItsOwn(t *testing.T) {
	text := strings.Repeat("HTTP/1.1 400 Bad Request\r\n\r\n", 1<<10)
	b := take(t, say(text))
	f := one(t, poolOf(b.addr()))
	for range 3 {
		if status := f.ask2("", ":method", "GET", ":scheme", "http", ":path", "/", ":authority", "a"); status != "200" {
			t.Errorf("status %q", status)
		}
	}
	eventually(t, "the answers are counted", func() bool { return f.Stats().Answers[200] == 3 })
	if diff := cmp.Diff(map[int]uint64{200: 3}, f.Stats().Answers); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// TestTheServerItselfIsAskedForItsOptions: that is a request as any other.
func TestTheServerItselfIsAskedForItsOptions(t *testing.T) {
	h := &model.HTTP{}
	f, told := loggedWith(t, &Proxy{}, h, poolOf(testenv.FreeAddress(t)))
	if res, body := f.ask("OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"); res.StatusCode != 200 || body != "" {
		t.Errorf("%d %q", res.StatusCode, body)
	}
	if got := next(t, told); got.Method != "OPTIONS" || got.Path != "*" || got.Status != 200 || got.By != accesslog.Agent || got.Reason != accesslog.Done {
		t.Errorf("%+v", got)
	}
	if status := f.ask2("", ":method", "OPTIONS", ":scheme", "http", ":path", "*", ":authority", "a"); status != "200" {
		t.Errorf("HTTP/2: %q", status)
	}
	next(t, told)
	if s := f.Stats(); s.Requests != 2 || s.Answers[200] != 2 {
		t.Errorf("%+v", s)
	}
}
