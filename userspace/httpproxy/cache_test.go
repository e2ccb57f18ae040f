package httpproxy

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"fairlead/userspace/httpcache"
	"fairlead/userspace/model"
)

// caching opens a front that stores answers of backends at these addresses.
func caching(t *testing.T, backends ...string) *front {
	t.Helper()
	h := everything(usual)
	h.Routes[0].Cache, h.Cache = true, model.DefaultCache()
	h.Cache.Purge = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
	f := serve(t, h, map[string]*model.Pool{"main": poolOf(backends...)})
	f.cache = httpcache.New(httpcache.Front{Key: CacheKey, Answered: Answered, Aside: Aside}, &h.Cache)
	f.route(h)
	return f
}

// talk sends requests, one after the other, and returns the first line and what is
// of interest of each answer.
func (f *front) talk(requests ...string) (all []string) {
	f.t.Helper()
	for _, r := range requests {
		res, body := f.ask(r)
		text := res.Status
		for _, name := range []string{"Cache-Status", "Etag", "Content-Length", "Content-Range", "X-A"} {
			if v := res.Header.Values(name); len(v) > 0 {
				text += "\n" + name + ": " + strings.Join(v, " | ")
			}
		}
		all = append(all, text+"\n\n"+body)
	}
	return all
}

// getOf returns a GET for a path.
func getOf(path string, headers ...string) string {
	return "GET " + path + " HTTP/1.1\r\nHost: Example.com\r\nUser-Agent: test\r\n" + strings.Join(headers, "") + "\r\n"
}

