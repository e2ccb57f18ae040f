package httpproxy

import (
	"cmp"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"fairlead/userspace/model"
)

func TestPurgeOfMany(t *testing.T) {
	for _, row := range []struct{ host, path, left string }{
		{"a.example", "/x/1", "/x/2 /y/1 /y/2 b/x/1"},
		{"a.example", "/x/*", "/y/1 /y/2 b/x/1"},
		{"A.Example", "/x*", "/y/1 /y/2 b/x/1"},
		{"a.example", "/*", "b/x/1"},
		{"*", "/x/*", "/y/1 /y/2"},
		{"*", "/*", ""},
		{"*", "/x/1", "/x/1 /x/2 /y/1 /y/2 b/x/1"},
		{"a.example", "/x/1*?", "/x/1 /x/2 /y/1 /y/2 b/x/1"},
		{"c.example", "/*", "/x/1 /x/2 /y/1 /y/2 b/x/1"},
	} {
		f := caching(t, handle(t, func(w http.ResponseWriter, r *http.Request) { w.Header().Set("Cache-Control", "max-age=60") }))
		var left []string
		for _, request := range []string{"GET", "PURGE", "GET"} {
			if request == "PURGE" {
				res, _ := f.ask("PURGE " + row.path + " HTTP/1.1\r\nHost: " + row.host + "\r\n\r\n")
				if want := map[bool]int{true: 404, false: 204}[len(row.left) == len("/x/1 /x/2 /y/1 /y/2 b/x/1")]; res.StatusCode != want {
					t.Errorf("%s %s: status %d, want %d", row.host, row.path, res.StatusCode, want)
				}
				continue
			}
			for _, url := range []string{"/x/1", "/x/2", "/y/1", "/y/2", "b/x/1"} {
				host, path, _ := strings.Cut(url, "/")
				res, _ := f.ask("GET /" + path + " HTTP/1.1\r\nHost: " + cmp.Or(host, "a") + ".example\r\n\r\n")
				if strings.Contains(res.Header.Get("Cache-Status"), "hit") {
					left = append(left, url)
				}
			}
		}
		if got := strings.Join(left, " "); got != row.left {
			t.Errorf("%s %s: left %q, want %q", row.host, row.path, got, row.left)
		}
	}
}

func TestPurgeIsForSome(t *testing.T) {
	f := caching(t, names(t, "a"))
	h := everything(usual)
	h.Routes[0].Cache, h.Cache = true, model.DefaultCache()
	const purge = "PURGE / HTTP/1.1\r\nHost: example.com\r\n\r\n"
	h.Cache.Purge = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	f.route(h)
	if res, _ := f.ask(purge); res.StatusCode != http.StatusForbidden {
		t.Errorf("status %d for somebody else", res.StatusCode)
	}
	h.Cache.Purge = nil
	f.route(h)
	if _, body := f.ask(purge); body != "a" {
		t.Errorf("answer %q where nobody may", body)
	}
}
