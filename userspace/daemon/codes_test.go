package daemon

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"fairlead/testenv"
	"fairlead/testenv/stage"
	"fairlead/userspace/view"
)

// coded is a backend that answers with the status that the path ends in, and says in a
// header who it is. 101 changes the protocol and ends, and each answer has a hint before.
func coded(t *testing.T) string {
	return httpServer(t, func(w http.ResponseWriter, r *http.Request) {
		status, err := strconv.Atoi(path.Base(r.URL.Path))
		if err != nil {
			t.Error(err)
		}
		me := r.Context().Value(http.LocalAddrContextKey).(fmt.Stringer).String()
		if status == http.StatusSwitchingProtocols {
			c, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			fmt.Fprintf(c, "HTTP/1.1 101 Go\r\nConnection: Upgrade\r\nUpgrade: echo\r\nX-Me: %s\r\n\r\n", me)
			return
		}
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Set("X-Me", me)
		w.WriteHeader(status)
	})
}

// A headcount is how often clients saw each status, by who answered; "" is for the
// agent and all backends together.
type headcount map[string]map[string]float64

func (h headcount) add(who, code string, n float64) {
	if h[who] == nil {
		h[who] = map[string]float64{}
	}
	h[who][code] += n
}

// ask has many clients ask for each of these paths, and returns what they saw.
func (h headcount) ask(t *testing.T, clients, times int, paths []string) {
	t.Helper()
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	var mu sync.Mutex
	var all sync.WaitGroup
	for range clients {
		all.Go(func() {
			for i := range times * len(paths) {
				r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+site+paths[i%len(paths)], nil)
				if err != nil {
					t.Error(err)
					return
				}
				if strings.HasSuffix(r.URL.Path, "/101") {
					r.Header.Set("Connection", "Upgrade")
					r.Header.Set("Upgrade", "echo")
				}
				res, err := client.Do(r)
				if err != nil {
					t.Error(err)
					return
				}
				res.Body.Close()
				mu.Lock()
				h.add("", codeName(res.StatusCode), 1)
				if who := res.Header.Get("X-Me"); who != "" {
					h.add(who, codeName(res.StatusCode), 1)
				}
				mu.Unlock()
			}
		})
	}
	all.Wait()
}

// unhandled are requests of which each ends its connection, before anybody looks at
// where it goes.
var unhandled = map[string]string{
	"400 no host":                "GET / HTTP/1.1\r\n\r\n",
	"400 two hosts":              "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
	"400 length and chunks":      "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
	"417 unknown expectation":    "GET / HTTP/1.1\r\nHost: a\r\nExpect: foo\r\n\r\n",
	"431 large header":           "GET / HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("a", 80<<10) + "\r\n\r\n",
	"501 unknown coding":         "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: blah\r\n\r\n",
	"505 unknown version":        "GET / HTTP/3.1\r\nHost: a\r\n\r\n",
	"405 what a handler refuses": "CONNECT a:80 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
	"200 options of the server":  "OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
}

// provoke sends what is unhandled, and adds what comes.
func (h headcount) provoke(t *testing.T) {
	t.Helper()
	for name, request := range unhandled {
		c, err := net.Dial("tcp", site)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		var sending sync.WaitGroup
		sending.Go(func() { _, _ = io.WriteString(c, request) }) // who refuses it may have closed by then
		answer, _ := io.ReadAll(c)
		c.Close()
		sending.Wait()
		code, _, _ := strings.Cut(strings.TrimPrefix(string(answer), "HTTP/1.1 "), " ")
		if !strings.HasPrefix(name, code+" ") || code == "" {
			t.Errorf("%s: answer %q", name, answer)
		}
		h.add("", code, 1)
	}
}

// noted returns how often each status is in an access log.
func noted(t *testing.T, file string) map[string]float64 {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	h := headcount{"": {}}
	for line := range strings.Lines(string(text)) {
		var r struct{ Status int }
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatal(err)
		}
		h.add("", codeName(r.Status), 1)
	}
	return h[""]
}

func codeName(status int) string {
	if status < 100 || status > 599 {
		return "other"
	}
	return strconv.Itoa(status)
}

// told returns the same as metrics have it.
func told(all map[string]float64) headcount {
	h := headcount{}
	for series, n := range all {
		name, labels, _ := strings.Cut(strings.TrimSuffix(series, "}"), "{")
		var who, code string
		for label := range strings.SplitSeq(labels, ",") {
			key, value, _ := strings.Cut(label, "=")
			switch value = strings.Trim(value, `"`); key {
			case "backend":
				who = value
			case "code":
				code = value
			}
		}
		if n == 0 {
			continue // told before it comes
		}
		if name == "fairlead_http_responses_total" || name == "fairlead_backend_http_responses_total" {
			h.add(who, code, n)
		}
	}
	return h
}

// TestMetricsAreTheCodesThatClientsCounted: of the service and of each backend, those of
// the agent's own and those that HTTP does not have; no other, and in the view and in the
// access log, too.
func TestMetricsAreTheCodesThatClientsCounted(t *testing.T) {
	var backends []string
	for range 3 {
		backends = append(backends, fmt.Sprintf("{address: %q}", coded(t)))
	}
	addr, file := testenv.FreeAddress(t), filepath.Join(t.TempDir(), "access.log")
	r := runAgent(t, fmt.Sprintf("agent: {metrics: '%s'}\naccess-log: {file: '%s'}\nservices: [{name: web, listen: '%s', forward: http, routes: [{match: /at/, pool: main}]}]\n"+
		"pools: {main: {backends: [%s], health: {type: none}}}\n", addr, file, site, strings.Join(backends, ", ")))
	paths := []string{"/nowhere"} // 404 of the agent
	for _, status := range []int{101, 200, 201, 204, 206, 299, 301, 302, 304, 400, 404, 418, 429, 500, 501, 502, 503, 599, 600, 799, 999} {
		paths = append(paths, fmt.Sprintf("/at/%d", status))
	}
	want := headcount{}
	want.ask(t, 8, 5, paths)
	if len(want) != 4 || len(want[""]) != len(paths)-3 {
		t.Fatalf("clients saw %v: that shows nothing", want)
	}
	want.provoke(t)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	stage.Await(t, "metrics to be what clients counted", func() error {
		if diff := cmp.Diff(want, told(metricsIn(t, client, addr))); diff != "" {
			return fmt.Errorf("-want +got:\n%s", diff)
		}
		return nil
	})
	stage.Await(t, "the access log to have a line of each", func() error {
		if diff := cmp.Diff(want[""], noted(t, file)); diff != "" {
			return fmt.Errorf("-want +got:\n%s", diff)
		}
		return nil
	})
	codes := map[int]uint64{}
	for code, n := range want[""] {
		status, _ := strconv.Atoi(code) // 0 of other
		codes[status] = uint64(n)
	}
	r.await("the view to have them", func(v view.View) bool { return maps.Equal(v.Proxy.HTTP.Codes, codes) })
}
