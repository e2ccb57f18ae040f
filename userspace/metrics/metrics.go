// Package metrics tells Prometheus what an agent counts.
//
// It counts nothing itself: each scrape asks for a [Snapshot], which the daemon
// fills. Names and labels are documented in docs/configuration.md and stable.
package metrics

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"fairlead/userspace/latency"
)

// A Snapshot is what an agent knows at one time. Numbers are sums since its start
// unless their comment says otherwise.
type Snapshot struct {
	ReloadFailed bool // the newest configuration was refused
	Services     []Service
	Certificates []Certificate // no two with the same labels
	Backends     []Backend
}

// A Certificate is one that clients of a service are shown.
type Certificate struct {
	Service, File string
	Names         string    // with blanks between
	NotAfter      time.Time // zero: it is not there yet
}

// A Service is one of the configuration. What does not belong to its protocol is
// 0 and left out.
type Service struct {
	Name, Protocol string // tcp, udp or http
	Accepted       uint64 // connections or flows
	Active         int64  // now
	Refused        uint64 // by the lists and limits of clients
	NoBackend      uint64 // connections or requests that none could be found for
	Retries        uint64
	Requests       Requests
}

// A Backend is one of a service, or of a pool with a name.
type Backend struct {
	Service, Pool, Address string // one of Service and Pool is empty
	Up, Serves             bool
	Active                 int64 // connections, flows or requests now
	Failures               uint64
	HTTP                   bool
	Requests               Requests
	// Connects are how long it took to accept connections of the TCP proxies; nil
	// for a backend of which they know nothing.
	Connects *Latency
}

// Requests count those of HTTP.
type Requests struct {
	Begun   uint64
	Answers [4]uint64 // by hundreds of their status, 2xx first
	Latency Latency   // of answers
}

// A Latency is how long something took, ever and lately.
type Latency struct {
	latency.Totals
	Recent latency.Summary
}

// How long a scrape may take until its header has come, and until the agent has
// an answer.
const (
	headerTimeout = 10 * time.Second
	answerTimeout = 5 * time.Second
)

// Serve answers what l accepts until ctx is done, and closes l. read is called for
// each scrape, from any goroutine; one that fails is answered with 503.
func Serve(ctx context.Context, l net.Listener, read func(context.Context) (*Snapshot, error), log *slog.Logger) error {
	s := &http.Server{
		Handler: handler(read), ReadHeaderTimeout: headerTimeout,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	stop := context.AfterFunc(ctx, func() { s.Close() })
	defer stop()
	err := s.Serve(l)
	if ctx.Err() != nil && errors.Is(err, http.ErrServerClosed) {
		return context.Cause(ctx)
	}
	return err
}

// handler answers GET /metrics.
func handler(read func(context.Context) (*Snapshot, error)) http.Handler {
	process := prometheus.NewRegistry()
	process.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), answerTimeout)
		defer cancel()
		s, err := read(ctx)
		if err != nil {
			http.Error(w, "agent does not answer: "+err.Error(), http.StatusServiceUnavailable)
			return
		}
		own := prometheus.NewRegistry()
		own.MustRegister(collector{s})
		promhttp.HandlerFor(prometheus.Gatherers{own, process}, promhttp.HandlerOpts{}).ServeHTTP(w, r)
	})
	return mux
}
