package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// A collector is a snapshot as Prometheus takes it.
type collector struct{ *Snapshot }

var (
	ofService     = []string{"service", "protocol"}
	ofBackend     = []string{"service", "pool", "backend"}
	ofCertificate = []string{"service", "certificate", "names"}
	classNames    = [4]string{"2xx", "3xx", "4xx", "5xx"}

	reloaded = desc("config_last_reload_successful", "Whether the newest configuration is in force.")

	accepted  = desc("connections_total", "Connections or UDP flows of clients.", ofService...)
	active    = desc("connections", "Connections or UDP flows of clients now.", ofService...)
	refused   = desc("refused_total", "Connections or UDP datagrams of clients refused by lists or limits.", ofService...)
	noBackend = desc("no_backend_total", "Connections or requests that no backend could be found for.", ofService...)
	retries   = desc("retries_total", "Attempts at a backend after the first of a connection or request.", ofService...)
	requests  = desc("http_requests_total", "Requests of clients.", ofService...)
	responses = desc("http_responses_total", "Answers to clients, by class of their status.", append(ofService, "code")...)
	durations = desc("http_request_duration_seconds", "Time from a request until the header of its answer.", ofService...)

	expiry = desc("certificate_expiry_timestamp_seconds", "When a certificate that clients are shown ends, in seconds since 1970; 0 while it is not there yet.", ofCertificate...)

	up              = desc("backend_up", "Whether checks call the backend up.", ofBackend...)
	serves          = desc("backend_serves", "Whether new connections or requests go to the backend.", ofBackend...)
	backendActive   = desc("backend_connections", "Connections, UDP flows or requests at the backend now.", ofBackend...)
	failures        = desc("backend_http_failures_total", "Requests that the backend failed to answer.", ofBackend...)
	backendRequests = desc("backend_http_requests_total", "Requests to the backend, repeated ones included.", ofBackend...)
	backendAnswers  = desc("backend_http_responses_total", "Answers of the backend, by class of their status.", append(ofBackend, "code")...)
	backendTimes    = desc("backend_http_request_duration_seconds", "Time from a request to the backend until the header of its answer.", ofBackend...)
	backendLatency  = desc("backend_http_latency_seconds", "The same over the past five minutes, by quantile.", ofBackend...)
	connectTimes    = desc("backend_connect_duration_seconds", "Time until the backend has accepted a connection of the TCP proxy.", ofBackend...)
	connectLatency  = desc("backend_connect_latency_seconds", "The same over the past five minutes, by quantile.", ofBackend...)
)

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("fairlead_"+name, help, labels, nil)
}

// Describe describes nothing: what there is depends on the configuration.
func (c collector) Describe(chan<- *prometheus.Desc) {}

// Collect implements [prometheus.Collector].
func (c collector) Collect(out chan<- prometheus.Metric) {
	gauge(out, reloaded, truth(!c.ReloadFailed))
	for i := range c.Services {
		s := &c.Services[i]
		of := []string{s.Name, s.Protocol}
		count(out, accepted, s.Accepted, of...)
		gauge(out, active, float64(s.Active), of...)
		count(out, refused, s.Refused, of...)
		count(out, noBackend, s.NoBackend, of...)
		count(out, retries, s.Retries, of...)
		if s.Protocol == "http" {
			s.Requests.collect(out, requests, responses, durations, of)
		}
	}
	for i := range c.Certificates {
		x := &c.Certificates[i]
		gauge(out, expiry, unix(x.NotAfter), x.Service, x.File, x.Names)
	}
	for i := range c.Backends {
		b := &c.Backends[i]
		of := []string{b.Service, b.Pool, b.Address}
		gauge(out, up, truth(b.Up), of...)
		gauge(out, serves, truth(b.Serves), of...)
		gauge(out, backendActive, float64(b.Active), of...)
		if b.HTTP {
			count(out, failures, b.Failures, of...)
			b.Requests.collect(out, backendRequests, backendAnswers, backendTimes, of)
			out <- newSummary(backendLatency, &b.Requests.Latency, of...)
		}
		if b.Connects != nil && (!b.HTTP || len(b.Connects.Cells) > 0) {
			out <- newHistogram(connectTimes, &b.Connects.Totals, of...)
			out <- newSummary(connectLatency, b.Connects, of...)
		}
	}
}

// collect gives out what is told of requests.
func (q *Requests) collect(out chan<- prometheus.Metric, begun, answers, times *prometheus.Desc, of []string) {
	count(out, begun, q.Begun, of...)
	for i, name := range classNames {
		count(out, answers, q.Answers[i], append(of[:len(of):len(of)], name)...)
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
