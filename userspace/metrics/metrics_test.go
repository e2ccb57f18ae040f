package metrics

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"fairlead/testenv/golden"
	"fairlead/userspace/latency"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

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

func TestWhatIsTold(t *testing.T) {
	took := func(all ...time.Duration) Latency {
		r := new(latency.Recorder)
		for _, d := range all {
			r.Record(d, time.Now())
		}
		return Latency{r.Totals(), r.Recent(time.Now())}
	}
	connects := took(2 * time.Millisecond)
	status, body := scrape(t, "/metrics", &Snapshot{
		Services: []Service{
			{Name: "web", Protocol: "http", Accepted: 3, Active: 2, Refused: 1, NoBackend: 5, Retries: 6, Requests: Requests{
				Begun: 9, Answers: [4]uint64{4, 3, 2, 1}, Latency: took(time.Millisecond, 3*time.Millisecond, 11*time.Second),
			}},
			{Name: "dns", Protocol: "udp", Accepted: 7, Active: 1},
		},
		Certificates: []Certificate{
			{Service: "web", File: "/etc/site.pem", Names: "example.com *.example.com", NotAfter: time.Unix(2000000000, 0)},
			{Service: "web", File: "acme", Names: "example.org"},
		},
		Backends: []Backend{
			{Pool: "images", Address: "10.0.0.1:80", Up: true, Active: 2, Failures: 8, HTTP: true, Requests: Requests{Begun: 1, Latency: took(100 * time.Millisecond)}},
			{Service: "dns", Address: "10.0.0.2:53", Serves: true, Active: 4},
			{Service: "plain", Address: "10.0.0.3:80", Connects: &connects},
		},
	}, nil)
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
	for _, name := range got {
		name, _, _ = strings.Cut(name, "{")
		for _, end := range []string{"_bucket", "_sum", "_count", " 1"} {
			name = strings.TrimSuffix(name, end)
		}
		if !slices.ContainsFunc(strings.Split(body, "\n"), func(l string) bool { return strings.HasPrefix(l, "# HELP "+name+" ") }) {
			t.Errorf("%s has no help", name)
		}
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
