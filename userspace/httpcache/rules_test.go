package httpcache

import (
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"fairlead/userspace/model"
)

func TestControlIsParsed(t *testing.T) {
	for _, row := range []struct {
		lines []string
		want  directives
	}{
		{nil, directives{}},
		{[]string{"", " , ,"}, directives{}},
		{[]string{"Max-Age=60, NO-STORE"}, directives{"max-age": "60", "no-store": ""}},
		{[]string{"max-age=60", "public"}, directives{"max-age": "60", "public": ""}},
		{[]string{`max-age="60"`}, directives{"max-age": "60"}},
		{[]string{`x="max-age=9, \"no-store", max-age=1`}, directives{"x": `max-age=9, "no-store`, "max-age": "1"}},
		{[]string{"max-age=1, max-age=2"}, directives{"max-age": invalid}},
		{[]string{"max-age=1, max-age=1"}, directives{"max-age": "1"}},
		{[]string{`no-cache="a", no-cache="b,c"`}, directives{"no-cache": "a,b,c"}},
		{[]string{`no-cache="a", no-cache`}, directives{"no-cache": ""}},
		{[]string{"max-age =60"}, directives{"max-age ": "60"}},
	} {
		if diff := cmp.Diff(row.want, parseControl(row.lines)); diff != "" {
			t.Errorf("%q (-want +got):\n%s", row.lines, diff)
		}
	}
}

func TestTimesAreParsed(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"0": 0, "003600": time.Hour, "2147483648": maxSeconds * time.Second, "99999999999999999999999": maxSeconds * time.Second,
	} {
		if got, ok := parseSeconds(text); !ok || got != want {
			t.Errorf("%s is %s", text, got)
		}
	}
	for _, text := range []string{"", "-1", "1.0", " 1", "a", "1a", invalid} {
		if got, ok := parseSeconds(text); ok || got != 0 {
			t.Errorf("%q is %s", text, got)
		}
	}
}

const (
	minute  = "Cache-Control: max-age=60"
	old1990 = "Last-Modified: Mon, 01 Jan 1990 00:00:00 GMT"
)

