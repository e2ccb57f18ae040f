package httpcache

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"fairlead/userspace/model"
)

// modelRoute is a route without a cache.
var modelRoute = model.Route{Match: "/other"}

// together sends n requests at once while the backend waits, lets it answer when
// all of them wait, and returns their answers.
func (b *bed) together(n int, goOn chan<- struct{}, headers func(i int) string) []*httptest.ResponseRecorder {
	all := make([]*httptest.ResponseRecorder, n)
	var running sync.WaitGroup
	for i := range n {
		running.Go(func() { all[i] = b.do("GET /", headers(i)) })
		synctest.Wait()
	}
	close(goOn)
	running.Wait()
	return all
}

func none(int) string { return "X: x" }

func TestRequestsForTheSameAreOne(t *testing.T) {
	for _, row := range []struct {
		name     string
		answer   []string
		headers  func(int) string
		requests int
	}{
		{"to be stored", []string{minute}, none, 1},
		{"not to be stored", []string{"Cache-Control: private"}, none, 5},
		{"variants", []string{minute, "Vary: X"}, func(i int) string { return "X: " + strconv.Itoa(i%2) }, 3},
		{"no-cache of the clients", []string{minute}, func(int) string { return "Cache-Control: no-cache" }, 5},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, goOn := lay(t, nil), make(chan struct{})
				b.now(func(w http.ResponseWriter, r *http.Request) {
					<-goOn
					say(200, "x", row.answer...)(w, r)
				})
				collapsed := 0
				for _, w := range b.together(5, goOn, row.headers) {
					if w.Code != 200 || w.Body.String() != "x" {
						t.Errorf("answer %d %q", w.Code, w.Body)
					}
					if strings.Contains(w.Header().Get("Cache-Status"), "fwd=uri-miss; collapsed") {
						collapsed++
					}
				}
				if n := len(b.asked()); n != row.requests && row.name != "variants" || n > 4 && row.name == "variants" {
					t.Errorf("%d requests", n)
				}
				if row.requests == 1 && collapsed != 4 {
					t.Errorf("%d collapsed", collapsed)
				}
			})
		})
	}
}

func TestNobodyWaitsAgainForWhatWasNotToBeStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, goOn := lay(t, nil), make(chan struct{})
		b.now(func(w http.ResponseWriter, r *http.Request) { <-goOn })
		b.together(2, goOn, none)
		goOn = make(chan struct{})
		var running sync.WaitGroup
		for range 3 {
			running.Go(func() { b.do("GET /") })
		}
		synctest.Wait()
		if n := len(b.asked()); n != 5 {
			t.Errorf("%d requests of 5 are at the backend", n)
		}
		close(goOn)
		running.Wait()
		time.Sleep(passTime)
		goOn = make(chan struct{})
		for range 3 {
			running.Go(func() { b.do("GET /") })
		}
		synctest.Wait()
		if n := len(b.asked()); n != 6 {
			t.Errorf("%d requests, want one more", n-5)
		}
		close(goOn)
		running.Wait()
	})
}

func TestRequestsDoNotWaitForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, goOn := lay(t, nil), make(chan struct{})
		b.now(func(w http.ResponseWriter, r *http.Request) {
			if len(b.asked()) == 1 {
				<-goOn
			}
			say(200, "x", minute)(w, r)
		})
		var first sync.WaitGroup
		first.Go(func() { b.do("GET /") })
		synctest.Wait()
		begin := time.Now()
		b.expect("behind one that takes long", "x", "fwd=uri-miss; stored")
		if waited := time.Since(begin); waited != patience {
			t.Errorf("waited %s", waited)
		}
		close(goOn)
		first.Wait()
	})
}

func TestAnotherTriesIfTheFirstBreaksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, goOn := lay(t, nil), make(chan struct{})
		b.now(func(w http.ResponseWriter, r *http.Request) {
			if len(b.asked()) == 1 {
				<-goOn
				w.Header().Set("Cache-Control", "max-age=60")
				_, _ = io.WriteString(w, "half")
				panic(http.ErrAbortHandler)
			}
			say(200, "whole", minute)(w, r)
		})
		var running sync.WaitGroup
		running.Go(func() {
			defer func() {
				if err, _ := recover().(error); !errors.Is(err, http.ErrAbortHandler) {
					t.Errorf("recovered %v", err)
				}
			}()
			b.do("GET /")
		})
		synctest.Wait()
		for range 3 {
			running.Go(func() {
				if w := b.do("GET /"); w.Body.String() != "whole" {
					t.Errorf("body %q", w.Body)
				}
			})
		}
		synctest.Wait()
		close(goOn)
		running.Wait()
		if n := len(b.asked()); n != 2 {
			t.Errorf("%d requests", n)
		}
	})
}

func TestAClientThatLeavesDoesNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, goOn := lay(t, nil), make(chan struct{})
		b.now(func(http.ResponseWriter, *http.Request) { <-goOn })
		var running sync.WaitGroup
		running.Go(func() { b.do("GET /") })
		synctest.Wait()
		ctx, leave := context.WithCancel(t.Context())
		leave()
		running.Go(func() { b.send(httptest.NewRequest("GET", "/", nil).WithContext(ctx)) })
		synctest.Wait()
		if n := len(b.asked()); n != 2 { // and finds that it may go
			t.Errorf("%d requests", n)
		}
		close(goOn)
		running.Wait()
	})
}

func TestLargeAnswersAreStreamed(t *testing.T) {
	conf := model.Cache{Size: 1 << 20, MaxBody: 8}
	for _, row := range []struct {
		name   string
		parts  []string
		length string
		stored bool
	}{
		{"with a length that is enough", []string{"1234", "5678"}, "8", true},
		{"without a length", []string{"1234", "5678"}, "", true},
		{"with a length that is not", []string{"1234", "56789"}, "9", false},
		{"without a length, too large", []string{"1234", "56789"}, "", false},
		{"empty", nil, "0", true},
		{"shorter than it should be", []string{"1234"}, "8", false},
	} {
		t.Run(row.name, func(t *testing.T) {
			b := layWith(t, conf, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Cache-Control", "max-age=60")
				if row.length != "" {
					w.Header().Set("Content-Length", row.length)
				}
				w.WriteHeader(200)
				for _, p := range row.parts {
					_, _ = io.WriteString(w, p)
					_ = http.NewResponseController(w).Flush()
				}
			})
			for range 2 {
				if w := b.do("GET /"); w.Body.String() != strings.Join(row.parts, "") {
					t.Errorf("body %q", w.Body)
				}
			}
			if n := len(b.asked()); n == 1 != row.stored {
				t.Errorf("%d requests", n)
			}
		})
	}
}

func TestSizeIsBounded(t *testing.T) {
	conf := model.Cache{Size: 1 << 20, MaxBody: 1 << 20}
	b := layWith(t, conf, say(200, strings.Repeat("x", 100<<10), minute))
	for i := range 50 {
		b.do("GET /" + strconv.Itoa(i))
	}
	b.pages.CleanUp()
	if s := b.Stats(); s.Bytes > 1<<20 || s.Bytes < 500<<10 || s.Pages > 10 {
		t.Errorf("stats %+v", s)
	}
	conf.Size = 300 << 10
	b.Use(&conf)
	b.pages.CleanUp()
	if s := b.Stats(); s.Bytes > 300<<10 {
		t.Errorf("stats %+v after the size was lowered", s)
	}
}

func TestInformationalAnswersPass(t *testing.T) {
	b := lay(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</a>")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Del("Link")
		say(200, "x", minute)(w, r)
	})
	s := httptest.NewServer(b.handler)
	defer s.Close()
	res, err := http.Get(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != 200 || res.Header.Get("Link") != "" {
		t.Errorf("answer %d %v", res.StatusCode, res.Header)
	}
}

// What a client gets is whole, whatever others do meanwhile.
func TestManyAtOnce(t *testing.T) {
	conf := model.Cache{Size: 1 << 20, MaxBody: 64 << 10, StaleIfError: time.Minute}
	b := layWith(t, conf, func(w http.ResponseWriter, r *http.Request) {
		if rand.IntN(10) == 0 {
			w.WriteHeader(503)
			return
		}
		text := strings.Repeat(r.URL.Path, 1+rand.IntN(2000))
		cc := []string{"max-age=0, stale-while-revalidate=1", "max-age=60", "no-cache", "private"}[rand.IntN(4)]
		say(200, text, "Cache-Control: "+cc, `Etag: "`+strconv.Itoa(len(text))+`"`)(w, r)
	})
	var running sync.WaitGroup
	for range 8 {
		running.Go(func() {
			for range 500 {
				path := "/" + string(rune('a'+rand.IntN(20)))
				method := []string{"GET", "GET", "GET", "GET", "GET", "GET", "HEAD", "POST"}[rand.IntN(8)]
				w := b.do(method + " " + path)
				length := w.Header().Get("Content-Length")
				if body := w.Body.String(); method == "GET" && (strings.Trim(body, path) != "" || length != "" && length != strconv.Itoa(len(body))) {
					t.Errorf("%s: %d bytes of %s, status %d", path, len(body), length, w.Code)
				}
			}
		})
	}
	running.Wait()
}
