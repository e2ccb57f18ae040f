package httpproxy

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"fairlead/userspace/accesslog"
	"fairlead/userspace/model"
)

// logged opens a front that hands out what its access log is told.
func logged(t *testing.T, h *model.HTTP, p *model.Pool) (*front, chan *accesslog.Record) {
	t.Helper()
	return loggedWith(t, &Proxy{}, h, p)
}

// loggedWith is logged with a proxy that is more than its zero value.
func loggedWith(t *testing.T, proxy *Proxy, h *model.HTTP, p *model.Pool) (*front, chan *accesslog.Record) {
	t.Helper()
	told := make(chan *accesslog.Record, 10)
	proxy.Access = func() func(*accesslog.Record) { return func(r *accesslog.Record) { told <- r } }
	return serveWith(t, proxy, h, map[string]*model.Pool{"main": p}), told
}

func next(t *testing.T, told chan *accesslog.Record) *accesslog.Record {
	t.Helper()
	select {
	case r := <-told:
		return r
	case <-time.After(patience):
		t.Fatal("the access log is told nothing")
		return nil
	}
}

// swallow reads what comes over a connection until it ends.
func swallow(c io.Reader) { _, _ = io.Copy(io.Discard, c) }

// anEnding is a request, and who ends it.
type anEnding struct {
	name      string
	backend   func(string, net.Conn) string
	http      *model.HTTP
	request   string
	leave     bool // after the first byte of the answer
	times     int
	status    int
	by        accesslog.Party
	reason    accesslog.Reason
	in, out   uint64
	unbacked  bool
	answering bool // a backend has answered
	refuses   bool // the backend does, connections
}

const asks = "GET /a?b HTTP/1.1\r\nHost: example.com\r\nUser-Agent: me\r\nReferer: there\r\nConnection: close\r\n\r\n"

func endings() []anEnding {
	answers := func(text string) func(string, net.Conn) string { return func(string, net.Conn) string { return text } }
	waits := func(text string) func(string, net.Conn) string {
		return func(_ string, c net.Conn) string {
			_, _ = io.WriteString(c, text)
			swallow(c)
			return ""
		}
	}
	breaks := func(_ string, c net.Conn) string {
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello")
		c.Close()
		return ""
	}
	hasty := usual
	hasty.FirstByte, hasty.Idle = short, short
	small := everything(usual)
	small.Routes[0].MaxBody = 3
	limited := everything(usual)
	limited.Routes[0].Rate = model.Rate{Requests: 1, Per: time.Hour, Burst: 1}
	gone := everything(usual)
	gone.Routes[0].Match = "/elsewhere"
	return []anEnding{
		{name: "all goes well", backend: answers("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"), status: 200, by: accesslog.Backend, reason: accesslog.Done, out: 5, answering: true},
		{name: "a body", backend: answers("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"), request: "POST /a?b HTTP/1.1\r\nHost: example.com\r\nUser-Agent: me\r\nReferer: there\r\nConnection: close\r\nContent-Length: 4\r\n\r\nbody", status: 200, by: accesslog.Backend, reason: accesslog.Done, in: 4, out: 2, answering: true},
		{name: "the backend breaks its answer off", backend: breaks, status: 200, by: accesslog.Backend, reason: accesslog.Broken, out: 5, answering: true},
		{name: "the client leaves", backend: waits("HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello"), leave: true, status: 200, by: accesslog.Client, reason: accesslog.Gone, out: 5, answering: true},
		{name: "no answer in time", backend: waits(""), http: everything(hasty), status: 504, by: accesslog.Backend, reason: accesslog.Timeout, out: 16},
		{name: "a body that stops", backend: waits("HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello"), http: everything(hasty), status: 200, by: accesslog.Agent, reason: accesslog.Timeout, out: 5, answering: true},
		{name: "no HTTP", backend: answers("what\r\n\r\n"), status: 502, by: accesslog.Backend, reason: accesslog.Broken, out: 12},
		{name: "no connection", refuses: true, status: 502, by: accesslog.Agent, reason: accesslog.NoBackend, out: 12},
		{name: "too many", backend: answers("HTTP/1.1 204 No\r\n\r\n"), http: limited, times: 1, status: 429, by: accesslog.Agent, reason: accesslog.Limit, out: 18, unbacked: true},
		{name: "no route", backend: waits(""), http: gone, status: 404, by: accesslog.Agent, reason: accesslog.Done, out: 10, unbacked: true},
	}
}

