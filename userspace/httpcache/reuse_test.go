package httpcache

import (
	"maps"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

const modified = "Last-Modified: Fri, 31 Dec 1999 00:00:00 GMT"

// reduced returns the headers of an answer, without Date.
func reduced(h http.Header) map[string]string {
	all := map[string]string{}
	for name, values := range h {
		if name != "Date" {
			all[name] = strings.Join(values, " | ")
		}
	}
	return all
}

// changed returns headers with some others, and without those that have no value.
func changed(h map[string]string, changes []string) map[string]string {
	all := maps.Clone(h)
	for _, c := range changes {
		name, value, set := strings.Cut(c, ": ")
		if all[name] = value; !set {
			delete(all, name)
		}
	}
	return all
}

// A reuse is a request for what is stored, and the answer that it gets.
type reuse struct {
	name, request string
	headers       []string
	status        int
	body          string
	want          map[string]string
}

// check asks for an answer that was stored with some headers ten seconds ago.
func (row *reuse) check(t *testing.T, stored []string) {
	synctest.Test(t, func(t *testing.T) {
		b := lay(t, say(200, "0123456789", stored...))
		b.do("GET /")
		time.Sleep(10 * time.Second)
		w := b.do(row.request, row.headers...)
		if w.Code != row.status || w.Body.String() != row.body || len(b.asked()) != 1 {
			t.Errorf("answer %d %q after %d requests", w.Code, w.Body, len(b.asked()))
		}
		if diff := cmp.Diff(row.want, reduced(w.Header())); diff != "" {
			t.Errorf("headers (-want +got):\n%s", diff)
		}
	})
}

func TestAnswersFromTheCache(t *testing.T) {
	stored := []string{
		minute, `Etag: "a"`, modified, "Content-Type: text/x", "X-A: 1", "X-A: 2", "Age: 5", "Proxy-Authenticate: x",
		`Cache-Control: no-cache="x-hidden"`, "X-Hidden: 1", "Cache-Status: other; hit", "Expires: Sat, 01 Jan 2000 00:01:00 GMT",
	}
	const status = "other; hit | fairlead; hit; ttl=45"
	whole := map[string]string{
		"Age": "15", "Cache-Control": `max-age=60 | no-cache="x-hidden"`, "Cache-Status": status, "Content-Length": "10", "Content-Type": "text/x",
		"Expires": "Sat, 01 Jan 2000 00:01:00 GMT",
		"Etag":    `"a"`, "Last-Modified": modified[15:], "X-A": "1 | 2",
	}
	with := func(changes ...string) map[string]string { return changed(whole, changes) }
	bare := with("Content-Length", "Content-Type")
	part := func(r string, n string) map[string]string {
		return with("Accept-Ranges: bytes", "Content-Range: bytes "+r, "Content-Length: "+n)
	}
	beyond := with("Cache-Control", "Etag", "Expires", "Last-Modified", "Content-Length", "Content-Type: text/plain; charset=utf-8", "Content-Range: bytes */10",
		"X-Content-Type-Options: nosniff")
	for _, row := range []reuse{
		{"all", "GET /", nil, 200, "0123456789", whole},
		{"head", "HEAD /", nil, 200, "", whole},
		{"same tag", "GET /", []string{`If-None-Match: "b", W/"a"`}, 304, "", bare},
		{"same tag of a head", "HEAD /", []string{`If-None-Match: "a"`}, 304, "", bare},
		{"any tag", "GET /", []string{"If-None-Match: *"}, 304, "", bare},
		{"another tag, whatever the time", "GET /", []string{`If-None-Match: "b"`, "If-Modified-Since: Sat, 01 Jan 2000 00:00:00 GMT"}, 200, "0123456789", whole},
		{"not modified since", "GET /", []string{"If-Modified-Since: Friday, 31-Dec-99 00:00:00 GMT"}, 304, "", bare},
		{"modified since", "GET /", []string{"If-Modified-Since: Thu, 30 Dec 1999 23:59:59 GMT"}, 200, "0123456789", whole},
		{"since a time that is none", "GET /", []string{"If-Modified-Since: x"}, 200, "0123456789", whole},
		{"range", "GET /", []string{"Range: bytes=2-4"}, 206, "234", part("2-4/10", "3")},
		{"last bytes", "GET /", []string{"Range: bytes=-2"}, 206, "89", part("8-9/10", "2")},
		{"range if it is the same", "GET /", []string{"Range: bytes=0-0", `If-Range: "a"`}, 206, "0", part("0-0/10", "1")},
		{"range, but it is another", "GET /", []string{"Range: bytes=0-0", `If-Range: "b"`}, 200, "0123456789", with("Accept-Ranges: bytes")},
		{"range if it has not changed since", "GET /", []string{"Range: bytes=0-0", "If-Range: Fri, 31 Dec 1999 00:00:00 GMT"}, 206, "0", part("0-0/10", "1")},
		{"range, but it has changed since", "GET /", []string{"Range: bytes=0-0", "If-Range: Thu, 30 Dec 1999 00:00:00 GMT"}, 200, "0123456789", with("Accept-Ranges: bytes")},
		{"range if it is about the same", "GET /", []string{"Range: bytes=0-0", `If-Range: W/"a"`}, 200, "0123456789", with("Accept-Ranges: bytes")},
		{"range of what the client has", "GET /", []string{"Range: bytes=0-0", `If-None-Match: "a"`}, 304, "", bare},
		{"range to the end and beyond", "GET /", []string{"Range: bytes=8-99"}, 206, "89", part("8-9/10", "2")},
		{"range beyond the end", "GET /", []string{"Range: bytes=10-"}, 416, "invalid range: failed to overlap\n", beyond},
		{"range beyond the end of another", "GET /", []string{"Range: bytes=10-", `If-Range: "b"`}, 200, "0123456789", with("Accept-Ranges: bytes")},
		{"ranges", "GET /", []string{"Range: bytes=0-0,2-2"}, 200, "0123456789", whole},
		{"range in two lines", "GET /", []string{"Range: bytes=0-0", "Range: bytes=2-2"}, 200, "0123456789", whole},
		{"range of capitals", "GET /", []string{"Range: Bytes=2-4"}, 206, "234", part("2-4/10", "3")},
		{"range in another unit", "GET /", []string{"Range: lines=0-0"}, 200, "0123456789", whole},
		{"range of a head", "HEAD /", []string{"Range: bytes=2-4"}, 200, "", whole},
	} {
		t.Run(row.name, func(t *testing.T) { row.check(t, stored) })
	}
}

func TestStoredAnswersAreValidated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := lay(t, say(200, "body", minute, `Etag: "a"`, modified, "X-A: 1", "X-B: 1", "Content-Encoding: x"))
		b.do("GET /")
		time.Sleep(time.Minute)
		b.now(say(304, "", `Etag: "b"`, "X-A: 2", "Content-Encoding: y", "Cache-Control: max-age=90"))
		w := b.expect("when it is stale", "body", "fwd=stale; fwd-status=304; ttl=90", "Range: bytes=0-1", `If-None-Match: "z"`, `If-Range: "z"`, "X-Own: 1")
		if w.Code != 200 {
			t.Errorf("status %d", w.Code)
		}
		got := reduced(b.asked()[1].Header)
		if diff := cmp.Diff(map[string]string{"If-None-Match": `"a"`, "If-Modified-Since": modified[15:], "X-Own": "1"}, got); diff != "" {
			t.Errorf("request (-want +got):\n%s", diff)
		}
		time.Sleep(89 * time.Second)
		w = b.expect("when it was validated", "body", "hit; ttl=1")
		h := w.Header()
		if h.Get("X-A") != "2" || h.Get("X-B") != "1" || h.Get("Etag") != `"a"` || h.Get("Content-Encoding") != "x" {
			t.Errorf("headers %v", h)
		}
		time.Sleep(time.Second)
		if w = b.do("GET /", `If-None-Match: "a"`); w.Code != 304 {
			t.Errorf("status %d for a client that has it", w.Code)
		}
		b.now(say(200, "new", minute, `Etag: "n"`))
		time.Sleep(90 * time.Second)
		b.expect("when it has changed", "new", "fwd=stale; stored")
		b.expect("after that", "new", "hit")
		if s := b.Stats(); s.Revalidated != 2 || s.Hits != 2 || s.Misses != 4 {
			t.Errorf("stats %+v", s)
		}
	})
}

