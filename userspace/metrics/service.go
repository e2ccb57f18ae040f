package metrics

import (
	"cmp"
	"net/http"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

var (
	accepted  = desc("connections_total", "Connections of clients, refused ones too, or UDP flows: a refused datagram makes none.", ofService...)
	active    = desc("connections", "Connections or UDP flows of clients now.", ofService...)
	refused   = desc("refused_total", "Connections or UDP datagrams of clients refused by lists or limits.", ofService...)
	noBackend = desc("no_backend_total", "Connections or requests that no backend could be found for, or none be reached.", ofService...)
	retries   = desc("retries_total", "Attempts at a backend after the first of a connection or request.", ofService...)
	requests  = desc("http_requests_total", "Requests of clients.", ofService...)
	responses = desc("http_responses_total", "Answers to clients, by their status; other is what HTTP does not have.", append(ofService, "code")...)
	durations = desc("http_request_duration_seconds", "Time from a request until the header of its answer.", ofService...)

	rung        = desc("service_rung", "What serves a service; always 1.", append(ofService, "rung")...)
	unannounced = desc("unannounced_total", "Connections without the PROXY header that they owe.", ofService...)
	proxyBytes  = desc("proxy_bytes_total", "Bytes that the TCP and UDP proxies have moved: forward to backends, reply to clients.", append(ofService, "direction")...)

	resets       = desc("proxy_resets_total", "Resets by one side that the TCP proxy has passed on.", ofService...)
	cut          = desc("proxy_cut_total", "Connections that the TCP proxy has reset: their backend is down or gone, or the agent ends.", ofService...)
	acceptErrors = desc("proxy_accept_errors_total", "Connections of clients that this host had no room for.", ofService...)
	dialErrors   = desc("proxy_dial_errors_total", "Connections to backends of the TCP proxy that failed, by reason; local is this host's fault.", append(ofService, "reason")...)

	datagrams = desc("proxy_datagrams_total", "Datagrams that the UDP proxy has moved.", append(ofService, "direction")...)
	dropped   = desc("proxy_dropped_datagrams_total", "Datagrams that the UDP proxy has not forwarded.", ofService...)
	evicted   = desc("proxy_evicted_flows_total", "Flows of the UDP proxy that made room for others.", ofService...)

	running     = desc("http_requests", "Requests of clients now.", ofService...)
	broken      = desc("http_broken_responses_total", "Answers that were broken off.", ofService...)
	tunnels     = desc("http_tunnels_total", "Connections that have changed their protocol.", ofService...)
	rateLimited = desc("http_rate_limited_total", "Requests of clients that made too many.", ofService...)
	malformed   = desc("http_malformed_total", "Connections that ended at what is no HTTP.", ofService...)
	mirrored    = desc("http_mirrored_total", "Copies of requests, by what became of them.", append(ofService, "result")...)

	cacheRequests = desc("http_cache_requests_total", "Requests of routes that store answers: fresh and stale were answered without a backend.", append(ofService, "result")...)
	cacheBytes    = desc("http_cache_bytes", "Size of what is stored of answers.", ofService...)
	cachePages    = desc("http_cache_pages", "URLs of which an answer is stored.", ofService...)
)

// usual are the statuses of services that are told before they have come. A series that
// begins with its first value has not risen by that.
var usual = []int{
	http.StatusOK, http.StatusNotFound, http.StatusInternalServerError,
	http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout,
}

func (s *Service) collect(out chan<- prometheus.Metric) {
	of := []string{s.Name, s.Protocol}
	with := func(label string) []string { return append(of[:len(of):len(of)], label) }
	gauge(out, rung, 1, with(cmp.Or(s.Rung, "none"))...)
	count(out, accepted, s.Accepted, of...)
	gauge(out, active, float64(s.Active), of...)
	count(out, refused, s.Refused, of...)
	count(out, noBackend, s.NoBackend, of...)
	count(out, retries, s.Retries, of...)
	if s.HTTP != nil {
		count(out, unannounced, s.Unannounced, of...)
		for _, status := range usual {
			if s.Requests.Answers[status] == 0 {
				count(out, responses, 0, with(strconv.Itoa(status))...)
			}
		}
		s.Requests.collect(out, requests, responses, durations, of)
		s.HTTP.collect(out, of, with)
		return
	}
	countBoth(out, proxyBytes, s.Bytes, of...)
	if u := s.UDP; u != nil {
		countBoth(out, datagrams, u.Datagrams, of...)
		count(out, dropped, u.Dropped, of...)
		count(out, evicted, u.Evicted, of...)
	}
	if t := s.TCP; t != nil {
		count(out, unannounced, s.Unannounced, of...)
		count(out, resets, t.Resets, of...)
		count(out, cut, t.Cut, of...)
		count(out, acceptErrors, t.AcceptErrors, of...)
		count(out, dialErrors, t.Refused, with("refused")...)
		count(out, dialErrors, t.Timeout, with("timeout")...)
		count(out, dialErrors, t.Unreachable, with("unreachable")...)
		count(out, dialErrors, t.Local, with("local")...)
	}
}

func (h *HTTP) collect(out chan<- prometheus.Metric, of []string, with func(label string) []string) {
	gauge(out, running, float64(h.Running), of...)
	count(out, broken, h.Broken, of...)
	count(out, tunnels, h.Tunnels, of...)
	count(out, rateLimited, h.RateLimited, of...)
	count(out, malformed, h.Malformed, of...)
	count(out, mirrored, h.Mirrored, with("sent")...)
	count(out, mirrored, h.Unmirrored, with("dropped")...)
	if c := h.Cache; c != nil {
		count(out, cacheRequests, c.Fresh, with("fresh")...)
		count(out, cacheRequests, c.Stale, with("stale")...)
		count(out, cacheRequests, c.Revalidated, with("revalidated")...)
		count(out, cacheRequests, c.Missed, with("miss")...)
		gauge(out, cacheBytes, float64(c.Bytes), of...)
		gauge(out, cachePages, float64(c.Pages), of...)
	}
}