func TestWhoHasEndedARequestIsLogged(t *testing.T) {
	for _, row := range endings() {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			b := take(t, row.backend)
			if row.refuses {
				b.Close()
			}
			conf := poolOf(b.addr())
			conf.Retry.Attempts = 0
			if row.http == nil {
				row.http = everything(usual)
			}
			f, told := logged(t, row.http, conf)
			if row.request == "" {
				row.request = asks
			}
			for range row.times {
				f.ask(row.request)
				next(t, told)
			}
			c, r := f.dial()
			fmt.Fprint(c, row.request)
			if res, err := http.ReadResponse(r, nil); err != nil || res.StatusCode != row.status {
				t.Fatalf("%+v, %v", res, err)
			}
			if !row.leave {
				swallow(r)
			}
			c.Close()
			got := next(t, told)
			if got.Status != row.status || got.By != row.by || got.Reason != row.reason || got.BytesIn != row.in || got.BytesOut != row.out {
				t.Errorf("%+v; want status %d, %s %s, %d bytes in and %d out", got, row.status, row.by, row.reason, row.in, row.out)
			}
			if n := f.Stats().NoBackend; (n == 1) != row.refuses || n > 1 {
				t.Errorf("%d requests without a backend", n)
			}
			if want := b.addr(); (got.Backend != want) != row.unbacked || got.Backend != want && got.Backend != "" {
				t.Errorf("backend %q, want %s: %v", got.Backend, want, !row.unbacked)
			}
			method, _, _ := strings.Cut(row.request, " ")
			if got.Method != method || got.Host != "example.com" || got.Path != "/a?b" || got.Version != "HTTP/1.1" || got.UserAgent != "me" || got.Referer != "there" || got.Client != c.LocalAddr().String() || got.Protocol != "http" {
				t.Errorf("%+v", got)
			}
			if (got.FirstByte > 0) != row.answering || got.Connect < 0 || got.Total < got.Queue+got.Connect+got.FirstByte {
				t.Errorf("queue %v, connect %v, first byte %v, total %v", got.Queue, got.Connect, got.FirstByte, got.Total)
			}
		})
	}
}

func TestRetriesAreLogged(t *testing.T) {
	good := take(t, func(string, net.Conn) string { return "HTTP/1.1 204 No Content\r\n\r\n" })
	bad := take(t, func(string, net.Conn) string { return "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n" })
	conf := poolOf(bad.addr(), good.addr())
	conf.Retry.Statuses = []int{503}
	f, told := logged(t, everything(usual), conf)
	f.get("/")
	if r := next(t, told); r.Retries != 1 || r.Backend != good.addr() || r.Status != 204 || r.Reason != accesslog.Done {
		t.Errorf("%+v", r)
	}
}

func TestTimeInAQueueIsLogged(t *testing.T) {
	release := make(chan struct{})
	b := take(t, func(string, net.Conn) string {
		<-release
		return "HTTP/1.1 204 No Content\r\n\r\n"
	})
	conf := poolOf(b.addr())
	conf.MaxRequests, conf.Queue = 1, model.Queue{Size: 5, Timeout: patience}
	f, told := logged(t, everything(usual), conf)
	ended := make(chan struct{}, 2)
	for range 2 {
		go func() {
			f.get("/")
			ended <- struct{}{}
		}()
	}
	eventually(t, "one waits", func() bool { return !f.pools["main"].queue.empty() })
	began := time.Now()
	time.Sleep(short) // which the log must show
	waited := time.Since(began)
	close(release)
	<-ended
	<-ended
	first, second := next(t, told), next(t, told)
	if first.Queue >= second.Queue || second.Queue < short || second.Queue > second.Total || waited < short {
		t.Errorf("waited %v and %v of %v", first.Queue, second.Queue, second.Total)
	}
}

func TestATunnelIsLogged(t *testing.T) {
	b := echoes(t)
	f, told := logged(t, everything(usual), poolOf(b.addr()))
	c, r := f.dial()
	fmt.Fprint(c, asksForEcho+"early ")
	if _, err := r.ReadString(' '); err != nil {
		t.Fatal(err)
	}
	eventually(t, "both speak another protocol", func() bool { return f.Stats().Tunnels == 1 })
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	swallow(r)
	if got := next(t, told); got.Status != 101 || got.By != accesslog.Client || got.Reason != accesslog.Done || got.BytesIn != 6 || got.BytesOut != uint64(len("hello early  goodbye")) {
		t.Errorf("%+v", got)
	}
}

func TestNothingIsToldWithoutALog(t *testing.T) {
	b := take(t, func(string, net.Conn) string { return "HTTP/1.1 204 No Content\r\n\r\n" })
	f := serveWith(t, &Proxy{Access: func() func(*accesslog.Record) { return nil }}, everything(usual), map[string]*model.Pool{"main": poolOf(b.addr())})
	if status, _ := f.get("/"); status != 204 {
		t.Errorf("status %d", status)
	}
}
