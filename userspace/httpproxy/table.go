package httpproxy

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync/atomic"

	"fairlead/userspace/model"
)

// A Table says where the requests of a service go. It does not change.
type Table struct {
	mux     *http.ServeMux // asked for patterns only
	routes  map[string][]*route
	trusted []netip.Prefix
	cache   Cache // may be nil
	purgers []netip.Prefix
	bounds  model.Bounds
	pages   pages
	// hsts and headers are of answers to requests that no route takes.
	hsts    string
	headers model.HeaderRules
}

// A route is a model.Route and what serves its requests.
type route struct {
	*model.Route
	handler http.Handler
}

// NewTable returns the table of a service whose routes name what pool returns,
// never nil; cache may be nil. An error means that two patterns conflict or that
// one is none.
func NewTable(h *model.HTTP, pool func(name string) *Pool, cache Cache) (t *Table, err error) {
	t = &Table{
		mux: http.NewServeMux(), routes: map[string][]*route{}, trusted: h.Trusted,
		cache: cache, purgers: h.Cache.Purge, bounds: h.Bounds, pages: h.ErrorPages,
		hsts: h.HSTS, headers: h.ResponseHeaders,
	}
	defer func() {
		if cause := recover(); cause != nil {
			t, err = nil, fmt.Errorf("make routes: %v", cause)
		}
	}()
	for i := range h.Routes {
		r := &h.Routes[i]
		if t.routes[r.Match] == nil {
			t.mux.Handle(r.Match, http.NotFoundHandler())
		}
		t.routes[r.Match] = append(t.routes[r.Match], &route{r, chain(r, pool, cache)})
	}
	return t, nil
}

// A link is one step of what happens to the requests of a route. It returns next
// itself where the route does not ask for the step.
type link func(r *model.Route, next http.Handler) http.Handler

// links are all of them, in the order in which requests come by.
var links = []link{
	limitTime,
	setHSTS,
	redirectHTTPS,
	identify,
	compress,
	changeAnswer,
	permit,
	limitRate,
	limitBody,
	showPages,
	redirect,
	basicAuth,
	forwardAuth,
	changeRequest,
	rewritePath,
	replaceText,
}

// chain returns what serves the requests of a route: the links, the cache, the
// mirror and the pools at their end.
func chain(r *model.Route, pool func(string) *Pool, cache Cache) http.Handler {
	h := forward(r, pool)
	if r.Mirror != nil {
		h = mirror(r.Mirror, pool(r.Mirror.Pool), h)
	}
	if cache != nil {
		h = cache.Link(r, h)
	}
	for i := range links {
		h = links[len(links)-1-i](r, h)
	}
	return h
}

// forward returns the end of every chain: it chooses a pool and hands over to it.
func forward(r *model.Route, pool func(string) *Pool) http.Handler {
	pools, total := make([]*Pool, len(r.Pools)), 0
	for i, s := range r.Pools {
		pools[i] = pool(s.Pool)
		total += s.Weight
	}
	if len(pools) == 0 {
		return http.NotFoundHandler()
	}
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		x := exchangeOf(req.Context())
		x.timeouts, x.ctx = &r.Timeouts, req.Context()
		at := rand.IntN(max(1, total))
		for i, s := range r.Pools {
			x.pool = pools[i]
			if at -= s.Weight; at < 0 {
				break
			}
		}
		if len(pools) > 1 {
			if at := slices.IndexFunc(pools, func(p *Pool) bool { return p.holds(x) }); at >= 0 {
				x.pool = pools[at]
			}
		}
		relay.ServeHTTP(w, req)
	})
}

// serve forwards a request by its route.
func (t *Table) serve(w *counted, r *http.Request, p *Proxy) {
	w.pages = t.pages
	own := changed(strictly(w, r, t.hsts), &t.headers)
	switch {
	case r.Method == "PRI": // not the whole preface of HTTP/2
		refuse(own, http.StatusBadRequest)
		return
	case r.Method == http.MethodConnect:
		if r.ProtoMajor == 1 {
			w.Header().Set("Connection", "close") // what follows may be meant for somebody else
		}
		w.Header().Set("Allow", "GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH")
		refuse(own, http.StatusMethodNotAllowed)
		return
	case !isProper(r):
		refuse(own, http.StatusBadRequest)
		return
	}
	x := newExchange(w, r, t, p)
	if t.bounds.MaxURI > 0 && len(r.RequestURI) > t.bounds.MaxURI {
		refuse(own, http.StatusRequestURITooLong)
		return
	}
	if !x.grants(own, "", t.bounds.Rate) {
		return
	}
	if r.Method == methodPurge && t.cache != nil && len(t.purgers) > 0 {
		t.purge(own, x)
		return
	}
	fallback, pattern := t.mux.Handler(shadow(r, x.path))
	routes, ok := t.routes[pattern]
	if !ok {
		refuse(own, statusOf(fallback, r, w.Header())) // no such page, or method
		return
	}
	for _, route := range routes {
		if route.takes(x) {
			w.pages, w.idle = route.ErrorPages, route.Timeouts.Idle
			route.handler.ServeHTTP(w, x.in)
			return
		}
	}
	refuse(own, http.StatusNotFound)
}

// trusts reports whether a peer's forwarding headers are kept.
func (t *Table) trusts(peer netip.Addr) bool { return within(peer, t.trusted) }

func within(a netip.Addr, networks []netip.Prefix) bool {
	for _, n := range networks {
		if n.Contains(a) {
			return true
		}
	}
	return false
}

// An exchange is one request and what is known of it.
type exchange struct {
	proxy    *Proxy
	w        *counted
	in       *http.Request   // of the client
	ctx      context.Context // of all attempts
	path     string          // as the client wrote it
	peer     netip.AddrPort
	local    netip.AddrPort
	trusted  bool       // the peer is
	missed   bool       // the last attempt could not connect
	client   netip.Addr // the peer, or who a trusted peer says that it forwards for
	timeouts *model.HTTPTimeouts
	conn     *client // whose it is; may be nil
	pool     *Pool
	stay     stay
	body     *body // nil if there is none
	attempt  *attempt
	answered atomic.Bool // its header is on its way to the client
	// prepare and revise are what links have asked for: to change the request
	// that is sent to backends, and the answer that is taken from one.
	prepare []func(out *http.Request)
	revise  []func(res *http.Response)
}

type exchangeKey struct{}

func newExchange(w *counted, r *http.Request, t *Table, p *Proxy) *exchange {
	x := &exchange{proxy: p, w: w, path: pathOf(r), peer: addrPort(r.RemoteAddr)}
	if a, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok {
		x.local = addrPortOf(a)
	}
	if c, ok := r.Context().Value(connKey{}).(net.Conn); ok {
		x.conn = clientOf(c)
	}
	x.trusted = t.trusts(x.peer.Addr())
	x.client = x.peer.Addr()
	if x.trusted {
		x.client = origin(r.Header, x.peer.Addr(), t.trusts)
	}
	x.in = r.WithContext(context.WithValue(r.Context(), exchangeKey{}, x))
	if w.upload != nil {
		x.in.Body = w.upload
	}
	if w.note != nil {
		w.note.x = x
	}
	return x
}

func exchangeOf(ctx context.Context) *exchange { return ctx.Value(exchangeKey{}).(*exchange) }