// storing are answers with x, and whether the second request is a hit.
var storing = []struct {
	name    string
	status  int
	headers []string
	request []string
	hit     bool
}{
	{"nothing said", 200, nil, nil, false},
	{"max-age", 200, []string{minute}, nil, true},
	{"s-maxage", 200, []string{"Cache-Control: s-maxage=60, max-age=0"}, nil, true},
	{"expires", 200, []string{"Expires: Sat, 01 Jan 2000 00:01:00 GMT"}, nil, true},
	{"expires that is none", 200, []string{"Expires: 0", old1990}, nil, false},
	{"expires twice", 200, []string{"Expires: Sat, 01 Jan 2000 00:01:00 GMT", "Expires: Sat, 01 Jan 2000 00:02:00 GMT"}, nil, false},
	{"expires, already over", 200, []string{"Expires: Fri, 31 Dec 1999 23:59:59 GMT"}, nil, false},
	{"last-modified", 200, []string{old1990}, nil, true},
	{"last-modified of a 201", 201, []string{old1990}, nil, false},
	{"last-modified of a public 201", 201, []string{old1990, "Cache-Control: public"}, nil, true},
	{"last-modified of a 404", 404, []string{old1990}, nil, true},
	{"max-age of a 500", 500, []string{minute}, nil, true},
	{"max-age of a 302", 302, []string{minute, "Location: /there"}, nil, true},
	{"206", 206, []string{minute}, nil, false},
	{"no-store", 200, []string{"Cache-Control: max-age=60, no-store"}, nil, false},
	{"private", 200, []string{"Cache-Control: max-age=60, private"}, nil, false},
	{"private field", 200, []string{`Cache-Control: max-age=60, private="x"`}, nil, true},
	{"no-cache", 200, []string{"Cache-Control: max-age=60, no-cache"}, nil, false},
	{"no-cache field", 200, []string{`Cache-Control: max-age=60, no-cache="x"`}, nil, true},
	{"must-understand", 599, []string{"Cache-Control: max-age=60, must-understand"}, nil, false},
	{"must-understand what is known", 200, []string{"Cache-Control: max-age=60, must-understand, no-store"}, nil, true},
	{"pragma", 200, []string{minute, "Pragma: no-cache"}, nil, true},
	{"vary by anything", 200, []string{minute, "Vary: a, *"}, nil, false},
	{"vary by the client's address", 200, []string{minute, "Vary: X-Forwarded-For"}, nil, false},
	{"trailers", 200, []string{minute, "Trailer: X-Sum"}, nil, false},
	{"cookie", 200, []string{minute, "Set-Cookie: a=b"}, nil, false},
	{"public cookie", 200, []string{"Cache-Control: max-age=60, public", "Set-Cookie: a=b"}, nil, true},
	{"cookie of the client", 200, []string{minute}, []string{"Cookie: a=b"}, true},
	{"authorized", 200, []string{minute}, []string{"Authorization: x"}, false},
	{"authorized, public", 200, []string{"Cache-Control: max-age=60, public"}, []string{"Authorization: x"}, true},
	{"authorized, must-revalidate", 200, []string{"Cache-Control: max-age=60, must-revalidate"}, []string{"Authorization: x"}, true},
	{"authorized, s-maxage", 200, []string{"Cache-Control: s-maxage=60"}, []string{"Authorization: x"}, true},
	{"client's no-store", 200, []string{minute}, []string{"Cache-Control: no-store"}, false},
	{"client's if-match", 200, []string{minute, `Etag: "a"`}, []string{`If-Match: "a"`}, false},
	{"client's range", 200, []string{minute}, []string{"Range: bytes=0-0"}, false},
	{"client's condition", 200, []string{minute, `Etag: "a"`}, []string{`If-None-Match: "b"`}, false},
	{"aged beyond its time", 200, []string{minute, "Age: 60"}, nil, false},
	{"aged within its time", 200, []string{minute, "Age: 59"}, nil, true},
	{"an age that is none", 200, []string{minute, "Age: -1"}, nil, false},
	{"two ages", 200, []string{minute, "Age: 0", "Age: 0"}, nil, false},
	{"a slow date", 200, []string{minute, "Date: Fri, 31 Dec 1999 23:58:59 GMT"}, nil, false},
	{"a fast date", 200, []string{minute, "Date: Sat, 01 Jan 2000 00:58:59 GMT"}, nil, true},
	{"two max-ages", 200, []string{"Cache-Control: max-age=60, max-age=61"}, nil, false},
}

func TestWhatIsStored(t *testing.T) {
	for _, row := range storing {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := lay(t, say(row.status, "x", row.headers...))
				for range 2 {
					w := b.do("GET /", row.request...)
					if w.Code != row.status || w.Body.String() != "x" {
						t.Errorf("answer %d %q", w.Code, w.Body)
					}
				}
				if got := len(b.asked()) == 1; got != row.hit {
					t.Errorf("%d requests to the backend", len(b.asked()))
				}
			})
		})
	}
}

