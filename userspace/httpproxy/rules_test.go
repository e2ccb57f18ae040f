package httpproxy

import (
	"fmt"
	"io"
	"net"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"fairlead/testenv"
	"fairlead/userspace/model"
)

// ruled opens a front whose only route has rules, before a backend that answers
// with these bytes.
func ruled(t *testing.T, rules model.Rules, answer string) (*front, *taker) {
	t.Helper()
	b := take(t, func(string, net.Conn) string { return answer })
	h := everything(usual)
	h.Routes[0].Rules = rules
	return serve(t, h, map[string]*model.Pool{"main": poolOf(b.addr())}), b
}

var (
	forwardedLines = regexp.MustCompile(`(?m)^(X-)?Forwarded.*\r\n`)
	dateLine       = regexp.MustCompile(`(?m)^Date: .*\r\n`)
)

// pass sends the head of a request, which ends without an empty line, and returns
// what a backend has got, without forwarding headers, and what has come back,
// without a date.
func (f *front) pass(b *taker, request string) (sent, got string) {
	f.t.Helper()
	before := len(b.seen())
	c, r := f.dial()
	if _, err := io.WriteString(c, request+"Connection: close\r\n\r\n"); err != nil {
		f.t.Fatal(err)
	}
	all, err := io.ReadAll(r)
	if err != nil {
		f.t.Fatal(err)
	}
	if heads := b.seen(); len(heads) > before {
		sent = forwardedLines.ReplaceAllString(heads[before], "")
	}
	return sent, strings.Replace(dateLine.ReplaceAllString(string(all), ""), "Connection: close\r\n", "", 1)
}

// A passing is a row: what goes in and out on both sides.
type passing struct {
	name          string
	rules         model.Rules
	request, sent string
	answer, got   string
}

func checkPassings(t *testing.T, rows []passing) {
	t.Helper()
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			f, b := ruled(t, row.rules, row.answer)
			sent, got := f.pass(b, row.request)
			if diff := cmp.Diff(row.sent, sent); diff != "" {
				t.Errorf("backend got (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(row.got, got); diff != "" {
				t.Errorf("client got (-want +got):\n%s", diff)
			}
		})
	}
}

// What rows that are not about it have.
const (
	ask   = "GET /a HTTP/1.1\r\nHost: example.com\r\n"
	asked = ask + "\r\n"
	okay  = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: text/plain\r\n\r\nok"
)

func headersOf(pairs ...string) (all []model.Header) {
	for i := 0; i < len(pairs); i += 2 {
		all = append(all, model.Header{Name: pairs[i], Value: pairs[i+1]})
	}
	return all
}

func TestHeaderRules(t *testing.T) {
	ofRequest := func(h model.HeaderRules) model.Rules { return model.Rules{RequestHeaders: h} }
	ofAnswer := func(h model.HeaderRules) model.Rules { return model.Rules{ResponseHeaders: h} }
	checkPassings(t, []passing{
		{
			"set, add and remove for backends",
			ofRequest(model.HeaderRules{Remove: []string{"cookie"}, Set: headersOf("x-a", "1"), Add: headersOf("X-B", "3", "X-B", "4")}),
			ask + "Cookie: c\r\nX-A: 0\r\nX-A: 9\r\nX-B: 2\r\n", ask + "X-A: 1\r\nX-B: 2\r\nX-B: 3\r\nX-B: 4\r\n\r\n", okay, okay,
		},
		{
			"another host", ofRequest(model.HeaderRules{Set: headersOf("Host", "backend:81")}),
			ask, "GET /a HTTP/1.1\r\nHost: backend:81\r\n\r\n", okay, okay,
		},
		{
			"what a client says cannot undo it", ofRequest(model.HeaderRules{Set: headersOf("X-A", "1"), Remove: []string{"X-B"}}),
			ask + "Connection: X-A, X-C\r\nX-A: 0\r\nX-B: 1\r\nX-C: 1\r\n", ask + "X-A: 1\r\n\r\n", okay, okay,
		},
		{
			"set, add and remove for clients",
			ofAnswer(model.HeaderRules{Remove: []string{"server"}, Set: headersOf("X-A", "1"), Add: headersOf("X-B", "2")}), ask, asked,
			"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nServer: s\r\nX-A: 0\r\nX-B: 1\r\n\r\n",
			"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-A: 1\r\nX-B: 1\r\nX-B: 2\r\n\r\n",
		},
		{
			"no type is guessed for one that was removed", ofAnswer(model.HeaderRules{Remove: []string{"Content-Type"}}), ask, asked,
			okay, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
		},
		{
			"answers of our own too", ofAnswer(model.HeaderRules{Set: headersOf("X-A", "1"), Remove: []string{"X-Content-Type-Options"}}), ask, asked, "",
			"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 12\r\nContent-Type: text/plain; charset=utf-8\r\nX-A: 1\r\n\r\nBad Gateway\n",
		},
	})
	f, b := ruled(t, ofRequest(model.HeaderRules{Remove: []string{"X-Forwarded-For"}, Set: headersOf("X-Forwarded-Proto", "https")}), okay)
	f.pass(b, ask)
	if got := b.seen()[0]; strings.Contains(got, "X-Forwarded-For") || !strings.Contains(got, "X-Forwarded-Proto: https\r\n") {
		t.Errorf("backend got %q", got)
	}
}

