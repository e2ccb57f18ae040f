package httpproxy

import (
	"bytes"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/gzip"

	"fairlead/userspace/httpcache"
	"fairlead/userspace/model"
)

// exemplary answers as each segment of a path wants: what it says of caches, and how
// the body is made.
func exemplary(w http.ResponseWriter, r *http.Request) {
	h, body, tag := w.Header(), strings.Repeat("some text. ", 100), "a"
	h.Set("Content-Type", "text/plain")
	h.Set("Cache-Control", "max-age=600")
	modified := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	for segment := range strings.SplitSeq(r.URL.Path, "/") {
		switch segment {
		case "picture":
			h.Set("Content-Type", "image/png")
		case "no-cache", "private", "no-store":
			h.Set("Cache-Control", segment)
		case "language":
			h.Set("Vary", "Accept-Language")
			body, tag = r.Header.Get("Accept-Language")+body, tag+r.Header.Get("Accept-Language")
		case "coded":
			h.Add("Vary", "Accept-Encoding")
			if r.Header.Get("Accept-Encoding") == "gzip" {
				h.Set("Content-Encoding", "gzip")
				body, tag = zipped(body), tag+"z"
			}
		case "weak":
			h.Set("Etag", `W/"a"`)
		case "untagged":
			tag = ""
		case "undated":
			modified = time.Time{}
		case "stream":
			_, _ = io.WriteString(w, body)
			return
		}
	}
	if tag != "" && h.Get("Etag") == "" {
		h.Set("Etag", `"`+tag+`"`)
	}
	if r.Method == http.MethodHead || !strings.HasPrefix(r.Header.Get("Range"), "bytes=") {
		r.Header.Del("Range") // which net/http would look at
	}
	http.ServeContent(w, r, "", modified, strings.NewReader(body))
}

func zipped(s string) string {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = io.WriteString(z, s)
	_ = z.Close()
	return b.String()
}

// anyOf are what requests are made of: one of each, "" being none.
var anyOf = map[string][]string{
	"Accept-Encoding":   {"", "", "gzip", "br, gzip;q=0.5", "identity"},
	"Accept-Language":   {"en", "de"},
	"Cache-Control":     {"", "", "", "", "", "no-cache", "max-age=0", "no-transform"},
	"If-Modified-Since": {"", "", "Wed, 01 Jan 2020 00:00:00 GMT", "Tue, 31 Dec 2019 00:00:00 GMT"},
	"If-None-Match":     {"", "", "", `"a"`, `W/"a"`, `"az"`, `"aen"`, `"b"`, "*"},
	"If-Range":          {"", "", `"a"`, `W/"a"`, `"b"`, "Wed, 01 Jan 2020 00:00:00 GMT"},
	"Range":             {"", "", "bytes=0-9", "bytes=-5", "bytes=1000-", "bytes=99999-", "lines=1-2"},
}

func either(random *rand.Rand, all []string) string { return all[random.IntN(len(all))] }

// drawnPath returns one for exemplary.
func drawnPath(random *rand.Rand) string {
	p := either(random, []string{"/plain", "/replaced"})
	for _, choice := range [][]string{
		{"", "/picture"}, {"", "", "/no-cache", "/private", "/no-store"}, {"", "", "/language"}, {"", "", "/coded"}, {"", "/weak", "/untagged"}, {"", "/undated"}, {"", "", "/stream"},
	} {
		p += either(random, choice)
	}
	return p
}

// drawn returns a random request, but for its host.
func drawn(random *rand.Rand, path string) *http.Request {
	r := &http.Request{Method: either(random, []string{"GET", "GET", "GET", "HEAD"}), URL: &url.URL{Scheme: "http", Path: path}, Header: http.Header{}}
	for _, name := range slices.Sorted(maps.Keys(anyOf)) {
		if v := either(random, anyOf[name]); v != "" {
			r.Header.Set(name, v)
		}
	}
	if strings.HasSuffix(path, "/stream") { // a cache knows more than such a backend
		r.Header.Del("If-Modified-Since")
		r.Header.Del("If-None-Match")
		r.Header.Del("Range")
	}
	if strings.HasPrefix(path, "/replaced") { // and may cut what was replaced
		r.Header.Del("Range")
	}
	return r
}

