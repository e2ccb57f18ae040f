package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"fairlead/testenv"
	"fairlead/testenv/stage"
	"fairlead/userspace/view"
)

// shopURL is where the HTTP service of verbStage listens.
const shopURL = "http://" + vip + ":81/"

// verbStage raises an agent with a service that XDP forwards and one of HTTP, whose
// only pool is main.
func verbStage(t *testing.T) (s *stage.Stage, servers []string) {
	t.Helper()
	s = newStage(t, testenv.RigOptions{})
	configure(s, fmt.Sprintf(`  - {name: shop, listen: %s:81, forward: http, routes: [{match: /, pool: main}]}
pools: {main: {backends: %s, health: {type: tcp, interval: 200ms, timeout: 200ms}}}
`, vip, s.BackendList(8080)))
	s.StartAgent()
	s.AwaitView("health", func(v *view.View) bool {
		return len(v.Services) == 2 && !slices.ContainsFunc(v.Services[1].Backends, func(b view.Backend) bool { return !b.Known || !b.Up })
	})
	for _, a := range s.BackendAddrs {
		servers = append(servers, a.String()+":8080")
	}
	return s, servers
}

// TestVerbsChangeWhatClientsGet has each verb that changes a running agent change what
// clients see at once.
func TestVerbsChangeWhatClientsGet(t *testing.T) {
	s, servers := verbStage(t)
	ok := func(line string) string { return s.Fairlead(strings.Fields(line)...).OK(t) }

	ok("pool add --pattern /images/ --ip " + s.BackendAddrs[0].String() + " --port 8080 --url_path /static")
	if a, err := s.Get(0, shopURL+"images/x"); err != nil || a.Message != "backend1" || !strings.Contains(a.Body, "GET /static/images/x") {
		t.Errorf("a new pool: %+v, error %v", a, err)
	}
	wantSpread(t, s, shopURL, 30, map[string]int{"backend1": 10, "backend2": 10, "backend3": 10})
	ok("backend add --pattern /images/ --backend " + servers[1])
	wantSpread(t, s, shopURL+"images/x", 20, map[string]int{"backend1": 10, "backend2": 10})
	if r := s.Fairlead("backend", "add", "--pattern", "/images/", "--backend", s.BackendAddrs[2].String()+":9"); r.Code != 3 || !strings.Contains(r.Stderr, "--force") {
		t.Errorf("a backend that does not listen: status %d, %q", r.Code, r.Stderr)
	}
	ok("backend remove --pattern /images/ --backend " + servers[1])
	wantSpread(t, s, shopURL+"images/x", 10, map[string]int{"backend1": 10})

	ok("backend weight --pool web --backend " + servers[0] + " --weight 4")
	wantSpread(t, s, web, 12, map[string]int{"backend1": 8, "backend2": 2, "backend3": 2})
	ok("backend drain --pool web --backend " + servers[0])
	wantSpread(t, s, web, 12, map[string]int{"backend2": 6, "backend3": 6})
	ok("backend undrain --pool web --backend " + servers[0])
	wantSpread(t, s, web, 12, map[string]int{"backend1": 8, "backend2": 2, "backend3": 2})

	if out := ok("pool list"); !strings.Contains(out, "images") {
		t.Errorf("pools\n%s", out)
	}
	ok("pool remove --pattern /images/")
	wantSpread(t, s, shopURL+"images/x", 3, map[string]int{"backend1": 1, "backend2": 1, "backend3": 1})
}