func TestHowLongAnAnswerIsFresh(t *testing.T) {
	for _, row := range []struct {
		name    string
		headers []string
		fresh   time.Duration // just
	}{
		{"max-age", []string{"Cache-Control: max-age=60"}, time.Minute},
		{"max-age less age", []string{"Cache-Control: max-age=60", "Age: 20"}, 40 * time.Second},
		{"max-age less an old date", []string{"Cache-Control: max-age=60", "Date: Fri, 31 Dec 1999 23:59:30 GMT"}, 30 * time.Second},
		{"s-maxage over max-age", []string{"Cache-Control: max-age=60, s-maxage=10"}, 10 * time.Second},
		{"max-age over expires", []string{"Cache-Control: max-age=60", "Expires: Sat, 01 Jan 2000 05:00:00 GMT"}, time.Minute},
		{"expires less date", []string{"Date: Sat, 01 Jan 2000 00:00:10 GMT", "Expires: Sat, 01 Jan 2000 00:01:00 GMT"}, 50 * time.Second},
		{"a tenth of what it has lasted", []string{"Last-Modified: Fri, 31 Dec 1999 23:00:00 GMT"}, 6 * time.Minute},
		{"a day at most", []string{"Last-Modified: Mon, 01 Jan 1990 00:00:00 GMT"}, 24 * time.Hour},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := lay(t, nil)
				b.now(b.count(row.headers...))
				b.expect("at first", "1", "fwd=uri-miss; stored")
				time.Sleep(row.fresh - time.Second)
				if w := b.expect("while it is fresh", "1", "hit; ttl=1"); w.Header().Get("Date") == "" {
					t.Error("no date")
				}
				time.Sleep(time.Second)
				b.expect("after that", "2", "fwd=stale")
			})
		})
	}
}

// An answer that is fresh for a minute has an age of 30 s, or is stale for 30 s.
func TestWhatClientsAskFor(t *testing.T) {
	const plain = "max-age=60"
	for _, row := range []struct {
		name, control string
		after         time.Duration
		request, want string
	}{
		{"nothing", plain, 30 * time.Second, "", "hit; ttl=30"},
		{"no-cache", plain, 30 * time.Second, "no-cache", "fwd=request"},
		{"max-age that is enough", plain, 30 * time.Second, "max-age=30", "hit"},
		{"max-age that is not", plain, 30 * time.Second, "max-age=29", "fwd=request"},
		{"max-age that is none", plain, 30 * time.Second, "max-age=x", "fwd=request"},
		{"max-age, immutable", plain + ", immutable", 30 * time.Second, "max-age=0", "hit"},
		{"no-cache, immutable", plain + ", immutable", 30 * time.Second, "no-cache", "fwd=request"},
		{"max-age, immutable but stale", plain + ", immutable", 90 * time.Second, "max-age=0", "fwd=request"},
		{"min-fresh that is there", plain, 30 * time.Second, "min-fresh=30", "hit"},
		{"min-fresh that is not", plain, 30 * time.Second, "min-fresh=31", "fwd=request"},
		{"max-stale that is enough", plain, 90 * time.Second, "max-stale=31", "hit; ttl=-30"},
		{"max-stale that is not", plain, 90 * time.Second, "max-stale=30", "fwd=stale"},
		{"any max-stale", plain, 90 * time.Second, "max-stale", "hit; ttl=-30"},
		{"max-stale, must-revalidate", plain + ", must-revalidate", 90 * time.Second, "max-stale", "fwd=stale"},
		{"max-stale, proxy-revalidate", plain + ", proxy-revalidate", 90 * time.Second, "max-stale", "fwd=stale"},
		{"max-stale, s-maxage", "s-maxage=60", 90 * time.Second, "max-stale", "fwd=stale"},
		{"only-if-cached", plain, 30 * time.Second, "only-if-cached", "hit"},
		{"no-store", plain, 30 * time.Second, "no-store", "fwd=bypass"},
		{"just stale", plain, time.Minute, "max-stale=0", "fwd=stale"},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := lay(t, nil)
				b.now(b.count("Cache-Control: " + row.control))
				b.do("GET /")
				time.Sleep(row.after)
				body := "1"
				if strings.HasPrefix(row.want, "fwd") {
					body = "2"
				}
				b.expect(row.name, body, row.want, "Cache-Control: "+row.request)
			})
		})
	}
}

func TestOnlyIfCachedIsNotForwarded(t *testing.T) {
	b := lay(t, say(200, "x"))
	if w := b.do("GET /", "Cache-Control: only-if-cached"); w.Code != http.StatusGatewayTimeout || len(b.asked()) > 0 {
		t.Errorf("status %d, %d requests", w.Code, len(b.asked()))
	}
}