// cachedBytes are what backends answer, one after the other, and what comes of it.
var cachedBytes = []struct {
	name     string
	answers  []string
	requests []string
	want     []string // of the client
	sent     []string // of the last request to a backend, without those that are always there
}{
	{
		"a hit", []string{"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 2\r\n\r\nhi"},
		[]string{getOf("/a%2Fb?c"), getOf("/a%2Fb?c"), "HEAD /a%2Fb?c HTTP/1.1\r\nHost: example.com\r\n\r\n"},
		[]string{
			"200 OK\nCache-Status: fairlead; fwd=uri-miss; stored\nContent-Length: 2\n\nhi",
			"200 OK\nCache-Status: fairlead; hit; ttl=59\nContent-Length: 2\n\nhi",
			"200 OK\nCache-Status: fairlead; hit; ttl=59\nContent-Length: 2\n\n",
		},
		nil,
	},
	{
		"chunks", []string{"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n4\r\n you\r\n0\r\n\r\n"},
		[]string{getOf("/"), getOf("/", "Range: bytes=1-\r\n")},
		[]string{
			"200 OK\nCache-Status: fairlead; fwd=uri-miss; stored\n\nhi you",
			"206 Partial Content\nCache-Status: fairlead; hit; ttl=59\nContent-Length: 5\nContent-Range: bytes 1-5/6\n\ni you",
		},
		nil,
	},
	{
		"trailers that nobody announced", []string{"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-Sum: 1\r\n\r\n"},
		[]string{getOf("/"), getOf("/")},
		[]string{"200 OK\nCache-Status: fairlead; fwd=uri-miss; stored\n\nhi", "200 OK\nCache-Status: fairlead; fwd=uri-miss; stored\n\nhi"},
		nil,
	},
	{
		"another path is another", []string{"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 1\r\n\r\n1", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n2"},
		[]string{getOf("/a%2fb"), getOf("/a%2Fb")},
		[]string{"200 OK\nCache-Status: fairlead; fwd=uri-miss; stored\nContent-Length: 1\n\n1", "200 OK\nCache-Status: fairlead; fwd=uri-miss\nContent-Length: 1\n\n2"},
		nil,
	},
	{
		"validated", []string{"HTTP/1.1 200 OK\r\nCache-Control: no-cache\r\nEtag: \"a\"\r\nX-A: 1\r\nContent-Length: 5\r\n\r\nhello", "HTTP/1.1 304 Not Modified\r\nEtag: \"a\"\r\nX-A: 2\r\n\r\n"},
		[]string{getOf("/"), getOf("/", "If-None-Match: \"z\"\r\n")},
		[]string{
			"200 OK\nCache-Status: fairlead; fwd=uri-miss; stored\nEtag: \"a\"\nContent-Length: 5\nX-A: 1\n\nhello",
			"200 OK\nCache-Status: fairlead; fwd=stale; fwd-status=304; ttl=0\nEtag: \"a\"\nContent-Length: 5\nX-A: 2\n\nhello",
		},
		[]string{"GET / HTTP/1.1", "Host: Example.com", "User-Agent: test", `If-None-Match: "a"`},
	},
	{
		"no backend", []string{"HTTP/1.1 200 OK\r\nCache-Control: max-age=1\r\nAge: 0\r\nLast-Modified: Tue, 15 Nov 1994 08:12:31 GMT\r\nContent-Length: 2\r\n\r\nhi", ""},
		[]string{getOf("/"), getOf("/", "Cache-Control: max-age=0\r\n"), getOf("/b")},
		[]string{
			"200 OK\nCache-Status: fairlead; fwd=uri-miss; stored\nContent-Length: 2\n\nhi",
			"200 OK\nCache-Status: fairlead; fwd=request; fwd-status=502; ttl=0\nContent-Length: 2\n\nhi",
			"502 Bad Gateway\nCache-Status: fairlead; fwd=uri-miss\nContent-Length: 12\n\nBad Gateway\n",
		},
		nil,
	},
	{
		"purged", []string{"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 2\r\n\r\nhi", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nho"},
		[]string{getOf("/"), "PURGE / HTTP/1.1\r\nHost: example.com\r\n\r\n", "PURGE / HTTP/1.1\r\nHost: example.com\r\n\r\n", getOf("/")},
		[]string{
			"200 OK\nCache-Status: fairlead; fwd=uri-miss; stored\nContent-Length: 2\n\nhi",
			"204 No Content\n\n",
			"404 Not Found\nContent-Length: 10\n\nNot Found\n",
			"200 OK\nCache-Status: fairlead; fwd=uri-miss\nContent-Length: 2\n\nho",
		},
		nil,
	},
}

func TestCachedBytes(t *testing.T) {
	for _, row := range cachedBytes {
		t.Run(row.name, func(t *testing.T) {
			var n atomic.Int32
			b := take(t, func(string, net.Conn) string { return row.answers[min(int(n.Add(1)), len(row.answers))-1] })
			got := caching(t, b.addr()).talk(row.requests...)
			for i := range got { // the second may have changed
				got[i] = strings.NewReplacer("ttl=60", "ttl=59", "ttl=58", "ttl=59", "ttl=1", "ttl=0").Replace(got[i])
			}
			if diff := cmp.Diff(row.want, got); diff != "" {
				t.Errorf("answers (-want +got):\n%s", diff)
			}
			if seen := b.seen(); row.sent != nil {
				lines := strings.Split(strings.TrimSuffix(seen[len(seen)-1], "\r\n\r\n"), "\r\n")
				kept := lines[:0]
				for _, l := range lines {
					if !strings.HasPrefix(l, "X-Forwarded-") && !strings.HasPrefix(l, "Forwarded:") {
						kept = append(kept, l)
					}
				}
				if diff := cmp.Diff(row.sent, kept); diff != "" {
					t.Errorf("request (-want +got):\n%s", diff)
				}
			}
		})
	}
}

func TestStaleAnswersAreFetchedAside(t *testing.T) {
	var n atomic.Int32
	goOn := make(chan struct{})
	f := caching(t, handle(t, func(w http.ResponseWriter, r *http.Request) {
		i := n.Add(1)
		if i == 2 {
			<-goOn
		}
		w.Header().Set("Cache-Control", "max-age=0, stale-while-revalidate=60")
		fmt.Fprint(w, i)
	}))
	ask := func() string {
		_, body := f.ask("GET / HTTP/1.1\r\nHost: example.com\r\n\r\n")
		return body
	}
	for range 3 {
		if body := ask(); body != "1" {
			t.Errorf("answer %q", body)
		}
	}
	eventually(t, "a request aside", func() bool { return n.Load() == 2 })
	close(goOn)
	eventually(t, "what it has brought", func() bool { return ask() != "1" })
}

// What the links do to requests and answers they do to those of the cache, too.
func TestLinksAroundTheCache(t *testing.T) {
	var n atomic.Int32
	f := caching(t, handle(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=0, stale-while-revalidate=60")
		w.Header().Set("Content-Type", "text/plain")
		fmt.Fprint(w, strings.Repeat("x", 2000), r.URL.Path, r.Header.Get("X-Set"), n.Add(1))
	}))
	h := everything(usual)
	h.Cache = model.DefaultCache()
	h.Cache.Purge = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
	h.Routes[0].Cache = true
	h.Routes[0].Rules = model.Rules{
		RequestHeaders:  model.HeaderRules{Set: []model.Header{{Name: "X-Set", Value: "set"}}},
		ResponseHeaders: model.HeaderRules{Add: []model.Header{{Name: "X-Add", Value: "a"}}},
		Rewrite:         &model.Rewrite{Prefix: "/a", To: "/b"},
	}
	f.route(h)
	ask := func() (string, *http.Response) {
		res, body := f.ask("GET /a/c HTTP/1.1\r\nHost: example.com\r\nAccept-Encoding: gzip\r\n\r\n")
		return strings.TrimLeft(body, "x"), res
	}
	for range 2 {
		if body, res := ask(); body != "/b/cset1" || len(res.Header.Values("X-Add")) != 1 {
			t.Errorf("answer %q, %v", body, res.Header)
		}
	}
	eventually(t, "one that was fetched aside", func() bool {
		body, _ := ask()
		return body == "/b/cset2"
	})
	if res, _ := f.ask("PURGE /a/c HTTP/1.1\r\nHost: example.com\r\n\r\n"); res.StatusCode != 204 {
		t.Errorf("status %d of what is stored by the path that clients ask for", res.StatusCode)
	}
}

func TestServeEndsWithRequestsAside(t *testing.T) {
	var n atomic.Int32
	gone := make(chan struct{})
	f := caching(t, handle(t, func(w http.ResponseWriter, r *http.Request) {
		if n.Add(1) == 2 {
			<-r.Context().Done()
			close(gone)
			return
		}
		w.Header().Set("Cache-Control", "max-age=0, stale-while-revalidate=60")
		fmt.Fprint(w, "x")
	}))
	f.get("/")
	f.get("/")
	eventually(t, "a request aside", func() bool { return n.Load() == 2 })
	f.stop()
	f.await()
	<-gone
}

func TestHalfAnAnswerIsNotStored(t *testing.T) {
	var n atomic.Int32
	f := caching(t, handle(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		_, _ = io.WriteString(w, strings.Repeat("x", 1000))
		if n.Add(1) == 1 {
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}
	}))
	c, r := f.dial()
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: example.com\r\n\r\n")
	if b, _ := io.ReadAll(r); strings.HasSuffix(string(b), "0\r\n\r\n") {
		t.Errorf("a whole answer: %q", b)
	}
	if _, body := f.get("/"); len(body) != 1000 {
		t.Errorf("%d bytes", len(body))
	}
	f.get("/")
	if got := n.Load(); got != 2 {
		t.Errorf("%d requests", got)
	}
}

