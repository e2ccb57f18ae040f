package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"connectrpc.com/connect"

	"fairlead/client"
	"fairlead/testenv"
	"fairlead/userspace/admin/adminpb"
	"fairlead/userspace/daemon"
)

// TestARollingUpdateFailsNoRequest does what the example does to a running agent, while
// clients ask: over connections that stay, and over new ones.
func TestARollingUpdateFailsNoRequest(t *testing.T) {
	servers := serveNames(t, "old1", "old2", "new1", "new2")
	listen, dir := testenv.FreeAddress(t), t.TempDir()
	run(t, daemon.Options{Config: filepath.Join(dir, "fairlead.yaml"), RunDir: dir, Log: slog.New(slog.NewTextHandler(t.Output(), nil))}, fmt.Sprintf(
		"xdp: off\nservices: [{name: site, listen: %q, forward: http, routes: [{match: /, pool: web}]}]\npools: {web: {backends: [{address: %s}, {address: %s}], health: {type: http, path: /, interval: 1s, timeout: 1s}}}\n",
		listen, servers["old1"], servers["old2"]))
	c, err := client.New(filepath.Join(dir, "admin.sock"), client.TLS{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	testenv.AwaitNil(t, "the agent", func() error { return c.AwaitHealthy(t.Context(), "web", servers["old2"]) })
	asked := askAll(t, "http://"+listen+"/")
	asked.await(t, "old1", "old2")
	for old, fresh := range map[string]string{"old1": "new1", "old2": "new2"} {
		if err := replace(t.Context(), c, "web", servers[old], servers[fresh]); err != nil {
			t.Fatal(err)
		}
		asked.await(t, fresh)
	}
	if err := replace(t.Context(), c, "web", servers["new1"], "127.0.0.1:1"); connect.CodeOf(err) != connect.CodeFailedPrecondition {
		t.Errorf("a new backend that fails its check: %v", err)
	}
	asked.stop()
	after := askAll(t, "http://"+listen+"/")
	after.await(t, "new1", "new2")
	after.stop()
	if got := after.names(); !slices.Equal(got, []string{"new1", "new2"}) {
		t.Errorf("answers of %v after the update", got)
	}
	health, err := c.GetHealth(t.Context(), &adminpb.GetHealthRequest{Pool: "web"})
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range health.GetPools()[0].GetBackends() {
		if b.GetWeight() != 5 || b.GetStatus() != "healthy" || !slices.Contains([]string{servers["new1"], servers["new2"]}, b.GetAddress()) {
			t.Errorf("backend %v", b)
		}
	}
}

// serveNames starts servers that answer with their names, and returns their addresses.
func serveNames(t *testing.T, names ...string) map[string]string {
	all := map[string]string{}
	for _, name := range names {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, name) }))
		t.Cleanup(s.Close)
		all[name] = s.Listener.Addr().String()
	}
	return all
}

// run has an agent run until the test ends.
func run(t *testing.T, o daemon.Options, config string) {
	t.Helper()
	if err := os.WriteFile(o.Config, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan struct{})
	go func() {
		err := daemon.Run(ctx, o)
		if err != nil {
			t.Errorf("the agent ended with %v", err)
		}
		close(ended)
	}()
	t.Cleanup(func() {
		stop()
		<-ended
	})
}

// An answers counts who has answered.
type answers struct {
	mu   sync.Mutex
	by   map[string]int
	stop func()
}

// askAll has clients ask a URL until stop. A request that fails fails the test.
func askAll(t *testing.T, url string) *answers {
	a := &answers{by: map[string]int{}}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			tr := &http.Transport{DisableKeepAlives: i%2 == 1}
			defer tr.CloseIdleConnections()
			for ctx.Err() == nil {
				name, err := ask(ctx, &http.Client{Transport: tr}, url)
				if err != nil && ctx.Err() == nil {
					t.Errorf("a request failed: %v", err)
					return
				}
				a.add(name)
			}
		})
	}
	a.stop = func() { cancel(); all.Wait() }
	t.Cleanup(a.stop)
	return a
}

func ask(ctx context.Context, c *http.Client, url string) (string, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	res, err := c.Do(r)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if res.StatusCode != http.StatusOK {
		err = errors.Join(err, fmt.Errorf("status %d", res.StatusCode))
	}
	return string(text), err
}

func (a *answers) add(name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if name != "" {
		a.by[name]++
	}
}

// names returns who has answered.
func (a *answers) names() (all []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for name := range a.by {
		all = append(all, name)
	}
	slices.Sort(all)
	return all
}

// await waits until servers have answered.
func (a *answers) await(t *testing.T, names ...string) {
	t.Helper()
	testenv.AwaitNil(t, "answers of "+strings.Join(names, " and "), func() error {
		got := a.names()
		for _, name := range names {
			if !slices.Contains(got, name) {
				return fmt.Errorf("answers of %v", got)
			}
		}
		return nil
	})
}
