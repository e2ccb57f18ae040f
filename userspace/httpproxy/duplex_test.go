package httpproxy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"fairlead/userspace/httpcache"
	"fairlead/userspace/model"
)

// TestAnAnswerComesWhileItsRequestDoes: what one side says is what the other one gets,
// although neither waits for the other to end.
func TestAnAnswerComesWhileItsRequestDoes(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		p := poolOf(handle2(t, func(w http.ResponseWriter, r *http.Request) {
			c := http.NewResponseController(w)
			if r.ProtoMajor == 1 {
				_ = c.EnableFullDuplex()
			}
			w.WriteHeader(http.StatusOK)
			_ = c.Flush()
			b := make([]byte, 100)
			for {
				n, err := r.Body.Read(b)
				if _, werr := w.Write(b[:n]); werr != nil || err != nil || c.Flush() != nil {
					return
				}
			}
		}))
		p.HTTP2 = http2
		f := one(t, p)
		usual := &http.Transport{} // whose connections may go on, as it is these that the body must leave
		t.Cleanup(usual.CloseIdleConnections)
		for name, client := range map[string]*http.Client{"HTTP/1.1": {Transport: usual, Timeout: patience}, "HTTP/2": plaintext2(t)} {
			body, writes := io.Pipe()
			r, _ := http.NewRequestWithContext(t.Context(), "POST", "http://"+f.addr, body)
			res, err := client.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			for i := range 50 {
				part := fmt.Sprintf("part %03d", i)
				if _, err := io.WriteString(writes, part); err != nil {
					t.Fatal(err)
				}
				got := make([]byte, len(part))
				if _, err := io.ReadFull(res.Body, got); err != nil || string(got) != part {
					t.Fatalf("%s, backend with HTTP/2 %t: got %q, error %v, want %q", name, http2, got, err, part)
				}
			}
			writes.Close()
			if rest, err := io.ReadAll(res.Body); err != nil || len(rest) > 0 {
				t.Errorf("%s: then %q, error %v", name, rest, err)
			}
			res.Body.Close()
		}
	}
}

// TestAnAnswerDoesNotWaitForTheBody, and the connection not for ever.
func TestAnAnswerDoesNotWaitForTheBody(t *testing.T) {
	b := take(t, func(string, net.Conn) string { return "HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n" })
	h := everything(usual)
	h.Routes[0].Match = "/ours"
	h.Routes = append(h.Routes, model.Route{Match: "/its", Pools: []model.Share{{Pool: "main", Weight: 1}}, Timeouts: usual})
	h.Routes[0].Pools = nil
	h.Bounds.HeaderTimeout = short
	f := serve(t, h, map[string]*model.Pool{"main": poolOf(b.addr())})
	for path, want := range map[string]int{"/none": 404, "/ours": 404, "/its": 403} {
		for _, length := range []string{"Content-Length: 10", "Transfer-Encoding: chunked"} {
			c, r := f.dial()
			fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: a\r\n%s\r\n\r\n", path, length)
			if res, _ := answerOf(t, r, false); res.StatusCode != want {
				t.Errorf("%s, %s: status %d, want %d", path, length, res.StatusCode, want)
			}
			if rest, err := io.ReadAll(r); err != nil || len(rest) > 0 {
				t.Errorf("%s, %s: then %q, error %v", path, length, rest, err)
			}
		}
	}
}

