package metrics

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fairlead/testenv/golden"
	"fairlead/testenv/leak"
	"fairlead/userspace/latency"
)

func TestMain(m *testing.M) { leak.Each(m).Run() }

// scrape serves one snapshot, or an error, and returns what a client is answered.
func scrape(t *testing.T, path string, s *Snapshot, err error) (status int, body string) {
	t.Helper()
	l, listenErr := net.Listen("tcp4", "127.0.0.1:0")
	if listenErr != nil {
		t.Fatal(listenErr)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		read := func(context.Context) (*Snapshot, error) { return s, err }
		ended <- Serve(ctx, l, read, slog.New(slog.DiscardHandler))
	}()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 20 * time.Second}
	res, err := client.Get("http://" + l.Addr().String() + path)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	stop()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("Serve returned %v", err)
	}
	return res.StatusCode, string(text)
}

// everything is a snapshot that leaves nothing out.
func everything() *Snapshot {
	took := func(all ...time.Duration) Latency {
		r := new(latency.Recorder)
		for _, d := range all {
			r.Record(d, time.Now())
		}
		return Latency{r.Totals(), r.Recent(time.Now())}
	}
	connects, probes := took(2*time.Millisecond), took(time.Millisecond, time.Second)
	web := Traffic{Service: "web", Protocol: "tcp", Flows: 1, Packets: [2]uint64{2, 3}, Bytes: [2]uint64{4, 5}, Connections: 6, Unanswered: 7, Refused: 8, Resets: 9}
	backend := web
	backend.Backend = "10.0.0.1:80"
	return &Snapshot{
		Version: "1.2.3", ReloadedAt: time.Unix(1900000000, 0),
		Services: []Service{
			{Name: "web", Protocol: "http", Accepted: 3, Active: 2, Refused: 1, NoBackend: 5, Retries: 6, Unannounced: 7, Rung: "proxy (http)", Requests: Requests{
				Begun: 9, Answers: map[int]uint64{200: 4, 304: 3, 404: 2, 503: 1}, Latency: took(time.Millisecond, 3*time.Millisecond, 11*time.Second),
			}, HTTP: &HTTP{
				Running: 1, Broken: 2, Tunnels: 3, RateLimited: 4, Malformed: 5, Mirrored: 6, Unmirrored: 7,
				Cache: &Cache{Fresh: 1, Stale: 2, Revalidated: 3, Missed: 4, Bytes: 5, Pages: 6},
			}},
			{Name: "dns", Protocol: "udp", Accepted: 7, Active: 1, Rung: "xdp-native", Bytes: [2]uint64{8, 9}, UDP: &UDP{Datagrams: [2]uint64{1, 2}, Evicted: 3, Dropped: 4}},
			{Name: "plain", Protocol: "tcp", Bytes: [2]uint64{8, 9}, TCP: &TCP{Resets: 1, Cut: 2, AcceptErrors: 3, Refused: 4, Timeout: 5, Unreachable: 6, Local: 7}},
		},
		Certificates: []Certificate{
			{Service: "web", File: "/etc/site.pem", Names: "example.com *.example.com", NotAfter: time.Unix(2000000000, 0)},
			{Service: "web", File: "acme", Names: "example.org"},
		},
		Backends: []Backend{
			{Pool: "images", Address: "10.0.0.1:80", Up: true, Active: 2, Failures: 8, HTTP: true, Requests: Requests{Begun: 1, Answers: map[int]uint64{0: 1}, Latency: took(100 * time.Millisecond)}, Probes: &Probes{5, 6, probes.Totals}},
			{Service: "dns", Address: "10.0.0.2:53", Serves: true, Active: 4},
			{Service: "plain", Address: "10.0.0.3:80", Connects: &connects},
			{Service: "plain", Address: "10.0.0.4:80", Connects: &Latency{}},
		},
		Interfaces: []Interface{{"eth0", "native"}, {"eth1", ""}},
		Fragments:  Fragments{1, 2, 3, 4, 5},
		Datapath: &Datapath{
			Packets: []Packets{{"drop", "ttl", 1}, {"forward", "redirect", 2}}, Evictions: map[string]uint64{"new": 1, "over": 2}, Events: []Events{{"begin", 3, 1}, {"end", 2, 0}},
			Fill: []Fill{{"flows", 1, 2}}, Services: []Traffic{web, web}, Backends: []Traffic{backend},
		},
	}
}

func TestWhatIsTold(t *testing.T) {
	status, body := scrape(t, "/metrics", everything(), nil)
	var got []string
	for line := range strings.Lines(body) {
		if strings.HasPrefix(line, "fairlead_") {
			got = append(got, strings.TrimSuffix(line, "\n"))
		}
	}
	golden.Check(t, "told.txt", strings.Join(got, "\n")+"\n")
	if status != 200 {
		t.Errorf("status %d", status)
	}
	if !strings.Contains(body, "\ngo_goroutines ") || !strings.Contains(body, "\nprocess_open_fds ") {
		t.Error("nothing about the process")
	}
	if strings.Contains(body, "The same") {
		t.Error("help that speaks of another metric")
	}
	checkNames(t, body)
}

// checkNames has Prometheus' own tool look at names, types and help.
func checkNames(t *testing.T, body string) {
	t.Helper()
	dir, err := exec.Command("../../scripts/prometheus-fetch.sh").Output()
	if err != nil {
		t.Fatal("fetch promtool:", err)
	}
	var ours strings.Builder // not those of Go, some of which it does not like
	for line := range strings.Lines(body) {
		if strings.HasPrefix(strings.TrimPrefix(strings.TrimPrefix(line, "# HELP "), "# TYPE "), "fairlead_") {
			ours.WriteString(line)
		}
	}
	c := exec.CommandContext(t.Context(), filepath.Join(strings.TrimSpace(string(dir)), "promtool"), "check", "metrics")
	c.Stdin = strings.NewReader(ours.String())
	if out, err := c.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("promtool: %v\n%s", err, out)
	}
}

func TestScrapesThatFail(t *testing.T) {
	if status, body := scrape(t, "/metrics", nil, errors.New("asleep")); status != 503 || body != "agent does not answer: asleep\n" {
		t.Errorf("%d, %q", status, body)
	}
	if status, _ := scrape(t, "/", &Snapshot{}, nil); status != 404 {
		t.Errorf("status %d", status)
	}
	if _, body := scrape(t, "/metrics", &Snapshot{ReloadFailed: true}, nil); !strings.Contains(body, "\nfairlead_config_last_reload_successful 0\n") {
		t.Error("a reload that failed is not told")
	}
}
