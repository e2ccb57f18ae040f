package httpproxy

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"fairlead/userspace/model"
)

func TestThePathReachesTheBackendByteForByte(t *testing.T) {
	b := take(t, say("ok"))
	for _, row := range []struct{ name, prefix, target, want string }{
		{"plain", "", "/a/b", "/a/b"},
		{"nothing", "", "/", "/"},
		{"a query", "", "/a?b=c&d", "/a?b=c&d"},
		{"a query that cannot be parsed", "", "/a?b;c=%zz&d=%", "/a?b;c=%zz&d=%"},
		{"an empty query", "", "/a?", "/a?"},
		{"a query with a question mark", "", "/a?b?c", "/a?b?c"},
		{"two slashes", "", "/a//b", "/a//b"},
		{"two slashes first", "", "//a/b", "//a/b"},
		{"dot segments", "", "/a/./b/../c", "/a/./b/../c"},
		{"dot segments that are escaped", "", "/a/%2e%2E/c", "/a/%2e%2E/c"},
		{"an escaped slash", "", "/a%2Fb%2fc", "/a%2Fb%2fc"},
		{"letters that are escaped", "", "/%61%62?%63", "/%61%62?%63"},
		{"what a URL may not have", "", "/a|b{c}\"d^", "/a|b{c}\"d^"},
		{"letters beyond ASCII", "", "/\u00e9", "/\u00e9"},
		{"a colon first", "", "/:80/a", "/:80/a"},
		{"a semicolon", "", "/a;b=c/d", "/a;b=c/d"},
		{"as to a proxy", "", "http://example.com/a//b?c", "/a//b?c"},
		{"as to a proxy, without a path", "", "http://example.com?c", "/?c"},
		{"behind a prefix", "/x%2Fy", "/a//b", "/x%2Fy/a//b"},
		{"two slashes behind a prefix", "/x", "//a{", "/x//a{"},
	} {
		t.Run(row.name, func(t *testing.T) {
			f := one(t, poolOf(b.addr()+row.prefix))
			before := len(b.seen())
			if status, body := f.get(row.target); status != 200 || body != "ok" {
				t.Fatalf("answer %d %q", status, body)
			}
			line, _, _ := strings.Cut(b.seen()[before], "\r\n")
			if want := "GET " + row.want + " HTTP/1.1"; line != want {
				t.Errorf("backend got %q, want %q", line, want)
			}
		})
	}
}

func TestAPathThatCannotBeSentAsItIsIsRefused(t *testing.T) {
	b := take(t, say("ok"))
	if status, _ := one(t, poolOf(b.addr())).get("//a|b"); status != http.StatusBadRequest || len(b.seen()) > 0 {
		t.Errorf("status %d, backend got %q", status, b.seen())
	}
}

// tableOf returns a table whose routes, one for each pattern, answer with it.
func tableOf(t *testing.T, patterns ...string) func(method, target, host string) (pattern string, status int) {
	t.Helper()
	h := &model.HTTP{}
	for _, p := range patterns {
		h.Routes = append(h.Routes, model.Route{Match: p})
	}
	table, err := NewTable(h, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for p, all := range table.routes {
		all[0].handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, p) })
	}
	return func(method, target, host string) (string, int) {
		r := httptest.NewRequest(method, "/", nil)
		r.RequestURI, r.Host = target, host
		w := httptest.NewRecorder()
		p := &Proxy{}
		table.serve(&counted{ResponseWriter: w, counters: &p.counters}, r, p)
		if w.Code != 200 {
			return "", w.Code
		}
		return w.Body.String(), 200
	}
}

