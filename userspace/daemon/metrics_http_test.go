package daemon

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"fairlead/testenv"
)

// sendNonsense sends what is no HTTP, and returns how many connections ended with 400.
func sendNonsense(t *testing.T) (ended int) {
	t.Helper()
	for _, what := range []string{"GET / HTTP/1.1\nHost: a\n\n", "GET / HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n"} {
		c, err := net.Dial("tcp4", site)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(c, what); err != nil {
			t.Fatal(err)
		}
		_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
		if text, err := io.ReadAll(c); err == nil && strings.HasPrefix(string(text), "HTTP/1.1 400 ") {
			ended++
		}
		c.Close()
	}
	return ended
}

// TestMetricsAreWhatClientsHaveSeen has clients count answers of the cache, refusals by
// a limit, and connections that end at what they send.
func TestMetricsAreWhatClientsHaveSeen(t *testing.T) {
	backend := httpServer(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"1"`)
		w.Header().Set("Cache-Control", map[bool]string{true: "no-cache", false: "max-age=600"}[strings.HasPrefix(r.URL.Path, "/check/")])
		if r.Header.Get("If-None-Match") != "" {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		fmt.Fprint(w, r.URL.Path)
	})
	addr := testenv.FreeAddress(t)
	runAgent(t, fmt.Sprintf(`agent: {metrics: '%s'}
services:
  - name: web
    listen: '%s'
    forward: http
    cache: true
    routes: [{match: /, pool: main}, {match: /few/, pool: main, rate-limit: {rate: 1, per: 24h, burst: 3}}]
pools: {main: {backends: [{address: %q}], health: {type: none}}}
`, addr, site, backend))
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 20 * time.Second}
	var hits, misses, confirmed, limited int
	pages := map[string]bool{}
	for _, path := range []string{"/a", "/a", "/b", "/a", "/check/c", "/check/c", "/check/c", "/few/1", "/few/2", "/few/1", "/few/1", "/few/2"} {
		res, err := client.Get("http://" + site + path)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		how := res.Header.Get("Cache-Status")
		switch {
		case res.StatusCode == http.StatusTooManyRequests:
			limited++
			continue
		case strings.Contains(how, "; hit"):
			hits++
		case strings.Contains(how, "fwd="):
			misses++
		}
		if strings.Contains(how, "fwd-status=304") {
			confirmed++
		}
		pages[path] = true
	}
	malformed := sendNonsense(t)
	if hits == 0 || misses == 0 || confirmed == 0 || limited == 0 || malformed == 0 {
		t.Fatalf("clients saw %d hits, %d misses, %d confirmed, %d limits, %d ends: that shows nothing", hits, misses, confirmed, limited, malformed)
	}
	of := func(name string, n int) string {
		return fmt.Sprintf(`fairlead_http_%s{protocol="http",service="web"} %d`, name, n)
	}
	by := func(result string, n int) string {
		return fmt.Sprintf(`fairlead_http_cache_requests_total{protocol="http",result=%q,service="web"} %d`, result, n)
	}
	awaitMetrics(t, addr,
		by("fresh", hits), by("stale", 0), by("revalidated", confirmed), by("miss", misses-confirmed),
		of("cache_pages", len(pages)), of("rate_limited_total", limited), of("malformed_total", malformed))
}
