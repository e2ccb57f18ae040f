package model

import (
	"net/netip"
	"strings"
	"time"
)

// HTTP says what a service of [ForwardHTTP] does with requests. Such a service
// has no Backends itself: its routes name pools.
type HTTP struct {
	// Routes are tried in this order where several have the same Match; of
	// different ones the most specific decides alone.
	Routes []Route
	// Trusted are the networks of peers whose forwarding headers are kept.
	Trusted []netip.Prefix
	// Cache is the zero value if no route asks for it.
	Cache  Cache
	Bounds Bounds
	// TLS is nil where clients come without.
	TLS *TLS
	// ErrorPages, HSTS and ResponseHeaders are for requests that no route takes, as
	// those of a [Route] are for its own.
	ErrorPages      []ErrorPage
	HSTS            string
	ResponseHeaders HeaderRules
}

// A Route says where some requests go. All its conditions must hold.
type Route struct {
	// Match is a pattern of [net/http.ServeMux].
	Match string
	// Clients are the networks that a client must be in one of; none: any.
	Clients []netip.Prefix
	// Headers, Query and Cookies must be there with these values, of which
	// [AnyValue] is each.
	Headers, Query, Cookies []Header
	// Pools share the requests by their weights.
	Pools    []Share
	Timeouts HTTPTimeouts
	// Cache says that answers are stored, as [HTTP.Cache] bounds it.
	Cache   bool
	Access  Access
	Rate    Rate  // of requests that take the route
	MaxBody int64 // bytes of a request's body; 0 is any number
	// RedirectHTTPS is the port to which clients that come without TLS are sent.
	// 0 is not at all.
	RedirectHTTPS uint16
	// HSTS is the value of Strict-Transport-Security in answers over TLS. "" is
	// what the backend says.
	HSTS string
	Rules
}

// AnyValue is the value of a condition that asks only whether something is there.
const AnyValue = "*"

// Conditional reports whether not every request that fits Match takes the route.
func (r *Route) Conditional() bool {
	return len(r.Clients)+len(r.Headers)+len(r.Query)+len(r.Cookies) > 0
}

// PoolNames returns the pools that the requests of the route go to, and copies of
// them.
func (r *Route) PoolNames() []string {
	var all []string
	for _, s := range r.Pools {
		all = append(all, s.Pool)
	}
	if r.Mirror != nil {
		all = append(all, r.Mirror.Pool)
	}
	return all
}

// A Share is a pool's part of the requests of a route.
type Share struct {
	Pool   string
	Weight int // 0 to 1000
}

// HTTPTimeouts bound the parts of a request. 0 is no bound.
type HTTPTimeouts struct {
	Connect   time.Duration // until a backend accepts, its TLS handshake included
	FirstByte time.Duration // from the end of a request to its answer's header
	Request   time.Duration // of all of it, attempts and bodies included
	Idle      time.Duration // without a byte of body in either direction
	Body      time.Duration // from the header of a request to the end of its body
}

// A Pool is a set of backends that answer requests. Its Service has no Listen, and
// what is about packets there is of no effect.
type Pool struct {
	Service
	// HTTP2 says that requests are sent over HTTP/2, without TLS too.
	HTTP2 bool
	// KeepAlive is how long a connection without a request may be used again; 0 is
	// the proxy's default.
	KeepAlive time.Duration
	// TLS is how backends with [Origin.TLS] are spoken to.
	TLS BackendTLS
	// MaxRequests bounds the requests that each backend has at once. 0 is any
	// number.
	MaxRequests int
	Queue       Queue
	Retry       Retry
	Eject       Eject
	Sticky      Sticky
	Load        LoadFeedback
}

// LoadFeedback says how backends tell how much they have to do.
type LoadFeedback struct {
	// Header of their answers tells it: [ORCAHeader] as ORCA has it, any other
	// as a number. "" is not at all.
	Header string
	// Expiry is how long a report counts.
	Expiry time.Duration
}

// ORCAHeader is that of Open Request Cost Aggregation.
const ORCAHeader = "endpoint-load-metrics"

// ownPool begins the names of pools that the configuration does not name.
const ownPool = "service/"

// OwnPool returns the name of the pool of a service that lists its backends
// itself.
func (s *Service) OwnPool() string { return ownPool + s.Name }

// GivenName returns the name that the configuration gives the pool, "" if it is a
// service's own.
func (p *Pool) GivenName() string {
	if strings.HasPrefix(p.Name, ownPool) {
		return ""
	}
	return p.Name
}

// ShownName returns the name that the configuration has: of the service, or pool,
// or of the service whose own pool it is.
func (s *Service) ShownName() string { return strings.TrimPrefix(s.Name, ownPool) }

// OwnerName returns the name of the service whose own the pool is, "" if it is
// none's.
func (p *Pool) OwnerName() string {
	owner, _ := strings.CutPrefix(p.Name, ownPool)
	if owner == p.Name {
		return ""
	}
	return owner
}

// A Queue holds requests while every backend that could take one has as many as
// it may.
type Queue struct {
	Size    int // requests; 0 is no queue
	Timeout time.Duration
}

// Retry says when a request is sent again, to another backend.
type Retry struct {
	Attempts int   // after the first; 0 is never
	Statuses []int // that are answers of a backend that cannot serve
	// Budget bounds the attempts after the first, in percent of requests; ten a
	// second may always be.
	Budget int
}

// Eject says when a backend is left out because of how it answers requests.
type Eject struct {
	// Failures in a row are what a backend is ejected for. 0 is never.
	Failures int
	// Time is how long, at first; each further time twice as long, up to Most.
	Time, Most time.Duration
	// Share bounds, in percent, the backends of a pool that are out at once.
	Share int
}

// An Origin says how requests are sent to a backend of a pool. The zero value is
// plain HTTP, of the paths that clients ask for.
type Origin struct {
	TLS bool
	// Prefix is put before every path. It is empty or begins with / and does
	// not end with one.
	Prefix string
}

// Groups returns what has backends: the services, by their index, and the pools
// after them.
func (s *State) Groups() []*Service {
	all := make([]*Service, 0, len(s.Services)+len(s.Pools))
	for i := range s.Services {
		all = append(all, &s.Services[i])
	}
	for i := range s.Pools {
		all = append(all, &s.Pools[i].Service)
	}
	return all
}
