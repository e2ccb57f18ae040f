package daemon

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// What of the suite must pass, of 157 required and 86 optimal tests.
const (
	wantRequired = 142
	wantOptimal  = 70
)

// A cacheTest is one of the suite and what became of it.
type cacheTest struct {
	ID, Kind string
	Needs    []string
	Passed   bool
	Why      string
}

// TestCacheTests lets http-cache-tests judge the cache of an agent, with its
// defaults. It takes about ten seconds, in which the suite waits.
func TestCacheTests(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for seconds")
	}
	out, err := exec.CommandContext(t.Context(), "../../scripts/cachetests-fetch.sh").CombinedOutput()
	dir := strings.TrimSpace(string(out))
	if err != nil && os.Getenv("FAIRLEAD_TEST_ROOT") == "" {
		t.Skipf("no cache tests: %s", out)
	} else if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	runAgent(t, fmt.Sprintf("services: [{name: web, listen: '%s', forward: http, cache: true, backends: [{address: '%s'}]}]\n", site, cacheOrigin(t, dir)))
	run := exec.CommandContext(t.Context(), "node", "testdata/cachetests/run.mjs", dir, "http://"+site)
	run.Stderr = t.Output()
	out, err = run.Output()
	if err != nil {
		t.Fatal(err)
	}
	var all []cacheTest
	if err := json.Unmarshal(out, &all); err != nil {
		t.Fatal(err)
	}
	for kind, want := range map[string]int{"required": wantRequired, "optimal": wantOptimal} {
		passed, total := 0, 0
		for _, c := range all {
			if c.Kind != kind {
				continue
			}
			total++
			if counts(all, c.ID) {
				passed++
			} else {
				t.Logf("%s: %s %s", kind, c.ID, c.Why)
			}
		}
		t.Logf("%d of %d %s tests pass", passed, total, kind)
		if passed < want {
			t.Errorf("%d of %d %s tests pass, want %d or more", passed, total, kind, want)
		}
	}
}

// counts reports whether a test has passed, and all that it needs to mean
// anything.
func counts(all []cacheTest, id string) bool {
	i := slices.IndexFunc(all, func(c cacheTest) bool { return c.ID == id })
	return i >= 0 && all[i].Passed && !slices.ContainsFunc(all[i].Needs, func(need string) bool { return !counts(all, need) })
}

// cacheOrigin starts the suite's own server and returns its address.
func cacheOrigin(t *testing.T, dir string) string {
	t.Helper()
	server := exec.CommandContext(t.Context(), "node", filepath.Join(dir, "node_modules/http-cache-tests/server/server.mjs"))
	server.Env = append(os.Environ(), "npm_config_protocol=http", "npm_config_port=0", "npm_config_pidfile="+filepath.Join(t.TempDir(), "pid"))
	server.Stderr = t.Output()
	says, err := server.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(says)
	drained := make(chan struct{})
	t.Cleanup(func() {
		_ = server.Process.Kill()
		<-drained
		_ = server.Wait() // it was killed
	})
	for lines.Scan() {
		_, port, ok := strings.Cut(strings.TrimSuffix(lines.Text(), "/"), "http://[::]:")
		if !ok {
			_, port, ok = strings.Cut(strings.TrimSuffix(lines.Text(), "/"), "http://0.0.0.0:")
		}
		if ok {
			go func() {
				defer close(drained)
				for lines.Scan() { // or it would wait for somebody to read
				}
			}()
			return "127.0.0.1:" + port
		}
	}
	close(drained)
	t.Fatal("the suite's server does not listen:", lines.Err())
	return ""
}