func TestRewrites(t *testing.T) {
	for _, row := range []struct {
		name            string
		rule            model.Rewrite
		target, want, x string
	}{
		{"a prefix", model.Rewrite{Prefix: "/api", To: "/v1"}, "/api/a%2Fb?q=/api/", "/v1/a%2Fb?q=/api/", ""},
		{"a prefix that goes", model.Rewrite{Prefix: "/api", To: "/"}, "/api/a", "/a", ""},
		{"the prefix alone", model.Rewrite{Prefix: "/api", To: "/"}, "/api", "/", ""},
		{"the prefix and a slash", model.Rewrite{Prefix: "/api", To: "/v1/"}, "/api/", "/v1/", ""},
		{"a prefix of whole segments", model.Rewrite{Prefix: "/api", To: "/v1"}, "/apix/a", "/apix/a", ""},
		{"another path", model.Rewrite{Prefix: "/api/v1", To: "/"}, "/api//./b", "/api//./b", ""},
		{"a prefix before all", model.Rewrite{Prefix: "/", To: "/x"}, "/a", "/x/a", ""},
		{"a prefix in other letters", model.Rewrite{Prefix: "/api", To: "/v1"}, "//x/../%61pi/b|", "/v1/b%7C", ""},
		{"no way out of what is put", model.Rewrite{Prefix: "/a/b", To: "/x"}, "/a/b/../../etc", "/a/b/../../etc", ""},
		{"an expression", model.Rewrite{Regexp: "^/u/([0-9]+)$", To: "/users/${1}x"}, "/u/17?a", "/users/17x?a", ""},
		{"an expression that does not match", model.Rewrite{Regexp: "^/u/([0-9]+)$", To: "/users/$1"}, "/u//x", "/u//x", ""},
		{"all that an expression matches", model.Rewrite{Regexp: "/old", To: "/new"}, "/old/old", "/new/new", ""},
		{"a group by its name", model.Rewrite{Regexp: "^/(?P<lang>[a-z]+)/(.*)$", To: "/$2/$lang"}, "/de/a/b", "/a/b/de", ""},
		{"no dot segments come of it", model.Rewrite{Regexp: "^/f-(.*)$", To: "/f/$1/x"}, "/f-..", "/x", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			f, b := ruled(t, model.Rules{Rewrite: &row.rule}, okay)
			sent, _ := f.pass(b, "GET "+row.target+" HTTP/1.1\r\nHost: a\r\n")
			if want := "GET " + row.want + " HTTP/1.1\r\nHost: a\r\n\r\n"; sent != want {
				t.Errorf("backend got %q, want %q", sent, want)
			}
		})
	}
}