func TestAValidatedAnswerMayNotBeStoredAnyMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := lay(t, say(200, "body", "Cache-Control: no-cache", `Etag: "a"`))
		b.do("GET /")
		b.now(say(304, "", `Etag: "a"`, "Cache-Control: no-store"))
		b.expect("what is not used unasked", "body", "fwd=stale; fwd-status=304")
		b.now(say(200, "other", "Cache-Control: no-store"))
		b.expect("when it is gone", "other", "fwd=uri-miss")
	})
}

func TestAnotherAnswerRemovesWhatIsStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := lay(t, say(200, "body", "Cache-Control: max-age=60, stale-if-error=600", `Etag: "a"`))
		b.do("GET /")
		time.Sleep(time.Minute)
		b.now(say(403, "no", "Cache-Control: private"))
		b.expect("what is not to be stored", "no", "fwd=stale")
		b.now(say(500, "failed"))
		b.expect("when the old one is gone", "failed", "fwd=uri-miss")
	})
}

func TestVariants(t *testing.T) {
	for _, row := range []struct {
		name, vary    string
		first, second []string
		hit           bool
	}{
		{"same", "a", []string{"A: 1"}, []string{"A: 1", "B: 2"}, true},
		{"other", "a", []string{"A: 1"}, []string{"A: 2"}, false},
		{"case of a value", "a", []string{"A: x"}, []string{"A: X"}, false},
		{"missing", "a", []string{"A: 1"}, nil, false},
		{"missing at first", "a", nil, []string{"A: 1"}, false},
		{"empty is not missing", "a", nil, []string{"A: "}, false},
		{"both missing", "a, b", []string{"B: 1"}, []string{"B: 1"}, true},
		{"one of two", "a, b", []string{"A: 1", "B: 1"}, []string{"A: 1", "B: 2"}, false},
		{"lines joined", "a", []string{"A: 1, 2"}, []string{"A: 1", "A: 2"}, true},
		{"blanks", "a", []string{"A: 1,2"}, []string{"A:  1 , 2 "}, true},
		{"languages without case", "accept-language", []string{"Accept-Language: en, de;q=0.5"}, []string{"Accept-Language: EN,de; q=0.5"}, true},
		{"order of languages", "accept-language", []string{"Accept-Language: en, de"}, []string{"Accept-Language: de, en"}, false},
		{"scope", "", []string{"Test-Scope: a"}, []string{"Test-Scope: b"}, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			b := lay(t, nil)
			b.now(b.count(minute, "Vary: "+row.vary))
			b.expect("at first", "1", "fwd=uri-miss", row.first...)
			body, status := "2", "fwd=vary-miss"
			if row.hit {
				body, status = "1", "hit"
			}
			b.expect("then", body, status, row.second...)
			b.expect("the first again", "1", "hit", row.first...)
			b.expect("the second again", body, "hit", row.second...)
		})
	}
}

