package web

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"fairlead/testenv/browser"
	"fairlead/testenv/leak"
)

func TestMain(m *testing.M) { leak.Each(m).Run() }

const apiPath = "/fairlead.admin.v1.Admin/"

// An api answers methods with texts, in which NOW is the time, and all others with a
// fault.
type api struct {
	mu      sync.Mutex
	answers map[string]string
	asked   []string
}

func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	a.mu.Lock()
	defer a.mu.Unlock()
	method := strings.TrimPrefix(r.URL.Path, apiPath)
	a.asked = append(a.asked, method+" "+string(body))
	w.Header().Set("Content-Type", "application/json")
	answer, ok := a.answers[method]
	if !ok {
		w.WriteHeader(http.StatusServiceUnavailable)
		answer = `{"code": "unavailable", "message": "the agent <b>ends</b>"}`
	}
	fmt.Fprint(w, strings.ReplaceAll(answer, "NOW", time.Now().UTC().Format(time.RFC3339Nano)))
}

func (a *api) set(answers map[string]string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.answers = answers
}

// serve serves the page until the test ends and returns its address.
func serve(t *testing.T, a http.Handler) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- Serve(ctx, l, apiPath, a, slog.New(slog.DiscardHandler)) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

func TestRequests(t *testing.T) {
	addr := serve(t, &api{answers: map[string]string{"GetStatus": "{}"}})
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	for _, row := range []struct {
		method, path, host string
		status             int
	}{
		{"GET", "/", "", 200},
		{"HEAD", "/page.js", "", 200},
		{"GET", "/uplot.LICENSE", "", 200},
		{"GET", "/web.go", "", 404},
		{"GET", "/../web.go", "", 404},
		{"POST", "/", "", 405},
		{"POST", apiPath + "GetStatus", "", 200},
		{"POST", apiPath + "GetStatus", "localhost:8081", 200},
		{"POST", apiPath + "GetStatus", "[::1]:8081", 200},
		{"POST", apiPath + "GetStatus", "[::1]", 200},
		{"POST", apiPath + "GetStatus", "LocalHost", 200},
		{"POST", apiPath + "GetStatus", "evil.example:8081", 421},
		{"GET", "/", "127.0.0.1.evil.example", 421},
		{"GET", apiPath + "GetStatus", "", 404},
	} {
		r, err := http.NewRequestWithContext(t.Context(), row.method, "http://"+addr+row.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = row.host
		res, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != row.status || res.StatusCode == 200 && res.Header.Get("Content-Security-Policy") != policy {
			t.Errorf("%s %s %s: status %d, policy %q", row.method, row.host, row.path, res.StatusCode, res.Header.Get("Content-Security-Policy"))
		}
	}
}

// everything is what an agent with something of each kind answers. Names that the
// configuration would refuse show that nothing is taken for HTML.
var everything = map[string]string{
	"GetStatus": `{"pid": 42, "started": "2026-01-02T03:04:05Z", "revision": "7", "config": "/etc/fairlead/fairlead.yaml", "configError": "",
		"xdp": {"mode": "auto", "interfaces": [{"name": "eth0", "mode": "native"}, {"name": "eth1", "mode": "generic", "reason": "the driver <i>cannot</i>"}]}}`,
	"ListServices": `{"services": [
		{"name": "web", "listen": "203.0.113.10:80", "protocol": "tcp", "rung": "xdp-native", "serving": "up", "backends": [
			{"address": "10.2.1.2:8080", "weight": 3, "sharePercent": 100, "flows": "1234", "status": "healthy", "up": true, "known": true, "since": "2026-01-02T03:04:05Z",
				"latency": {"count": "1000", "medianSeconds": 0.0123, "p95Seconds": 0.5, "p99Seconds": 1.25}},
			{"address": "10.2.1.3:8080", "weight": 1, "sharePercent": 40, "status": "unhealthy", "lastError": "<img src=x onerror=alert(1)>", "zone": "a"}]},
		{"name": "dns", "listen": "203.0.113.10:53", "protocol": "udp", "rung": "proxy", "reason": "interface eth2 is lost", "serving": "none", "backends": [
			{"address": "10.2.1.9:53", "sharePercent": 100, "status": "draining"}, {"address": "10.2.1.8:53", "weight": 1, "sharePercent": 100, "status": "unknown"}]},
		{"name": "shop", "listen": "203.0.113.10:81", "protocol": "tcp", "rung": "proxy (http)"}, {"name": "blog", "listen": "203.0.113.10:82", "protocol": "tcp", "rung": "proxy (http)"}]}`,
	"ListPools": `{"pools": [{"name": "web", "services": ["web"], "status": "degraded"}, {"name": "cart", "services": ["shop", "blog"], "status": "full"},
		{"name": "pay<b>", "services": ["shop"], "status": "none"}, {"name": "spare", "status": "unused"}]}`,
	"GetStats": `{"time": "NOW", "proxyTime": "NOW", "packets": "1000", "kinds": {"forward": "900", "pass": "50", "drop": "50"},
		"verdicts": {"drop_no_backend": "40", "drop_denied": "10", "drop_family": "0", "forward_hit": "900"}, "proxy": {"http": {"requests": "5"}, "tcp": {"accepted": "6"}}}`,
	"ListHistory": `{"revisions": [
		{"revision": "7", "time": "2026-01-02T03:04:05Z", "who": "uid 0 (root)", "edits": [{"op": "set-weight", "pool": "web", "backend": "10.2.1.2:8080", "weight": 3}], "difference": "--- a\n+++ b\n-weight: 1\n+weight: 3\n"},
		{"revision": "6", "time": "2026-01-02T03:04:05Z", "who": "uid 0 (root)", "rollback": "2"},
		{"revision": "5", "time": "2026-01-02T03:04:05Z", "who": "file"}]}`,
	"Explain": `{"verdict": "forward_new", "service": {"name": "web", "listen": "203.0.113.10:80", "protocol": "tcp", "rung": "xdp"},
		"choice": {"balance": "round-robin", "tries": [{"backend": "10.2.1.2:8080", "verdict": "fit"}]}, "packet": {"source": "198.51.100.7:1", "destination": "203.0.113.10:80", "ttl": 64, "flags": ["syn"]}}`,
}

// read returns the text of what each selector finds.
const read = `((wanted) => Object.fromEntries(Object.entries(wanted).map(([name, selector]) => [name, [...document.querySelectorAll(selector)].map((e) => e.textContent)])))`

func TestPage(t *testing.T) {
	a := &api{answers: everything}
	p := browser.Open(t, begin(t), "http://"+serve(t, a)+"/", 1200, 1400)
	p.Await("document.body.dataset.ready === 'yes' && document.querySelector('#packets canvas')")
	var got map[string][]string
	p.Eval(read+`({
		names: "tr.service [data-field=name]", rungs: "tr.service [data-field=rung]", healths: "tr.service [data-field=backends]", health: "tr.service [data-field=serving]", sums: "tr.service [data-field=flows]",
		backends: "tr.backend [data-field=address]", status: "tr.backend [data-field=status]", weights: "tr.backend [data-field=weight]", errors: "tr.backend [data-field=error]",
		latency: "tr.backend [data-field=latency]", columns: "#services th",
		drops: "#drops [data-field=verdict]", dropped: "#drops [data-field=packets]", changes: "#changes .what", lines: "#changes pre span", xdp: "#xdp", trouble: "#trouble:not([hidden])"
	})`, &got)
	want := map[string][]string{
		"names": {"web", "dns", "shop", "blog"}, "rungs": {"xdp-native", "proxyinterface eth2 is lost", "proxy (http)", "proxy (http)"},
		"healths": {"1 healthy, 1 unhealthy", "1 draining, 1 unknown", "none", "none"}, "health": {"up", "none", "cart full, pay<b> none", "full"}, "sums": {"1,234", "0", "0", "0"},
		"backends": {"10.2.1.2:8080", "10.2.1.3:8080zone a", "10.2.1.9:53", "10.2.1.8:53"}, "status": {"healthy", "unhealthy", "draining", "unknown"},
		"weights": {"3", "1 (40 %)", "0", "1"}, "errors": {"", "<img src=x onerror=alert(1)>", "", ""},
		"latency": {"12.3, 500, 1,250 ms", "", "", ""},
		"columns": {"Service", "Listens on", "Served by", "Backends", "Health", "Weight", "Flows", "Median, p95, p99", "Since", "Last error"},
		"drops":   {"drop_no_backend", "drop_denied"}, "dropped": {"40", "10"},
		"changes": {"set-weight web 10.2.1.2:8080 3", "rollback to 2", "the file has changed"}, "lines": {"--- a\n", "+++ b\n", "-weight: 1\n", "+weight: 3\n"},
		"xdp": {"XDP eth0: native, eth1: generic (the driver <i>cannot</i>)"}, "trouble": {},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("page (-want +got):\n%s", diff)
	}
	keep(t, "light.png", p)
	p.Prefer("dark")
	p.Await("getComputedStyle(document.body).backgroundColor === 'rgb(18, 22, 29)'")
	keep(t, "dark.png", p)
	filter(t, p)
	explain(t, p, a)
	silence(t, p, a)
}

// begin starts a command.
func begin(t *testing.T) func(*exec.Cmd) {
	return func(cmd *exec.Cmd) {
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
	}
}

// keep writes a picture where FAIRLEAD_PICTURES says, for people to look at.
func keep(t *testing.T, name string, p *browser.Page) {
	t.Helper()
	picture := p.Picture()
	if dir := os.Getenv("FAIRLEAD_PICTURES"); dir != "" {
		if err := os.WriteFile(filepath.Join(dir, name), picture, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func filter(t *testing.T, p *browser.Page) {
	t.Helper()
	var names []string
	const names2 = `[...document.querySelectorAll("tr.service [data-field=name]")].map((e) => e.textContent)`
	for text, want := range map[string][]string{":53": {"dns"}, "WEB": {"web"}, "nobody": {}} {
		p.Eval(`{ const f = document.getElementById("filter"); f.value = "`+text+`"; f.dispatchEvent(new Event("input")); `+names2+` }`, &names)
		if diff := cmp.Diff(want, names); diff != "" {
			t.Errorf("filter %s (-want +got):\n%s", text, diff)
		}
	}
	p.Eval(`{ const f = document.getElementById("filter"); f.value = ""; f.dispatchEvent(new Event("input")); `+names2+` }`, &names)
}

func explain(t *testing.T, p *browser.Page, a *api) {
	t.Helper()
	const submit = `{ const f = document.getElementById("explain").elements; f.from.value = "198.51.100.7:1"; f.to.value = "203.0.113.10:80"; f.flags.value = "syn ack"; document.getElementById("explain").requestSubmit(); true }`
	var is bool
	p.Eval(submit, &is)
	p.Await(`document.querySelector("#explanation [data-field=verdict]")?.textContent === "forward_new"`)
	var backend string
	p.Eval(`document.querySelector("#explanation [data-field=backend]").textContent`, &backend)
	if backend != "round-robin; 10.2.1.2:8080: fit" {
		t.Errorf("backend %q", backend)
	}
	a.mu.Lock()
	asked := a.asked
	a.mu.Unlock()
	if want := `Explain {"protocol":"tcp","from":"198.51.100.7:1","to":"203.0.113.10:80","interface":"","flags":["syn","ack"]}`; !strings.Contains(strings.Join(asked, "\n"), want) {
		t.Errorf("not asked: %s", want)
	}
}

// silence has the agent end while the page is open: the page says so, and goes on
// when it is back.
func silence(t *testing.T, p *browser.Page, a *api) {
	t.Helper()
	if len(p.Faults) > 0 {
		t.Errorf("faults of the page: %v", p.Faults)
	}
	a.set(nil)
	p.Await(`document.body.classList.contains("stale") && /does not answer since .*: the agent <b>ends<\/b>$/.test(document.getElementById("trouble").textContent)`)
	a.set(everything)
	p.Await(`!document.body.classList.contains("stale") && document.getElementById("trouble").hidden`)
}

func TestBrokenListener(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := Serve(t.Context(), l, apiPath, &api{}, slog.New(slog.DiscardHandler)); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}
