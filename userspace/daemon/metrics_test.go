package daemon

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"fairlead/testenv"
	"fairlead/testenv/testca"
	"fairlead/userspace/view"
)

// awaitMetrics waits until metrics have all these lines.
func awaitMetrics(t *testing.T, addr string, want ...string) {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 20 * time.Second}
	testenv.AwaitNil(t, "metrics", func() error {
		res, err := client.Get("http://" + addr + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range want {
			if !strings.Contains(string(body), "\n"+line+"\n") {
				return fmt.Errorf("no %q in\n%s", line, body)
			}
		}
		return nil
	})
}

func TestAgentTellsMetrics(t *testing.T) {
	images, _ := page(t, "images")
	first, sick := page(t, "first")
	second, _ := page(t, "second")
	addr := testenv.FreeAddress(t)
	conf := "agent: {metrics: '" + addr + "'}\n" + routed(images, first, second)
	r := runAgent(t, conf)
	for range 4 {
		fetch(t, "/x")
	}
	fetch(t, "/images/x")
	of := func(name, pool, backend string) string {
		return fmt.Sprintf(`fairlead_%s{backend=%q,pool=%q,service=""}`, name, backend, pool)
	}
	awaitMetrics(t, addr,
		"fairlead_config_last_reload_successful 1",
		`fairlead_http_requests_total{protocol="http",service="web"} 5`,
		`fairlead_http_responses_total{code="200",protocol="http",service="web"} 5`,
		`fairlead_http_request_duration_seconds_count{protocol="http",service="web"} 5`,
		`fairlead_connections_total{protocol="http",service="web"} 5`,
		of("backend_http_requests_total", "images", images)+" 1",
		of("backend_http_request_duration_seconds_count", "main", first)+" 2",
		of("backend_http_requests_total", "main", second)+" 2",
		of("backend_up", "main", first)+" 1",
	)
	sick.Store(true)
	awaitMetrics(t, addr, of("backend_up", "main", first)+" 0", of("backend_serves", "main", first)+" 0")
	r.reload("xdp: maybe\n")
	awaitMetrics(t, addr, "fairlead_config_last_reload_successful 0")
	r.reload(strings.Replace(conf, site, addr, 1)) // where metrics are told
	v := r.await("the clash", func(v view.View) bool { return strings.Contains(v.ConfigError, "metrics") })
	if want := fmt.Sprintf(`%s:5:13: services[0].listen: %q is where metrics are told, by agent.metrics in line 2: use another port for one of the two`, r.opts.Config, addr); v.ConfigError != want {
		t.Errorf("%s\nwant %s", v.ConfigError, want)
	}
	r.reload(fmt.Sprintf("services: [{name: web, listen: '%s', forward: http, backends: [{address: %q}]}, {name: plain, listen: '%s', forward: proxy, backends: [{address: %q}]}]\n",
		site, first, testenv.FreeAddress(t), second))
	awaitMetrics(t, addr,
		"fairlead_config_last_reload_successful 1",
		fmt.Sprintf(`fairlead_backend_http_requests_total{backend=%q,pool="",service="web"} 0`, first),
		fmt.Sprintf(`fairlead_backend_connections{backend=%q,pool="",service="plain"} 0`, second),
		`fairlead_connections{protocol="tcp",service="plain"} 0`,
	)
}

func TestWhoIsLeftOutServesNobodyInMetrics(t *testing.T) {
	good, _ := page(t, "good")
	addr, nobody := testenv.FreeAddress(t), testenv.FreeAddress(t)
	runAgent(t, fmt.Sprintf("agent: {metrics: '%s'}\nservices: [{name: web, listen: '%s', forward: http, backends: [{address: %q}, {address: %q}], health: {type: none}, eject: {failures: 1, time: 1h, max-time: 1h}}]\n",
		addr, site, good, nobody))
	for range 2 {
		fetch(t, "/")
	}
	of := func(name, backend string) string {
		return fmt.Sprintf(`fairlead_backend_%s{backend=%q,pool="",service="web"}`, name, backend)
	}
	awaitMetrics(t, addr, of("serves", good)+" 1", of("up", nobody)+" 1", of("http_failures_total", nobody)+" 1", of("serves", nobody)+" 0")
}

func TestAgentTellsWhenCertificatesEnd(t *testing.T) {
	ca, addr := testca.New(t), testenv.FreeAddress(t)
	cert, key := ca.Issue(testca.Leaf{Names: []string{"example.com", "www.example.com"}})
	backend, _ := page(t, "secure")
	// Named twice, it must not be told twice: Prometheus takes nothing then.
	pair := fmt.Sprintf("{cert: %s, key: %s}", cert, key)
	conf := strings.Replace(secureService(backend, "", cert, key), pair, pair+", "+pair, 1)
	runAgent(t, "agent: {metrics: '"+addr+"'}\n"+conf)
	pool, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	awaitMetrics(t, addr, fmt.Sprintf(`fairlead_certificate_expiry_timestamp_seconds{certificate=%q,names="example.com www.example.com",service="web"} %s`,
		cert, strconv.FormatFloat(float64(pool.Leaf.NotAfter.Unix()), 'g', -1, 64)))
}

func TestMetricsThatCannotBeTold(t *testing.T) {
	taken, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	dir := t.TempDir()
	r := &running{t: t, opts: Options{Config: filepath.Join(dir, "f.yaml"), RunDir: filepath.Join(dir, "run"), Metrics: taken.Addr().String()}}
	r.write("services: []\n")
	want := "tell metrics: listen tcp " + taken.Addr().String() + ": bind: address already in use; choose another address with --metrics, or off"
	if err := Run(t.Context(), r.opts); err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	r.opts.Metrics = site // as a flag would have it
	r.write(fmt.Sprintf("services: [{name: web, listen: '%s', forward: proxy, backends: [{address: '127.0.0.1:1'}]}]\n", site))
	want = fmt.Sprintf(`invalid configuration: %s: service "web" listens on %s and metrics on %s: change listen or metrics`, r.opts.Config, site, site)
	if err := Run(t.Context(), r.opts); err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}
