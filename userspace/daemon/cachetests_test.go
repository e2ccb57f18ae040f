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

// What of the suite must pass, of 157 required and 86 optimal tests that are not
// for browsers only. A test counts if those that it depends on have passed, too.
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
// defaults. It takes eight seconds, in which the suite waits. On a machine that is
// busy what should be fresh for two seconds may be stale by then, so what has
// failed may try again if too much has.
func TestCacheTests(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "../../scripts/cachetests-fetch.sh").CombinedOutput()
	dir := strings.TrimSpace(string(out))
	if err != nil && os.Getenv("FAIRLEAD_TEST_ROOT") == "" {
		t.Skipf("no cache tests: %s", out)
	} else if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	runAgent(t, fmt.Sprintf("services: [{name: web, listen: '%s', forward: http, cache: true, backends: [{address: '%s'}]}]\n", site, cacheOrigin(t, dir)))
	all := judgeCache(t, dir)
	for range 3 {
		if passed(all, "required") >= wantRequired && passed(all, "optimal") >= wantOptimal {
			break
		}
		var failed []string
		for _, c := range all {
			if !c.Passed {
				failed = append(failed, c.ID)
			}
		}
		for _, again := range judgeCache(t, dir, failed...) {
			all[slices.IndexFunc(all, func(c cacheTest) bool { return c.ID == again.ID })] = again
		}
	}
	for kind, want := range map[string]int{"required": wantRequired, "optimal": wantOptimal} {
		if n := passed(all, kind); n < want {
			t.Errorf("%d %s tests pass, want %d or more", n, kind, want)
		} else {
			t.Logf("%d %s tests pass", n, kind)
		}
	}
	for _, c := range all {
		if c.Kind != "check" && !counts(all, c.ID) {
			t.Logf("%s: %s %s", c.Kind, c.ID, c.Why)
		}
	}
}

// judgeCache runs some tests of the suite, or all.
func judgeCache(t *testing.T, dir string, ids ...string) (all []cacheTest) {
	t.Helper()
	run := exec.CommandContext(t.Context(), "node", append([]string{"testdata/cachetests/run.mjs", dir, "http://" + site}, ids...)...)
	run.Stderr = t.Output()
	out, err := run.Output()
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(out, &all); err != nil {
		t.Fatal(err)
	}
	return all
}

// passed returns how many tests of a kind have.
func passed(all []cacheTest, kind string) (n int) {
	for _, c := range all {
		if c.Kind == kind && counts(all, c.ID) {
			n++
		}
	}
	return n
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