// A reply is what a client makes of an answer.
type reply struct {
	Status int
	Header http.Header
	Body   string
}

// replyTo sends a request and returns the answer without what may differ: when it
// was made, what a cache says of itself, how its bytes are counted, and what a 304
// says beyond what it must.
func (f *front) replyTo(client *http.Client, r *http.Request) reply {
	f.t.Helper()
	r = r.Clone(f.t.Context())
	r.URL.Host = f.addr
	res, err := client.Do(r)
	if err != nil {
		f.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if open := decodings[res.Header.Get("Content-Encoding")]; err == nil && open != nil && len(body) > 0 && res.StatusCode != http.StatusPartialContent {
		var plain io.Reader
		if plain, err = open(bytes.NewReader(body)); err == nil {
			body, err = io.ReadAll(plain)
		}
	}
	if err != nil {
		f.t.Fatal(err)
	}
	for _, name := range []string{"Age", "Cache-Status", "Content-Length", "Date"} {
		res.Header.Del(name)
	}
	if res.StatusCode == http.StatusNotModified || res.StatusCode == http.StatusRequestedRangeNotSatisfiable {
		res.Header.Del("Accept-Ranges")
		res.Header.Del("Last-Modified")
		if tag, weak := strings.CutPrefix(res.Header.Get("Etag"), "W/"); weak {
			res.Header.Set("Etag", tag)
		}
	}
	return reply{res.StatusCode, res.Header, string(body)}
}

// TestACacheChangesNothing sends random requests through two fronts, of which one
// stores what backends answer. All that is done to answers is done to both.
func TestACacheChangesNothing(t *testing.T) {
	backend := handle(t, exemplary)
	h := everything(usual)
	h.Routes[0].Rules = compressing
	h.Routes[0].ResponseHeaders = model.HeaderRules{Set: []model.Header{{Name: "X-A", Value: "b"}}}
	replaced := h.Routes[0]
	replaced.Match, replaced.Replace = "/replaced/", &model.Replace{Types: []string{"text/*"}, Texts: []model.Replacement{{Find: "text", With: "words"}}}
	h.Routes = append(h.Routes, replaced)
	plain := serve(t, h, map[string]*model.Pool{"main": poolOf(backend)})
	cached := *h
	cached.Cache, cached.Routes = model.DefaultCache(), append([]model.Route{}, h.Routes...)
	for i := range cached.Routes {
		cached.Routes[i].Cache = true
	}
	f := serve(t, &cached, map[string]*model.Pool{"main": poolOf(backend)})
	cache := httpcache.New(httpcache.Front{Key: CacheKey, Answered: Answered, Aside: Aside}, &cached.Cache)
	f.cache = cache
	f.route(&cached)
	client := &http.Client{Transport: &http.Transport{DisableCompression: true}}
	t.Cleanup(client.CloseIdleConnections)
	n := 2000
	if os.Getenv("FAIRLEAD_SLOW") != "" {
		n = 100_000
	}
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))
	var paths []string
	for i := range n {
		if i%250 == 0 {
			paths = nil
			for range 10 {
				p := drawnPath(random)
				paths = append(paths, p)
				for _, language := range anyOf["Accept-Language"] {
					f.replyTo(client, &http.Request{Method: "GET", URL: &url.URL{Scheme: "http", Path: p}, Header: http.Header{"Accept-Language": {language}}})
				}
			}
		}
		r := drawn(random, either(random, paths))
		if diff := cmp.Diff(plain.replyTo(client, r), f.replyTo(client, r)); diff != "" {
			t.Fatalf("seed %d: %s %s %v (-without a cache +with it):\n%s", seed, r.Method, r.URL.Path, r.Header, diff)
		}
	}
	if s := cache.Stats(); s.Hits < uint64(n)/20 || s.Revalidated == 0 {
		t.Errorf("seed %d: stats %+v", seed, s)
	}
}
