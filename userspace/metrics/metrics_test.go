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

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
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

const told = `
fairlead_backend_connections{backend="10.0.0.1:80",pool="images",service=""} 2
fairlead_backend_connections{backend="10.0.0.2:53",pool="",service="dns"} 4
fairlead_backend_http_failures_total{backend="10.0.0.1:80",pool="images",service=""} 8
fairlead_backend_http_request_duration_seconds_bucket{backend="10.0.0.1:80",pool="images",service="",le="0.01"} 1
fairlead_backend_http_request_duration_seconds_bucket{backend="10.0.0.1:80",pool="images",service="",le="1"} 1
fairlead_backend_http_request_duration_seconds_bucket{backend="10.0.0.1:80",pool="images",service="",le="+Inf"} 1
fairlead_backend_http_request_duration_seconds_sum{backend="10.0.0.1:80",pool="images",service=""} 0.001
fairlead_backend_http_request_duration_seconds_count{backend="10.0.0.1:80",pool="images",service=""} 1
fairlead_backend_http_requests_total{backend="10.0.0.1:80",pool="images",service=""} 1
fairlead_backend_http_responses_total{backend="10.0.0.1:80",code="2xx",pool="images",service=""} 0
fairlead_backend_http_responses_total{backend="10.0.0.1:80",code="3xx",pool="images",service=""} 0
fairlead_backend_http_responses_total{backend="10.0.0.1:80",code="4xx",pool="images",service=""} 0
fairlead_backend_http_responses_total{backend="10.0.0.1:80",code="5xx",pool="images",service=""} 0
fairlead_backend_serves{backend="10.0.0.1:80",pool="images",service=""} 0
fairlead_backend_serves{backend="10.0.0.2:53",pool="",service="dns"} 1
fairlead_backend_up{backend="10.0.0.1:80",pool="images",service=""} 1
fairlead_backend_up{backend="10.0.0.2:53",pool="",service="dns"} 0
fairlead_certificate_expiry_timestamp_seconds{certificate="/etc/site.pem",names="example.com *.example.com",service="web"} 2e+09
fairlead_certificate_expiry_timestamp_seconds{certificate="acme",names="example.org",service="web"} 0
fairlead_config_last_reload_successful 1
fairlead_connections{protocol="http",service="web"} 2
fairlead_connections{protocol="udp",service="dns"} 1
fairlead_connections_total{protocol="http",service="web"} 3
fairlead_connections_total{protocol="udp",service="dns"} 7
fairlead_http_request_duration_seconds_bucket{protocol="http",service="web",le="0.01"} 5
fairlead_http_request_duration_seconds_bucket{protocol="http",service="web",le="1"} 8
fairlead_http_request_duration_seconds_bucket{protocol="http",service="web",le="+Inf"} 10
fairlead_http_request_duration_seconds_sum{protocol="http",service="web"} 2.5
fairlead_http_request_duration_seconds_count{protocol="http",service="web"} 10
fairlead_http_requests_total{protocol="http",service="web"} 9
fairlead_http_responses_total{code="2xx",protocol="http",service="web"} 4
fairlead_http_responses_total{code="3xx",protocol="http",service="web"} 3
fairlead_http_responses_total{code="4xx",protocol="http",service="web"} 2
fairlead_http_responses_total{code="5xx",protocol="http",service="web"} 1
fairlead_no_backend_total{protocol="http",service="web"} 5
fairlead_no_backend_total{protocol="udp",service="dns"} 0
fairlead_refused_total{protocol="http",service="web"} 1
fairlead_refused_total{protocol="udp",service="dns"} 0
fairlead_retries_total{protocol="http",service="web"} 6
fairlead_retries_total{protocol="udp",service="dns"} 0
`

func TestWhatIsTold(t *testing.T) {
	bounds := []time.Duration{10 * time.Millisecond, time.Second}
	status, body := scrape(t, "/metrics", &Snapshot{
		Services: []Service{
			{Name: "web", Protocol: "http", Accepted: 3, Active: 2, Refused: 1, NoBackend: 5, Retries: 6, Requests: Requests{
				Begun: 9, Answers: [4]uint64{4, 3, 2, 1}, Bounds: bounds, Times: []uint64{5, 3, 2}, Sum: 2500 * time.Millisecond,
			}},
			{Name: "dns", Protocol: "udp", Accepted: 7, Active: 1},
		},
		Certificates: []Certificate{
			{Service: "web", File: "/etc/site.pem", Names: "example.com *.example.com", NotAfter: time.Unix(2000000000, 0)},
			{Service: "web", File: "acme", Names: "example.org"},
		},
		Backends: []Backend{
			{Pool: "images", Address: "10.0.0.1:80", Up: true, Active: 2, Failures: 8, HTTP: true, Requests: Requests{Begun: 1, Bounds: bounds, Times: []uint64{1, 0, 0}, Sum: time.Millisecond}},
			{Service: "dns", Address: "10.0.0.2:53", Serves: true, Active: 4},
		},
	}, nil)
	var got []string
	for line := range strings.Lines(body) {
		if strings.HasPrefix(line, "fairlead_") {
			got = append(got, strings.TrimSuffix(line, "\n"))
		}
	}
	want := strings.Split(strings.TrimSpace(told), "\n")
	if diff := cmp.Diff(want, got); status != 200 || diff != "" {
		t.Errorf("status %d, -want +got:\n%s", status, diff)
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
