package httpcache

import (
	"io"
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

func TestStaleAnswersWhileOneIsFetched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := lay(t, nil)
		b.now(b.count("Cache-Control: s-maxage=60, stale-while-revalidate=30"))
		b.do("GET /")
		time.Sleep(89 * time.Second)
		slow := make(chan struct{})
		b.now(func(w http.ResponseWriter, r *http.Request) {
			<-slow
			say(200, "new", "Cache-Control: s-maxage=60, stale-while-revalidate=30")(w, r)
		})
		for range 3 {
			b.expect("while it is fetched", "1", "hit; ttl=-29")
		}
		close(slow)
		synctest.Wait()
		b.expect("when it was", "new", "hit; ttl=60")
		if n := len(b.asked()); n != 2 {
			t.Errorf("%d requests", n)
		}
		if s := b.Stats(); s.Stale != 3 || s.Hits != 4 || s.Misses != 2 {
			t.Errorf("stats %+v", s)
		}
		time.Sleep(90 * time.Second)
		b.expect("later than it may be", "new", "fwd=stale")
	})
}

func TestStaleAnswersIfBackendsFail(t *testing.T) {
	const own, none = "stale-if-error=120", ""
	broken := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "10")
		w.WriteHeader(502)
		_, _ = io.WriteString(w, "half")
		panic(http.ErrAbortHandler)
	}
	for _, row := range []struct {
		name, control, request string
		after                  time.Duration
		answer                 http.HandlerFunc // nil: nobody answers
		stale                  bool
	}{
		{"503, said by the answer", own, "", 179 * time.Second, say(503, "sorry"), true},
		{"too late", own, "", 180 * time.Second, say(503, "sorry"), false},
		{"500", own, "", 100 * time.Second, say(500, "sorry"), true},
		{"501", own, "", 100 * time.Second, say(501, "sorry"), false},
		{"502 that breaks off", own, "", 100 * time.Second, broken, true},
		{"503, said by the client", none, "stale-if-error=120", 100 * time.Second, say(503, "sorry"), true},
		{"503, said by nobody", none, "", 100 * time.Second, say(503, "sorry"), false},
		{"nobody answers", none, "", 119 * time.Second, nil, true},
		{"nobody answers for too long", none, "", 120 * time.Second, nil, false},
		{"must-revalidate", own + ", must-revalidate", "", 100 * time.Second, nil, false},
		{"s-maxage", "s-maxage=60", "", 100 * time.Second, nil, false},
		{"s-maxage, said by the answer", "s-maxage=60, " + own, "", 100 * time.Second, nil, true},
		{"no-cache of the client", own, "no-cache", 100 * time.Second, nil, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := lay(t, say(200, "old", "Cache-Control: max-age=60, "+row.control))
				b.do("GET /")
				time.Sleep(row.after)
				b.now(row.answer)
				b.dead.Store(row.answer == nil)
				w := b.do("GET /", "Cache-Control: "+row.request)
				if got := w.Code == 200 && w.Body.String() == "old"; got != row.stale {
					t.Errorf("answer %d %q", w.Code, w.Body)
				}
				b.do("GET /", "Cache-Control: "+row.request)
				n := len(b.asked())
				time.Sleep(bridgeTime)
				if n == 2 != row.stale {
					t.Errorf("%d requests", n)
				}
				b.dead.Store(false)
				b.now(say(200, "new", minute))
				b.expect("when it is over", "new", "fwd=", "Cache-Control: "+row.request)
			})
		})
	}
}

func TestWhatIsForgotten(t *testing.T) {
	for _, row := range []struct {
		name, request string
		answer        http.HandlerFunc
		url           string
		forgotten     bool
	}{
		{"post", "POST /a", say(200, ""), "/a", true},
		{"put without content", "PUT /a", say(204, ""), "/a", true},
		{"delete that redirects", "DELETE /a", say(302, "", "Location: /b"), "/a", true},
		{"a method nobody knows", "M-SEARCH /a", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "x") }, "/a", true},
		{"another query", "POST /a?x", say(200, ""), "/a", false},
		{"post that fails", "POST /a", say(500, ""), "/a", false},
		{"post that is refused", "POST /a", say(404, ""), "/a", false},
		{"get", "GET /a?x", say(200, ""), "/a", false},
		{"options", "OPTIONS /a", say(200, ""), "/a", false},
		{"location", "POST /b", say(201, "", "Location: /a"), "/a", true},
		{"location, relative", "POST /c/d", say(201, "", "Location: ../a?q"), "/a?q", true},
		{"location, absolute", "POST /b", say(201, "", "Location: http://EXAMPLE.com/a"), "/a", true},
		{"location of another host", "POST /b", say(201, "", "Location: http://example.org/a"), "/a", false},
		{"content-location", "POST /b", say(200, "", "Content-Location: /a"), "/a", true},
	} {
		t.Run(row.name, func(t *testing.T) {
			b := lay(t, say(200, "old", minute))
			b.do("GET " + row.url)
			b.do("GET "+row.url, "Test-Scope: other")
			b.now(row.answer)
			b.do(row.request)
			b.now(say(200, "new"))
			want := map[bool]string{true: "new", false: "old"}[row.forgotten]
			for _, scope := range []string{"Test-Scope: ", "Test-Scope: other"} {
				if w := b.do("GET "+row.url, scope); w.Body.String() != want {
					t.Errorf("%s answer %q", scope, w.Body)
				}
			}
		})
	}
}

func TestWhatWasAskedForBeforeAChangeIsNotStored(t *testing.T) {
	b := lay(t, nil)
	b.now(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			say(200, "")(w, r)
			return
		}
		b.do("POST /") // of another client, while this answer is on its way
		say(200, "old", minute)(w, r)
	})
	b.expect("at first", "old", "fwd=uri-miss")
	b.now(say(200, "new", minute))
	b.expect("then", "new", "fwd=uri-miss")
}

func TestOtherRoutesForget(t *testing.T) {
	b := lay(t, say(200, "old", minute))
	b.do("GET /")
	b.now(say(200, "new", minute))
	b.handler = b.Link(&modelRoute, http.HandlerFunc(b.serve))
	if w := b.do("GET /"); w.Body.String() != "new" || w.Header().Get("Cache-Status") != "" {
		t.Errorf("answer %q, %v, of a route without a cache", w.Body, w.Header())
	}
	b.do("POST /")
	if s := b.Stats(); s.Pages != 0 {
		t.Errorf("stats %+v", s)
	}
}
