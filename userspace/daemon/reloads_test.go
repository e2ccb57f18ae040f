package daemon

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestAHundredReloads changes routes, pools and backends while clients ask, over
// connections that stay and over new ones. No request fails.
func TestAHundredReloads(t *testing.T) {
	const reloads = 100
	var backends []string
	for _, name := range []string{"a", "b", "c"} {
		addr, _ := page(t, name)
		backends = append(backends, addr)
	}
	conf := func(i int) string {
		if i%2 == 0 {
			return strings.ReplaceAll(routed(backends[0], backends[1], backends[2]), quickHealth, "http2: false")
		}
		return fmt.Sprintf("services: [{name: web, listen: '%s', forward: http, backends: [{address: %q}]}]\n", site, backends[i/2%3])
	}
	r := runAgent(t, conf(0))
	ctx, stop := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	var asked, failed atomic.Int64
	for i := range 6 {
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: i%2 == 0}, Timeout: 20 * time.Second}
		clients.Go(func() {
			defer client.CloseIdleConnections()
			for ctx.Err() == nil {
				asked.Add(1)
				if err := get(client, "http://"+site+"/images/x"); err != nil && failed.Add(1) == 1 {
					t.Error(err)
				}
			}
		})
	}
	for i := range reloads {
		r.reload(conf(i + 1))
		awaitPage(t, "/images/x", i%2 == 1)
	}
	stop()
	clients.Wait()
	if n := failed.Load(); n > 0 || asked.Load() < reloads {
		t.Errorf("%d of %d requests failed", n, asked.Load())
	}
}

// get asks for a page and reads it.
func get(client *http.Client, url string) error {
	res, err := client.Get(url)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err == nil && (res.StatusCode != 200 || !strings.Contains(string(body), "/images/x")) {
		err = fmt.Errorf("status %d, %q", res.StatusCode, body)
	}
	return err
}

// awaitPage asks for a page until it comes with the prefix of a backend, or without.
func awaitPage(t *testing.T, path string, prefixed bool) {
	t.Helper()
	await(t, "the reload is to be seen", func() bool {
		_, body := fetch(t, path)
		return strings.Contains(body, "/static") == prefixed
	})
}
