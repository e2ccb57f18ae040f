package daemon

import (
	"fmt"
	"net/http"
	"net/http/cookiejar"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fairlead/userspace/view"
)

// A guest is a client that keeps cookies.
type guest struct {
	t      *testing.T
	client http.Client
}

func newGuest(t *testing.T) *guest {
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &guest{t, http.Client{Jar: jar, Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 20 * time.Second}}
}

// ask returns who answers the guest n times, "" if it is not always the same.
func (g *guest) ask(n int) (who string) {
	g.t.Helper()
	for i := range n {
		req, err := http.NewRequestWithContext(g.t.Context(), http.MethodGet, "http://"+site+"/", nil)
		if err != nil {
			g.t.Fatal(err)
		}
		req.Header.Set("X-User", fmt.Sprintf("%p", g))
		res, err := g.client.Do(req)
		if err != nil {
			g.t.Fatal(err)
		}
		res.Body.Close()
		if name := res.Header.Get("X-Name"); i > 0 && name != who {
			return ""
		} else {
			who = name
		}
	}
	return who
}

func TestAStickyClientStaysOverRestarts(t *testing.T) {
	var backends []string
	for i := range 8 {
		backends = append(backends, fmt.Sprintf("{address: %q}", signed(t, fmt.Sprint("b", i))))
	}
	for by, own := range map[string]string{"cookie": "cookie", "header": "{by: header, name: X-User}", "source": "source"} {
		t.Run(by, func(t *testing.T) {
			r := runAgent(t, fmt.Sprintf("services: [{name: web, listen: '%s', forward: http, balance: random, sticky: %s, backends: [%s]}]\n",
				site, own, strings.Join(backends, ", ")))
			client, other := newGuest(t), newGuest(t)
			was := client.ask(334)
			for range 2 {
				r.end()
				r.start()
				if is := client.ask(333); is == "" || is != was {
					t.Errorf("answers of %q, of %q before the restart", is, was)
				}
				other.ask(1)
			}
			if by != "cookie" {
				return
			}
			info, err := os.Stat(filepath.Join(r.opts.RunDir, stickyFile))
			if err != nil {
				t.Fatal(err)
			}
			if info.Mode().Perm() != 0o600 {
				t.Errorf("the key has mode %v", info.Mode())
			}
		})
	}
}

// signed opens a backend that answers with its name in a header.
func signed(t *testing.T, name string) string {
	return httpServer(t, func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X-Name", name) })
}

func TestAStickyBackendThatIsDownIsReplaced(t *testing.T) {
	a, sickA := page(t, "a")
	b, sickB := page(t, "b")
	r := runAgent(t, fmt.Sprintf("services: [{name: web, listen: '%s', forward: http, sticky: cookie, backends: [{address: %q}, {address: %q}], panic-threshold: 0, %s}]\n", site, a, b, quickHealth))
	g := newGuest(t)
	name := func() string {
		res, err := g.client.Get("http://" + site + "/x")
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		var name string
		fmt.Fscan(res.Body, &name)
		return name
	}
	first := name()
	sick, other := sickA, "b"
	if first == "b" {
		sick, other = sickB, "a"
	}
	sick.Store(true)
	r.await("one is down", func(v view.View) bool { return v.Services[0].Backends[0].Up != v.Services[0].Backends[1].Up })
	if got := name(); got != other {
		t.Errorf("answer of %q, want %q", got, other)
	}
	sick.Store(false)
	r.await("both are up", func(v view.View) bool { return v.Services[0].Backends[0].Up && v.Services[0].Backends[1].Up })
	for range 6 {
		if got := name(); got != other {
			t.Fatalf("answer of %q, want %q, whose cookie the client has by now", got, other)
		}
	}
}

func TestAKeyIsMadeOnceAndGoodEvenIfItCannotBeKept(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	key, err := keptKey(dir)
	if err != nil || len(key) != stickySize {
		t.Fatalf("key of %d bytes, error %v", len(key), err)
	}
	if again, err := keptKey(dir); err != nil || again != key {
		t.Errorf("another key, error %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, stickyFile), []byte("short"), 0o644); err != nil {
		t.Fatal(err)
	}
	fresh, err := keptKey(dir)
	if err != nil || len(fresh) != stickySize || fresh == key {
		t.Errorf("in place of a broken file: key of %d bytes, error %v", len(fresh), err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".*")); len(left) > 0 {
		t.Errorf("%v stay behind", left)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if key, err := keptKey(file); err == nil || len(key) != stickySize {
		t.Errorf("in a file: key of %d bytes, error %v", len(key), err)
	}
}