// TestWhatATrustedPeerWasAskedForIsNotMixed: backends make links of it.
func TestWhatATrustedPeerWasAskedForIsNotMixed(t *testing.T) {
	f := caching(t, handle(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		for _, name := range told {
			fmt.Fprint(w, r.Header.Get(name))
		}
	}))
	h := everything(usual)
	h.Routes[0].Cache, h.Cache, h.Trusted = true, model.DefaultCache(), []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
	f.route(h)
	for range 2 {
		for _, name := range told {
			want := map[string]string{"X-Forwarded-Host": "example.com", "X-Forwarded-Proto": "http"}
			want[name] = "its " + name
			if _, body := f.get("/", name+": its "+name+"\r\n"); body != want["X-Forwarded-Host"]+want["X-Forwarded-Port"]+want["X-Forwarded-Prefix"]+
				want["X-Forwarded-Proto"]+want["X-Forwarded-Scheme"]+want["X-Forwarded-Server"]+want["X-Forwarded-Ssl"] {
				t.Errorf("%s: %q", name, body)
			}
		}
	}
	if hits := f.cache.(*httpcache.Cache).Stats().Hits; hits != uint64(len(told)) {
		t.Errorf("%d hits", hits)
	}
}

// TestWhatIsForOneUserIsNotAnothers asks in the name of two users for what backends
// make of the header that forward-auth gives them.
func TestWhatIsForOneUserIsNotAnothers(t *testing.T) {
	t.Cleanup(judges.CloseIdleConnections)
	judge := handle(t, func(w http.ResponseWriter, r *http.Request) {
		if user, ok := strings.CutPrefix(r.Header.Get("Cookie"), "session="); ok {
			w.Header().Set("Remote-User", user)
			return
		}
		w.WriteHeader(http.StatusUnauthorized)
	})
	backend := handle(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", strings.TrimPrefix(r.URL.Path, "/"))
		if r.URL.RawQuery != "" {
			w.Header().Set("Vary", r.URL.RawQuery)
		}
		fmt.Fprint(w, r.Header.Get("Remote-User"))
	})
	f := caching(t, backend)
	h := everything(usual)
	h.Routes[0].Cache, h.Cache = true, model.DefaultCache()
	h.Routes[0].ForwardAuth = &model.ForwardAuth{URL: "http://" + judge, Headers: []string{"Remote-User"}, Timeout: patience}
	f.route(h)
	for _, row := range []struct{ path, bob, status string }{
		{"/max-age=60", "bob", "fwd=uri-miss"},
		{"/max-age=60,must-revalidate", "bob", "fwd=uri-miss"},
		{"/max-age=60?Accept", "bob", "fwd=uri-miss"},
		{"/max-age=60?Remote-User", "bob", "fwd=vary-miss; stored"},
		{"/max-age=60,public", "ann", "hit"},
	} {
		for _, as := range []struct{ user, body, status string }{{"ann", "ann", ""}, {"bob", row.bob, row.status}} {
			res, body := f.ask("GET " + row.path + " HTTP/1.1\r\nHost: example.com\r\nRemote-User: ann\r\nCookie: session=" + as.user + "\r\n\r\n")
			if status := res.Header.Get("Cache-Status"); body != as.body || !strings.HasPrefix(status, "fairlead; "+as.status) {
				t.Errorf("%s: %s got the answer of %q, %s", row.path, as.user, body, status)
			}
		}
		if status, body := f.get(row.path, "Remote-User: ann\r\n"); status != http.StatusUnauthorized || body != "" {
			t.Errorf("%s: nobody got %d %q", row.path, status, body)
		}
	}
}
