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
	Version      string
	ReloadFailed bool      // the newest configuration was refused
	ReloadedAt   time.Time // when the one in force was taken
	Services     []Service
	Certificates []Certificate // no two with the same labels
	Backends     []Backend
	Interfaces   []Interface
	Fragments    Fragments
	Datapath     *Datapath // nil while XDP does not run
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
	Unannounced    uint64 // connections without the PROXY header that they owe
	Rung           string // what serves it
	// Bytes are those of clients, and those of backends, that the TCP and UDP
	// proxies moved.
	Bytes    [2]uint64
	Requests Requests
	TCP      *TCP
	UDP      *UDP
	HTTP     *HTTP
}

// TCP is what the TCP proxy counts beside that.
type TCP struct {
	Resets, Cut, AcceptErrors            uint64
	Refused, Timeout, Unreachable, Local uint64 // dials that failed
}

// UDP is what the UDP proxy counts beside that.
type UDP struct {
	Datagrams        [2]uint64 // of clients, and of backends
	Evicted, Dropped uint64
}

// HTTP is what the HTTP proxy counts beside that.
type HTTP struct {
	Running                                                       int64 // requests now
	Broken, Tunnels, RateLimited, Malformed, Mirrored, Unmirrored uint64
	Cache                                                         *Cache // nil without
}

// A Cache is what one has answered, and what it stores now.
type Cache struct {
	Fresh, Stale, Revalidated, Missed uint64 // requests
	Bytes, Pages                      uint64 // now
}

// An Interface is one that XDP should run on; Mode is empty if it does not.
type Interface struct{ Name, Mode string }

// Fragments are those that came before the first one of their datagram.
type Fragments struct {
	Held                                int64 // now
	GivenBack, TimedOut, NoRoom, Failed uint64
}

// A Backend is one of a service, or of a pool with a name.
type Backend struct {
	Service, Pool, Address string // one of Service and Pool is empty
	Up, Serves             bool
	Active                 int64 // connections, flows or requests now
	Failures               uint64
	HTTP                   bool
	Requests               Requests
	// Probes are those of its checks; nil if there are none.
	Probes *Probes
	// Connects are how long it took to accept connections of the TCP proxies; nil
	// for a backend of which they know nothing.
	Connects *Latency
}

// Probes count those of checks.
type Probes struct {
	Successes, Failures uint64
	Latency             latency.Totals
}

// Requests count those of HTTP.
type Requests struct {
	Begun   uint64
	Answers map[int]uint64 // by status; 0 for any but 100 to 599
	Latency Latency        // of answers
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