func TestVariantsOfAURLAreBounded(t *testing.T) {
	b := lay(t, nil)
	b.now(b.count(minute, "Vary: A"))
	for i := range maxEntries + 1 {
		b.do("GET /", "A: "+strings.Repeat("x", i+1))
	}
	b.expect("the last", "33", "hit", "A: "+strings.Repeat("x", maxEntries+1))
	b.expect("the second", "2", "hit", "A: xx")
	b.expect("the first", "34", "fwd=vary-miss", "A: x")
}

func TestHeadBringsUpToDate(t *testing.T) {
	for _, row := range []struct {
		name    string
		headers []string
		body    string
	}{
		{"same", []string{`Etag: "a"`, "Cache-Control: max-age=90", "Content-Length: 1"}, "1"},
		{"another tag", []string{`Etag: "b"`, "Cache-Control: max-age=90"}, "3"},
		{"another length", []string{`Etag: "a"`, "Cache-Control: max-age=90", "Content-Length: 2"}, "3"},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := lay(t, nil)
				b.now(b.count(minute, `Etag: "a"`))
				b.do("GET /")
				time.Sleep(time.Minute)
				b.now(func(w http.ResponseWriter, _ *http.Request) { addAll(w.Header(), row.headers) })
				b.do("HEAD /")
				if r := b.asked()[1]; r.Method != "HEAD" || r.Header.Get("If-None-Match") != "" {
					t.Errorf("request %s %v", r.Method, r.Header)
				}
				b.now(b.count(minute, `Etag: "a"`))
				if w := b.do("GET /"); w.Body.String() != row.body {
					t.Errorf("body %q, want %q", w.Body, row.body)
				}
			})
		})
	}
}