func TestRedirects(t *testing.T) {
	to := func(status int, to, expression string) *model.Redirect {
		return &model.Redirect{Status: status, To: to, Regexp: expression}
	}
	for _, row := range []struct {
		name   string
		rule   *model.Redirect
		target string
		want   string // status and location; "" is on to the backend
	}{
		{"one place for all", to(302, "/new", ""), "/old/a", "302 Found /new"},
		{"the query follows", to(302, "/new", ""), "/old?a=%2F&b", "302 Found /new?a=%2F&b"},
		{"unless there is one", to(301, "/new?x=$1", "^/old/(.*)$"), "/old/a?b", "301 Moved Permanently /new?x=a"},
		{"to another host", to(308, "https://www.example.org$path", ""), "/a%2Fb?c", "308 Permanent Redirect https://www.example.org/a%2Fb?c"},
		{"to the same host", to(307, "https://$host:8443$path", ""), "/a", "307 Temporary Redirect https://example.com:8443/a"},
		{"with groups", to(303, "/${2}/$lang/$$", "^/(?P<lang>..)/(.*)$"), "/de/a/b", "303 See Other /a/b/de/$"},
		{"what does not match goes on", to(302, "/new", "^/old"), "/other", ""},
		{"never to another host by a path", to(302, "$1", "^/x(/.*)$"), "/x//evil.example", "302 Found /evil.example"},
		{"nor by slashes that meet", to(302, "/$1", "^/x(/.*)$"), "/x/evil.example", "302 Found /evil.example"},
		{"nor by a backslash", to(302, "/$1", "^/x/(.*)$"), "/x/\\evil.example", "302 Found /%5Cevil.example"},
		{"what a URL may not have", to(302, "/n$path", ""), "/\u00e9\"?\"", "302 Found /n/%C3%A9%22?%22"},
	} {
		t.Run(row.name, func(t *testing.T) {
			f, b := ruled(t, model.Rules{Redirect: row.rule}, okay)
			sent, got := f.pass(b, "GET "+row.target+" HTTP/1.1\r\nHost: Example.com:80\r\n")
			if row.want == "" {
				if got != okay {
					t.Errorf("client got %q", got)
				}
				return
			}
			at := strings.LastIndex(row.want, " ")
			if want := "HTTP/1.1 " + row.want[:at] + "\r\nLocation: " + row.want[at+1:] + "\r\nContent-Length: 0\r\n\r\n"; got != want || sent != "" {
				t.Errorf("client got %q, want %q; backend got %q", got, want, sent)
			}
		})
	}
}

func TestARedirectToTheHostAskedForNeedsOne(t *testing.T) {
	f, b := ruled(t, model.Rules{Redirect: &model.Redirect{Status: 302, To: "https://$host$path"}}, okay)
	if sent, got := f.pass(b, "GET / HTTP/1.0\r\n"); sent != "" || !strings.HasPrefix(got, "HTTP/1.0 400 ") {
		t.Errorf("client got %q, backend %q", got, sent)
	}
	if _, got := f.pass(b, "GET / HTTP/1.1\r\nHost: [::1]:80\r\n"); !strings.Contains(got, "Location: https://[::1]/\r\n") {
		t.Errorf("client got %q", got)
	}
}

// everyRule changes all that there is to be changed.
func everyRule() model.Rules {
	types := []string{"text/*", "application/json"}
	return model.Rules{
		RequestHeaders: model.HeaderRules{Set: headersOf("X-A", "1")}, ResponseHeaders: model.HeaderRules{Set: headersOf("X-A", "1")},
		Rewrite: &model.Rewrite{Prefix: "/", To: "/"}, RequestID: &model.RequestID{Header: "X-Request-Id", Answer: true},
		ErrorPages: []model.ErrorPage{{Low: 400, High: 599, Type: "a/b", Body: "no", Backends: true}},
		Compress:   &model.Compress{Types: types, Encodings: []string{"gzip"}},
		Replace:    &model.Replace{Types: types, Texts: []model.Replacement{{Find: "a", With: "b"}}},
		Mirror:     &model.Mirror{Pool: "main", Percent: 100, MaxBody: 1 << 10, Most: 1},
	}
}