func TestAnswersToPostAreNotStored(t *testing.T) {
	b := lay(t, say(200, "x", minute, "Content-Location: /"))
	for _, method := range []string{"POST", "GET", "POST"} {
		if w := b.do(method + " /"); w.Body.String() != "x" {
			t.Errorf("body %q", w.Body)
		}
	}
	if n := len(b.asked()); n != 3 {
		t.Errorf("%d requests", n)
	}
}

func TestRoutesThatAskWhoItIs(t *testing.T) {
	basic := model.Rules{BasicAuth: &model.BasicAuth{}}
	forward := model.Rules{ForwardAuth: &model.ForwardAuth{}}
	named := model.Rules{ForwardAuth: &model.ForwardAuth{Headers: []string{"remote-user", "Remote-Group"}}}
	const of = "Remote-User: a"
	for _, row := range []struct {
		name    string
		rules   model.Rules
		headers []string
		request string
		hit     bool
	}{
		{"basic", basic, []string{minute}, of, false},
		{"basic, public", basic, []string{minute, "Cache-Control: public"}, of, true},
		{"basic, must-revalidate", basic, []string{minute, "Cache-Control: must-revalidate"}, of, true},
		{"forward", forward, []string{minute}, of, false},
		{"forward, must-revalidate", forward, []string{minute, "Cache-Control: must-revalidate"}, of, false},
		{"forward, varies", forward, []string{minute, "Vary: Remote-User"}, of, false},
		{"forward, public", forward, []string{minute, "Cache-Control: public"}, of, true},
		{"forward, s-maxage", forward, []string{"Cache-Control: s-maxage=60"}, of, true},
		{"named, must-revalidate", named, []string{minute, "Cache-Control: must-revalidate"}, of, false},
		{"named, public", named, []string{minute, "Cache-Control: public"}, of, true},
		{"named, varies by one", named, []string{minute, "Vary: Remote-User"}, of, false},
		{"named, varies by all", named, []string{minute, "Vary: Remote-User, remote-group"}, of, true},
		{"named, varies by all, authorized", named, []string{minute, "Vary: Remote-User, Remote-Group"}, "Authorization: a", false},
	} {
		b := lay(t, say(200, "x", row.headers...))
		b.handler = b.Link(&model.Route{Cache: true, Rules: row.rules}, http.HandlerFunc(b.serve))
		b.do("GET /", row.request)
		b.do("GET /", row.request)
		if hit := len(b.asked()) == 1; hit != row.hit {
			t.Errorf("%s: hit %t", row.name, hit)
		}
	}
}

func TestOtherRulesAskAnew(t *testing.T) {
	set := model.HeaderRules{Set: []model.Header{{Name: "A", Value: "b"}}}
	for _, row := range []struct {
		name  string
		rules model.Rules
		hit   bool
	}{
		{"the same", model.Rules{}, true},
		{"what is done to all answers", model.Rules{ResponseHeaders: set, Compress: &model.Compress{MinSize: 1}}, true},
		{"headers of requests", model.Rules{RequestHeaders: set}, false},
		{"paths", model.Rules{Rewrite: &model.Rewrite{Prefix: "/a", To: "/b"}}, false},
		{"texts", model.Rules{Replace: &model.Replace{Texts: []model.Replacement{{Find: "a", With: "b"}}}}, false},
		{"who may pass", model.Rules{ForwardAuth: &model.ForwardAuth{Headers: []string{"A"}}}, false},
	} {
		b := lay(t, say(200, "x", "Cache-Control: public, max-age=60"))
		ask := func(rules model.Rules, requests int) {
			t.Helper()
			b.handler = b.Link(&model.Route{Match: "/", Cache: true, Rules: rules}, http.HandlerFunc(b.serve))
			b.do("GET /")
			if n := len(b.asked()); n != requests {
				t.Errorf("%s: %d requests, want %d", row.name, n, requests)
			}
		}
		all := 2
		if row.hit {
			all = 1
		}
		ask(model.Rules{}, 1)
		ask(row.rules, all)
		ask(row.rules, all)
		ask(model.Rules{}, all)
	}
}