// TestVerbsRestoreAndReplaceConfigurations has a revision conflict, a rollback and a
// whole configuration in the place of the file's.
func TestVerbsRestoreAndReplaceConfigurations(t *testing.T) {
	s, servers := verbStage(t)
	ok := func(line string) string { return s.Fairlead(strings.Fields(line)...).OK(t) }
	before := ok("export")
	ok("backend weight --pool main --backend " + servers[0] + " --weight 2")
	if r := s.Fairlead("backend", "weight", "--pool", "main", "--backend", servers[0], "--weight", "9", "--expect", "1"); r.Code != 3 {
		t.Errorf("a conflict: status %d, %q", r.Code, r.Stderr)
	}
	wantSpread(t, s, shopURL, 8, map[string]int{"backend1": 4, "backend2": 2, "backend3": 2})
	ok("rollback 1")
	if after := ok("export"); after != before {
		t.Errorf("after a rollback:\n%s\nwant\n%s", after, before)
	}
	wantSpread(t, s, shopURL, 9, map[string]int{"backend1": 3, "backend2": 3, "backend3": 3})

	other := filepath.Join(s.Dir, "other.yaml")
	text, err := os.ReadFile(s.ConfigPath)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(other, []byte(strings.ReplaceAll(string(text), "{address: "+servers[0]+"}, ", "")), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := s.Fairlead("plan", "--live", "--exit-code", "--config", other); out.Code != 4 || !strings.Contains(out.Stdout, servers[0]) {
		t.Errorf("plan: status %d\n%s", out.Code, out.Stdout)
	}
	ok("apply --config " + other)
	for _, url := range []string{web, shopURL} {
		wantSpread(t, s, url, 8, map[string]int{"backend2": 4, "backend3": 4})
	}
	if out := ok("history"); strings.Count(out, "\n") != 5 {
		t.Errorf("history of four revisions\n%s", out)
	}
	ok("apply --reset")
	wantSpread(t, s, web, 9, map[string]int{"backend1": 3, "backend2": 3, "backend3": 3})
}

// TestVerbsTellAndEndFlows has a connection that XDP forwards, and one of the proxy.
func TestVerbsTellAndEndFlows(t *testing.T) {
	s, servers := verbStage(t)
	watch := s.Start(s.Balancer, programs.Fairlead, "watch", "-o", "json")
	watch.AwaitOutput("\n") // what is, first
	talks := openTalks(t, s)
	conn, err := s.Clients[0].DialContext(t.Context(), "tcp", vip+":81")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 9\r\n\r\nno"); err != nil {
		t.Fatal(err)
	}
	stage.Await(t, "flows", func() error {
		paths := map[string]int{}
		for line := range strings.Lines(s.Fairlead("flows", "-o", "json").OK(t)) {
			var f struct{ Service, Path string }
			if err := json.Unmarshal([]byte(line), &f); err != nil {
				return err
			}
			paths[f.Service+" "+f.Path]++
		}
		if want := map[string]int{"web kernel": 3, "shop proxy": 1}; !maps.Equal(paths, want) {
			return fmt.Errorf("flows %v, want %v", paths, want)
		}
		return nil
	})
	s.Fairlead("kill", "--service", "web", "--backend", servers[0]).OK(t)
	for name, talk := range talks {
		if _, err := talk.Ask(); (err != nil) != (name == "backend1") {
			t.Errorf("the connection with %s: %v", name, err)
		}
	}
	s.Fairlead("kill", "--service", "shop").OK(t)
	err = conn.SetReadDeadline(time.Now().Add(stage.Patience))
	if _, rerr := conn.Read(make([]byte, 1)); err != nil || rerr == nil || errors.Is(rerr, os.ErrDeadlineExceeded) {
		t.Errorf("a request that was killed: %v, error %v", rerr, err)
	}
	s.Servers[2].Kill()
	watch.AwaitOutput("unhealthy")
	if code := watch.Stop(syscall.SIGINT); code != 0 {
		t.Errorf("watch ended with status %d", code)
	}
	if out := s.Fairlead("health", "--pool", "main").OK(t); !strings.Contains(out, "degraded") || !strings.Contains(out, "refused") {
		t.Errorf("health\n%s", out)
	}
	if out := s.Fairlead("services").OK(t); !strings.Contains(out, "xdp-native") || !strings.Contains(out, "proxy (http)") {
		t.Errorf("services\n%s", out)
	}
	if out := s.Fairlead("top", "--batch", "--count", "1", "--lb", filepath.Join(s.RunDir, "admin.sock")).OK(t); !strings.Contains(out, "shop") {
		t.Errorf("top\n%s", out)
	}
}
