package metrics

import (
	"cmp"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// A collector is a snapshot as Prometheus takes it.
type collector struct{ *Snapshot }

var (
	ofService     = []string{"service", "protocol"}
	ofBackend     = []string{"service", "pool", "backend"}
	ofCertificate = []string{"service", "certificate", "names"}

	build      = desc("build_info", "The version of the agent; always 1.", "version")
	reloaded   = desc("config_last_reload_successful", "Whether the newest configuration is in force.")
	reloadedAt = desc("config_last_reload_success_timestamp_seconds", "When the configuration in force was taken, in seconds since 1970.")
	attached   = desc("xdp_interface_attached", "Whether XDP runs on an interface, by its mode.", "interface", "mode")

	fragmentsHeld = desc("fragments_held", "Fragments that wait for the first one of their datagram.")
	fragmentsOut  = desc("fragments_total", "Fragments that came before the first one of their datagram, by what became of them.", "result")

	expiry = desc("certificate_expiry_timestamp_seconds", "When a certificate that clients are shown ends, in seconds since 1970; 0 while it is not there yet.", ofCertificate...)

	up              = desc("backend_up", "Whether checks call the backend up.", ofBackend...)
	serves          = desc("backend_serves", "Whether new connections or requests go to the backend.", ofBackend...)
	backendActive   = desc("backend_connections", "Connections, UDP flows or requests at the backend now.", ofBackend...)
	probes          = desc("backend_probes_total", "Probes of the backend, by their result.", append(ofBackend, "result")...)
	probeTimes      = desc("backend_probe_duration_seconds", "Time that a probe of the backend took.", ofBackend...)
	failures        = desc("backend_http_failures_total", "Requests that the backend failed to answer.", ofBackend...)
	backendRequests = desc("backend_http_requests_total", "Requests to the backend, repeated ones included.", ofBackend...)
	backendAnswers  = desc("backend_http_responses_total", "Answers of the backend, by their status; other is what HTTP does not have.", append(ofBackend, "code")...)
	backendTimes    = desc("backend_http_request_duration_seconds", "Time from a request to the backend until the header of its answer.", ofBackend...)
	backendLatency  = desc("backend_http_latency_seconds", "Time from a request to the backend until the header of its answer, over the past five minutes, by quantile.", ofBackend...)
	connectTimes    = desc("backend_connect_duration_seconds", "Time until the backend has accepted a connection of the TCP proxy.", ofBackend...)
	connectLatency  = desc("backend_connect_latency_seconds", "Time until the backend has accepted a connection of the TCP proxy, over the past five minutes, by quantile.", ofBackend...)
)

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("fairlead_"+name, help, labels, nil)
}

// Describe describes nothing: what there is depends on the configuration.
func (c collector) Describe(chan<- *prometheus.Desc) {}

// Collect implements [prometheus.Collector].
func (c collector) Collect(out chan<- prometheus.Metric) {
	gauge(out, build, 1, c.Version)
	gauge(out, reloaded, truth(!c.ReloadFailed))
	gauge(out, reloadedAt, unix(c.ReloadedAt))
	for _, i := range c.Interfaces {
		gauge(out, attached, truth(i.Mode != ""), i.Name, cmp.Or(i.Mode, "none"))
	}
	c.Fragments.collect(out)
	for i := range c.Services {
		c.Services[i].collect(out)
	}
	for i := range c.Certificates {
		x := &c.Certificates[i]
		gauge(out, expiry, unix(x.NotAfter), x.Service, x.File, x.Names)
	}
	for i := range c.Backends {
		c.Backends[i].collect(out)
	}
	if c.Datapath != nil {
		c.Datapath.collect(out)
	}
}

func (b *Backend) collect(out chan<- prometheus.Metric) {
	of := []string{b.Service, b.Pool, b.Address}
	gauge(out, up, truth(b.Up), of...)
	gauge(out, serves, truth(b.Serves), of...)
	gauge(out, backendActive, float64(b.Active), of...)
	if b.Probes != nil {
		count(out, probes, b.Probes.Successes, append(of[:len(of):len(of)], "success")...)
		count(out, probes, b.Probes.Failures, append(of[:len(of):len(of)], "failure")...)
		out <- newHistogram(probeTimes, &b.Probes.Latency, of...)
	}
	if b.HTTP {
		count(out, failures, b.Failures, of...)
		b.Requests.collect(out, backendRequests, backendAnswers, backendTimes, of)
		out <- newSummary(backendLatency, &b.Requests.Latency, of...)
	}
	if b.Connects != nil && len(b.Connects.Cells) > 0 { // XDP's backends have none
		out <- newHistogram(connectTimes, &b.Connects.Totals, of...)
		out <- newSummary(connectLatency, b.Connects, of...)
	}
}

func (f *Fragments) collect(out chan<- prometheus.Metric) {
	gauge(out, fragmentsHeld, float64(f.Held))
	count(out, fragmentsOut, f.GivenBack, "given_back")
	count(out, fragmentsOut, f.TimedOut, "timed_out")
	count(out, fragmentsOut, f.NoRoom, "no_room")
	count(out, fragmentsOut, f.Failed, "failed")
}

// collect gives out what is told of requests.
func (q *Requests) collect(out chan<- prometheus.Metric, begun, answers, times *prometheus.Desc, of []string) {
	count(out, begun, q.Begun, of...)
	for status, n := range q.Answers {
		name := "other"
		if status != 0 {
			name = strconv.Itoa(status)
		}
		count(out, answers, n, append(of[:len(of):len(of)], name)...)
	}
	out <- newHistogram(times, &q.Latency.Totals, of...)
}

func count(out chan<- prometheus.Metric, d *prometheus.Desc, n uint64, of ...string) {
	out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), of...)
}

func gauge(out chan<- prometheus.Metric, d *prometheus.Desc, n float64, of ...string) {
	out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, n, of...)
}

func truth(is bool) float64 {
	if is {
		return 1
	}
	return 0
}

func unix(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.Unix())
}

func seconds(d time.Duration) float64 { return float64(d) / float64(time.Second) }