func TestRoutes(t *testing.T) {
	find := tableOf(t, "/", "/images/", "GET /images/{name}", "/images/{dir}/thumb", "example.com/", "example.com/images/", "POST /new", "/a/{$}", "/files/{rest...}", "/a%2Fb/")
	for _, row := range []struct{ method, target, host, want string }{
		{"GET", "/", "", "/"},
		{"GET", "/images", "", "/images/"},
		{"GET", "/images?a=b", "", "/images/"},
		{"GET", "/images/", "", "/images/"},
		{"GET", "/images/a", "", "GET /images/{name}"},
		{"HEAD", "/images/a", "", "GET /images/{name}"},
		{"POST", "/images/a", "", "/images/"},
		{"GET", "/images//a", "", "GET /images/{name}"},
		{"GET", "//images/a", "", "GET /images/{name}"},
		{"GET", "/images/a/../b/c", "", "/images/"},
		{"GET", "/images/%2e%2e/x", "", "/"},
		{"GET", "/images/.", "", "/images/"},
		{"GET", "/images/a/..", "", "/images/"},
		{"GET", "/../images/a", "", "GET /images/{name}"},
		{"GET", "/images/a%2Fb", "", "GET /images/{name}"},
		{"GET", "/images/a%2Fb/thumb", "", "/images/{dir}/thumb"},
		{"GET", "/im%61ges/a", "", "GET /images/{name}"},
		{"GET", "/images/{}|", "", "GET /images/{name}"},
		{"GET", "/a%2Fb/c", "", "/a%2Fb/"},
		{"GET", "/a/", "", "/a/{$}"},
		{"GET", "/a/b", "", "/"},
		{"GET", "/files/a/b", "", "/files/{rest...}"},
		{"GET", "/images/a", "example.com", "example.com/images/"},
		{"GET", "/images/a", "EXAMPLE.com.:8080", "example.com/images/"},
		{"GET", "/x", "other.example.com", "/"},
		{"GET", "http://example.com/images/a", "example.com", "example.com/images/"},
		{"GET", "/new", "", "/"},
		{"POST", "/new", "", "POST /new"},
	} {
		if got, status := find(row.method, row.target, row.host); got != row.want {
			t.Errorf("%s %s of %q: %q, status %d; want %q", row.method, row.target, row.host, got, status, row.want)
		}
	}
}

func TestARequestWithoutARouteIsRefused(t *testing.T) {
	find := tableOf(t, "POST /a", "/b/")
	for _, row := range []struct {
		method, target string
		want           int
	}{
		{"GET", "/a", 405}, {"GET", "/x", 404}, {"GET", "/x//y", 404}, {"GET", "/b", 200}, {"CONNECT", "example.com:443", 405},
	} {
		if _, status := find(row.method, row.target, ""); status != row.want {
			t.Errorf("%s %s: %d, want %d", row.method, row.target, status, row.want)
		}
	}
}

// TestRoutesAreThoseOfServeMux compares with what a ServeMux itself would lead a
// request to, by a redirect or not.
func TestRoutesAreThoseOfServeMux(t *testing.T) {
	parts := []string{"a", "b", "{x}", "c%2Fd", ""}
	words := []string{"a", "b", "c%2Fd", "c/d", ".", "..", "", "x", "x%20y", "a%2Fb", "A", "(", "a;b"}
	some := func(from []string) string { return from[rand.IntN(len(from))] }
	join := func(from []string, n int) string {
		var b strings.Builder
		for range n {
			b.WriteString("/" + some(from))
		}
		return cmp.Or(b.String(), "/")
	}
	for range 300 {
		mux := http.NewServeMux()
		var patterns []string
		for range 8 {
			p := join(parts, rand.IntN(4))
			for n := 1; strings.Contains(p, "{x}"); n++ {
				p = strings.Replace(p, "{x}", fmt.Sprintf("{x%d}", n), 1)
			}
			p = some([]string{"", "GET ", "POST "}) + some([]string{"", "h"}) + p
			func() {
				defer func() { _ = recover() }() // it conflicts
				if !strings.Contains(p, "//") {
					mux.Handle(p, http.NotFoundHandler())
					patterns = append(patterns, p)
				}
			}()
		}
		find := tableOf(t, patterns...)
		for range 50 {
			method, host, target := some([]string{"GET", "POST"}), some([]string{"h", "i:80"}), join(words, rand.IntN(5))
			if strings.HasSuffix(target, "/.") || strings.HasSuffix(target, "/..") {
				continue // are directories here, as RFC 3986 has it
			}
			_, want := mux.Handler(httptest.NewRequest(method, "http://"+host+target, nil))
			if got, status := find(method, target, host); got != want || (status == 200) != (want != "") {
				t.Errorf("%s %s of %s with %q: %q, status %d; want %q", method, target, host, patterns, got, status, want)
			}
		}
	}
}

