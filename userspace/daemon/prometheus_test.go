package daemon

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"fairlead/testenv/stage"
	"fairlead/testenv/testca"
)

// deployed is where what Prometheus and Grafana read is.
const deployed = "../../deploy"

// prometheusTool returns the path of one of Debian's programs.
func prometheusTool(t *testing.T, name string) string {
	t.Helper()
	dir, err := exec.Command("../../scripts/prometheus-fetch.sh").Output()
	if err != nil {
		t.Fatal("fetch prometheus:", err)
	}
	return filepath.Join(strings.TrimSpace(string(dir)), name)
}

func TestRulesAreGood(t *testing.T) {
	tool := prometheusTool(t, "promtool")
	for _, args := range []string{"check rules --lint=all --lint-fatal alerts.yaml", "test rules alerts.test.yaml"} {
		c := exec.Command(tool, strings.Fields(args)...)
		c.Dir = deployed
		if out, err := c.CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", args, err, out)
		}
	}
}

// A dashboard is what a test wants to know of one.
type dashboard struct {
	Title  string
	Panels []struct {
		ID      int
		Type    string
		Title   string
		Targets []struct{ Expr string }
		GridPos struct{ H, W, X, Y int }
	}
}

// readDashboard returns the queries of the dashboard, as Grafana would send them.
func readDashboard(t *testing.T) (queries []string) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(deployed, "grafana-dashboard.json"))
	if err != nil {
		t.Fatal(err)
	}
	var d dashboard
	if err := json.Unmarshal(data, &d); err != nil {
		t.Fatal(err)
	}
	seen, filled := map[int]bool{}, strings.NewReplacer("$instance", ".*", "$service", ".*", "$__rate_interval", "1m")
	for _, p := range d.Panels {
		if seen[p.ID] || p.Title == "" || p.GridPos.X+p.GridPos.W > 24 || p.GridPos.H == 0 || (p.Type != "row") != (len(p.Targets) > 0) {
			t.Errorf("panel %+v", p)
		}
		seen[p.ID] = true
		for _, target := range p.Targets {
			queries = append(queries, filled.Replace(target.Expr))
		}
	}
	return queries
}

// A prometheus is one that scrapes an agent.
type prometheus struct {
	t      *testing.T
	client *http.Client
}

// scrapeWith starts Prometheus beside the agent of a bench.
func scrapeWith(t *testing.T, b *bench, client *http.Client) *prometheus {
	t.Helper()
	dir := t.TempDir()
	rules, err := filepath.Abs(filepath.Join(deployed, "alerts.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	conf := fmt.Sprintf("global: {scrape_interval: 200ms, evaluation_interval: 200ms}\nrule_files: [%s]\nscrape_configs:\n  - {job_name: fairlead, static_configs: [{targets: ['%s']}]}\n", rules, b.opts.Metrics)
	file := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	out := &stage.Output{}
	c := exec.Command(prometheusTool(t, "prometheus"), "--config.file="+file, "--storage.tsdb.path="+filepath.Join(dir, "data"),
		"--web.listen-address=127.0.0.1:9090", "--enable-feature=native-histograms")
	c.Stderr = out
	b.Balancer.Start(t, c)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("prometheus:\n%s", out)
		}
	})
	return &prometheus{t, client}
}

// query returns the values of a query, by their labels without name and instance. The
// error says that Prometheus does not answer, or not so.
func (p *prometheus) query(text string) (map[string]string, error) {
	res, err := p.client.Get("http://127.0.0.1:9090/api/v1/query?query=" + url.QueryEscape(text))
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	var answer struct {
		Status, Error string
		Data          struct {
			Result json.RawMessage
		}
	}
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil {
		return nil, err
	}
	if answer.Status != "success" {
		return nil, fmt.Errorf("query %s: %s", text, answer.Error)
	}
	var series []struct {
		Metric map[string]string
		Value  [2]any
	}
	if err := json.Unmarshal(answer.Data.Result, &series); err != nil {
		return nil, nil // a number
	}
	all := map[string]string{}
	for _, s := range series {
		delete(s.Metric, "__name__")
		delete(s.Metric, "instance")
		delete(s.Metric, "job")
		all[fmt.Sprint(s.Metric)] = fmt.Sprint(s.Value[1])
	}
	return all, nil
}