func TestRulesLeaveChangedProtocolsAlone(t *testing.T) {
	b := take(t, func(_ string, c net.Conn) string {
		fmt.Fprint(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nContent-Type: text/html\r\nUpgrade: x\r\n\r\na banana")
		return ""
	})
	h := everything(usual)
	h.Routes[0].Rules = everyRule()
	f := serve(t, h, map[string]*model.Pool{"main": poolOf(b.addr())})
	_, got := f.pass(b, ask+"Upgrade: x\r\nConnection: Upgrade\r\nAccept-Encoding: gzip\r\n")
	if want := "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nContent-Type: text/html\r\nUpgrade: x\r\n\r\na banana"; got != want {
		t.Errorf("client got %q, want %q", got, want)
	}
	if len(b.seen()) != 1 {
		t.Errorf("%d requests", len(b.seen()))
	}
}

func TestErrorPages(t *testing.T) {
	const head = "HTTP/1.1 404 Not Found\r\n"
	page := func(backends bool) model.Rules {
		return model.Rules{ErrorPages: []model.ErrorPage{
			{Low: 404, High: 404, Type: "text/html", Body: "<p>no", Backends: backends},
			{Low: 400, High: 599, Type: "a/b", Body: "else", Backends: backends},
		}}
	}
	const own = "Content-Type: %\r\nX-Content-Type-Options: nosniff\r\n\r\n"
	backends := head + "Content-Encoding: gzip\r\nContent-Length: 3\r\nContent-Type: x/y\r\nEtag: \"1\"\r\nSet-Cookie: a=b\r\n\r\nxyz"
	checkPassings(t, []passing{
		{"for a status of ours", page(false), ask, asked, "", "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 4\r\n" + strings.Replace(own, "%", "a/b", 1) + "else"},
		{"not for backends, unless asked", page(false), ask, asked, backends, backends},
		{"for backends", page(true), ask, asked, backends, head + "Content-Length: 5\r\nContent-Type: text/html\r\nSet-Cookie: a=b\r\n\r\n<p>no"},
		{"the first for a status", page(true), ask, asked, "HTTP/1.1 503 x\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\nContent-Type: a/b\r\nRetry-After: 1\r\n\r\nelse"},
		{"others stay", page(true), ask, asked, okay, okay},
		{
			"for HEAD without a body", page(true), "HEAD /a HTTP/1.1\r\nHost: example.com\r\n", "HEAD /a HTTP/1.1\r\nHost: example.com\r\n\r\n",
			head + "Content-Length: 3\r\n\r\n", head + "Content-Length: 5\r\nContent-Type: text/html\r\n\r\n",
		},
		{"in place of chunks", page(true), ask, asked, head + "Transfer-Encoding: chunked\r\n\r\n3\r\nxyz\r\n0\r\n\r\n", head + "Content-Length: 5\r\nContent-Type: text/html\r\n\r\n<p>no"},
	})
}

func TestErrorPagesWithoutARoute(t *testing.T) {
	h := &model.HTTP{
		ErrorPages: []model.ErrorPage{{Low: 404, High: 405, Type: "a/b", Body: "none"}},
		Routes:     []model.Route{{Match: "POST /a", Pools: []model.Share{{Pool: "main", Weight: 1}}, Timeouts: usual}},
	}
	f := serve(t, h, map[string]*model.Pool{"main": poolOf(testenv.FreeAddress(t))})
	if status, body := f.get("/x"); status != 404 || body != "none" {
		t.Errorf("answer %d %q", status, body)
	}
	res, body := f.ask("GET /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
	if res.StatusCode != 405 || body != "none" || res.Header.Get("Allow") != "POST" {
		t.Errorf("answer %d %q, Allow %q", res.StatusCode, body, res.Header.Get("Allow"))
	}
	res, body = f.ask("POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
	if res.StatusCode != 502 || body != "Bad Gateway\n" {
		t.Errorf("answer %d %q of a route without pages", res.StatusCode, body)
	}
}