func TestConditionsOfRoutes(t *testing.T) {
	pools := map[string]*model.Pool{}
	h := &model.HTTP{Trusted: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}
	add := func(name string, r model.Route) {
		r.Match, r.Timeouts, r.Pools = "/a", usual, []model.Share{{Pool: name, Weight: 1}}
		h.Routes = append(h.Routes, r)
		pools[name] = poolOf(names(t, name))
	}
	add("inside", model.Route{Clients: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}})
	add("beta", model.Route{Headers: []model.Header{{Name: "x-beta", Value: "1"}}, Query: []model.Header{{Name: "q", Value: model.AnyValue}}})
	add("cookie", model.Route{Cookies: []model.Header{{Name: "user", Value: "test"}}})
	f := serve(t, h, pools)
	for _, row := range []struct{ name, path, header, want string }{
		{"none holds", "/a", "", ""},
		{"a client of the network", "/a", "X-Forwarded-For: 10.1.2.3\r\n", "inside"},
		{"a client that lies", "/a", "X-Forwarded-For: 10.1.2.3, 192.0.2.1\r\n", ""},
		{"one of two", "/a", "X-Beta: 1\r\n", ""},
		{"both", "/a?q=7", "X-Beta: 1\r\n", "beta"},
		{"both, one of them empty", "/a?q", "X-Beta: 0\r\nX-Beta: 1\r\n", "beta"},
		{"another value", "/a?q", "X-Beta: 10\r\n", ""},
		{"a cookie", "/a", "Cookie: a=b; user=test\r\n", "cookie"},
		{"the first that holds", "/a?q", "Cookie: user=test\r\nX-Beta: 1\r\n", "beta"},
	} {
		status, body := f.get(row.path, row.header)
		if row.want == "" && status != 404 || row.want != "" && body != row.want {
			t.Errorf("%s: %d %q, want %q", row.name, status, body, row.want)
		}
	}
}

func TestASplitFollowsItsWeights(t *testing.T) {
	pools := map[string]*model.Pool{"a": poolOf(names(t, "a")), "b": poolOf(names(t, "b")), "c": poolOf(names(t, "c"))}
	h := &model.HTTP{Routes: []model.Route{{Match: "/", Timeouts: usual, Pools: []model.Share{{Pool: "a", Weight: 3}, {Pool: "b", Weight: 1}, {Pool: "c"}}}}}
	f, got := serve(t, h, pools), map[string]int{}
	for range 200 {
		_, body := f.get("/")
		got[body]++
	}
	if got["a"] < 110 || got["b"] < 15 || got["a"]+got["b"] != 200 {
		t.Errorf("%v, want about 150 and 50", got)
	}
}

func TestAnotherTableIsForTheRequestsThatFollow(t *testing.T) {
	arrived, goOn := make(chan struct{}), make(chan struct{})
	slow := take(t, func(string, net.Conn) string {
		arrived <- struct{}{}
		<-goOn
		return say("old")("", nil)
	})
	f := one(t, poolOf(slow.addr()))
	old := make(chan string)
	go func() {
		_, body := f.get("/")
		old <- body
	}()
	<-arrived
	f.pools["new"] = NewPool(nil)
	update(f.pools["new"], poolOf(names(t, "new")))
	f.route(&model.HTTP{Routes: []model.Route{{Match: "/", Pools: []model.Share{{Pool: "new", Weight: 1}}, Timeouts: usual}}})
	if _, body := f.get("/"); body != "new" {
		t.Errorf("answer %q by the new table", body)
	}
	close(goOn)
	if body := <-old; body != "old" {
		t.Errorf("answer %q by the old table", body)
	}
}

func TestPatternsThatConflictAreAnError(t *testing.T) {
	_, err := NewTable(&model.HTTP{Routes: []model.Route{{Match: "/a/{x}"}, {Match: "/{x}/b"}}}, nil, nil)
	if err == nil {
		t.Error("no error")
	}
}