// TestAnAnswerEndsBeforeItsRequestDoes, whatever says where it ends; who sends on is
// not reset meanwhile.
func TestAnAnswerEndsBeforeItsRequestDoes(t *testing.T) {
	b := take(t, func(string, net.Conn) string {
		return "HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n"
	})
	h := everything(usual)
	h.Routes = append(h.Routes, model.Route{Match: "/ours", Rules: model.Rules{Redirect: &model.Redirect{To: "/", Status: 307}}})
	h.Bounds.HeaderTimeout = time.Hour
	f := serve(t, h, map[string]*model.Pool{"main": poolOf(b.addr())})
	const large = largeUpload + 1<<20
	chunk := fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", large, make([]byte, large))
	for path, want := range map[string]int{"/ours": 307, "/its": 403} {
		for _, row := range []struct{ header, body string }{
			{"Content-Length: 5\r\nExpect: 100-continue", "hello"},
			{"Transfer-Encoding: chunked\r\nExpect: 100-continue", chunk},
			{fmt.Sprint("Content-Length: ", large), string(make([]byte, large))},
			{"Transfer-Encoding: chunked", chunk},
		} {
			c, r := f.dial()
			fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: a\r\n%s\r\n\r\n", path, row.header)
			send := sync.OnceFunc(func() {
				if _, err := io.WriteString(c, row.body); err != nil {
					t.Errorf("%s, %s: send the body: %v", path, row.header, err)
				}
			})
			res, _ := answerOf(t, r, false)
			if res.StatusCode == http.StatusContinue { // the backend's answer came a moment later
				send()
				res, _ = answerOf(t, r, false)
			}
			if res.StatusCode != want || !res.Close && row.body != "hello" {
				t.Errorf("%s, %s: status %d, want %d; the connection ends: %t", path, row.header, res.StatusCode, want, res.Close)
			}
			send()
			_ = c.CloseWrite()
			if rest, err := io.ReadAll(r); err != nil || len(rest) > 0 {
				t.Errorf("%s, %s: then %q, error %v", path, row.header, rest, err)
			}
		}
	}
}

// TestTheEndOfAConnectionWaitsForTheBody, if it is to, and for so long.
func TestTheEndOfAConnectionWaitsForTheBody(t *testing.T) {
	for _, row := range []struct {
		name  string
		limit time.Duration
		body  string
	}{
		{"not asked to", 0, ""},
		{"until it has come", patience, "hello"},
		{"not for ever", short, ""},
	} {
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		client, err := net.Dial("tcp4", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		server, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(client, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n")
		g := &guarded{Conn: server, proxy: &Proxy{}}
		for b := make([]byte, 100); !g.guard.isInside(); {
			if _, err := g.Read(b); err != nil {
				t.Fatal(err)
			}
		}
		g.linger(row.limit)
		ended := make(chan error, 1)
		go func() { ended <- g.CloseWrite() }()
		if _, err := client.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("%s: the client reads %v", row.name, err)
		}
		_, _ = io.WriteString(client, row.body)
		if err := <-ended; err != nil || g.guard.isInside() != (row.body == "") {
			t.Errorf("%s: error %v, a part of the body is missing: %t", row.name, err, g.guard.isInside())
		}
		client.Close()
		server.Close()
		l.Close()
	}
}

// TestWhoDoesNotTakeWhatIsStoredIsBrokenOff: no attempt looks to that.
func TestWhoDoesNotTakeWhatIsStoredIsBrokenOff(t *testing.T) {
	body := strings.Repeat("x", 16<<20)
	for name, timeouts := range map[string]model.HTTPTimeouts{
		"idle": {Connect: patience, FirstByte: patience, Idle: short}, "request": {Connect: patience, FirstByte: patience, Request: short},
	} {
		h := everything(usual)
		h.Routes[0].Cache, h.Cache = true, model.DefaultCache()
		h.Cache.MaxBody, h.Cache.Size = 32<<20, 64<<20
		f := serve(t, h, map[string]*model.Pool{"main": poolOf(handle(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Cache-Control", "max-age=60")
			w.Header().Set("Content-Length", fmt.Sprint(len(body)))
			_, _ = io.WriteString(w, body)
		}))})
		f.cache = httpcache.New(httpcache.Front{Key: CacheKey, Answered: Answered, Aside: Aside}, &h.Cache)
		f.route(h)
		if _, got := f.get("/"); got != body {
			t.Fatalf("%s: %d bytes", name, len(got))
		}
		h.Routes[0].Timeouts = timeouts
		f.route(h)
		c, _ := f.dial()
		fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: example.com\r\n\r\n")
		eventually(t, name+": the request ends", func() bool { return f.Stats().Requests == 2 && f.Stats().Running == 0 })
		got, _ := io.ReadAll(c)
		if !bytes.HasPrefix(got, []byte("HTTP/1.1 200 OK\r\n")) || len(got) > len(body) {
			t.Errorf("%s: %d bytes", name, len(got))
		}
	}
}