// await waits until a query has these values.
func (p *prometheus) await(text string, want map[string]string) {
	p.t.Helper()
	stage.Await(p.t, text, func() error {
		got, err := p.query(text)
		if err != nil {
			return err
		}
		for labels, value := range want {
			if got[labels] != value {
				return fmt.Errorf("%v, want %v", got, want)
			}
		}
		return nil
	})
}

var metricName = regexp.MustCompile(`\bfairlead_[a-z0-9_]+`)

// benchOfAll starts an agent that has everything to tell: XDP, proxies, HTTP, TLS.
func benchOfAll(t *testing.T) *bench {
	t.Helper()
	b := newBench(t, 2)
	b.opts.Metrics = "127.0.0.1:9100"
	http80 := strings.NewReplacer("health:", "forward: http, health:", ":8080'", ":8081'").Replace(b.service("page", "tcp", 8000))
	for i := range b.Backends {
		l := b.Backends[i].Listen(t, "tcp", ":8081")
		go func() {
			_ = http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }))
		}()
	}
	proxied := strings.Replace(b.service("plain", "tcp", 81), "health:", "forward: proxy, health:", 1)
	cert, key := testca.New(t).Issue(testca.Leaf{Names: []string{"example.com"}})
	secure := strings.Replace(b.service("secure", "tcp", 443), "health:", fmt.Sprintf("forward: http, tls: {certificates: [{cert: %s, key: %s}]}, health:", cert, key), 1)
	b.configure(b.interfaces(), "services:\n", b.service("web", "tcp", 80), proxied, http80, secure)
	b.greetAll()
	b.start()
	b.seen("backends to be up", up(true, true))
	return b
}

// TestPrometheusScrapes: Debian's takes what an agent tells, answers queries of it, and
// finds every metric that rules and dashboard name.
func TestPrometheusScrapes(t *testing.T) {
	b := benchOfAll(t)
	client := &http.Client{Transport: &http.Transport{DialContext: b.Balancer.DialContext}}
	p := scrapeWith(t, b, client)
	for range 6 {
		b.opened(80)
		b.opened(81)
	}
	if res, err := (&http.Client{Transport: &http.Transport{DialContext: b.Clients[0].DialContext, DisableKeepAlives: true}}).Get(fmt.Sprintf("http://%s:8000/", vip)); err == nil {
		res.Body.Close()
	}
	p.await(`up`, map[string]string{"map[]": "1"})
	p.await(`fairlead_xdp_service_flows_total`, map[string]string{"map[protocol:tcp service:web]": "6"})
	p.await(`sum(fairlead_connections_total{service="plain"})`, map[string]string{"map[]": "6"})
	p.await(`histogram_count(sum(fairlead_backend_connect_duration_seconds{service="plain"}))`, map[string]string{"map[]": "6"}) // native
	p.await(`sum(fairlead:xdp_map:ratio{map="services"} > bool 0)`, map[string]string{"map[]": "1"})
	p.await(`sum(fairlead_http_responses_total{service="page",code="418"})`, map[string]string{"map[]": "1"})
	p.await(`sum(fairlead_backend_http_responses_total{service="page",code="418"})`, map[string]string{"map[]": "1"})

	known := metricsIn(t, client, b.opts.Metrics)
	names := map[string]bool{}
	for series := range known {
		names[metricName.FindString(series)] = true
	}
	rules, err := os.ReadFile(filepath.Join(deployed, "alerts.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	queries := readDashboard(t)
	for _, q := range queries {
		if _, err := p.query(q); err != nil {
			t.Error(err)
		}
	}
	for _, name := range metricName.FindAllString(strings.Join(append(queries, string(rules)), "\n"), -1) {
		if !names[name] {
			t.Error("no metric", name)
		}
	}
}
