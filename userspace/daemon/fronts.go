package daemon

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"fairlead/userspace/access"
	"fairlead/userspace/accesslog"
	"fairlead/userspace/balance"
	"fairlead/userspace/certs"
	"fairlead/userspace/latency"
	"fairlead/userspace/model"
	"fairlead/userspace/splice"
	"fairlead/userspace/tracing"
	"fairlead/userspace/udpproxy"
)

// errServiceGone ends what a front runs when its service is removed.
var errServiceGone = errors.New("service was removed")

// A front is a service's user-space proxy: the hot standby behind XDP, or the
// whole of it where XDP cannot run.
type front struct {
	table atomic.Pointer[table]
	// One of them serves.
	tcp  *splice.Proxy
	udp  *udpproxy.Proxy
	http *frontHTTP
	// names are whom the TCP proxy of a TLS service asks; nil for all others.
	names *frontNames
	log   *slog.Logger

	ctx     context.Context // of what runs
	stop    context.CancelCauseFunc
	running sync.WaitGroup

	limits    limits
	sockets   *sockets
	flowsCame <-chan struct{} // closed: see agent
	// first and last enclose the ports of all that runs, perhaps on ports that
	// the service has left.
	first, last uint16

	mu      sync.Mutex
	serving map[uint16]*listener
	// lacking are the ports that the front does not listen on, in order, why
	// is about the first of them.
	lacking []uint16
	why     string
}

// A table is what a front picks from. It does not change.
type table struct {
	chooser *balance.Chooser
	guard   *access.Guard
	service *model.Service
	duties  balance.Duties
	// connects are how long backends take to accept connections, by their index.
	connects []*latency.Recorder
}

// A judgement is what is known of a service's backends, by their index.
type judgement struct {
	down   []bool
	shares []int // of their weights, in [balance.Whole]; nil: whole ones
}

// newTable returns a table that goes on where old, which may be nil, stands; its
// guard does unless the clients are others.
func newTable(s *model.Service, j judgement, old *table) *table {
	t := &table{service: s, duties: balance.DutiesOf(s, j.down, j.shares)}
	var before *balance.Chooser
	if old != nil {
		before = old.chooser
	}
	t.chooser = balance.NewChooser(s, t.duties, before)
	if old != nil && s.Clients.Equal(&old.service.Clients) {
		t.guard = old.guard
	} else {
		t.guard = access.New(s.Clients)
	}
	t.connects = connectsOf(s, old)
	return t
}

// connectsOf returns the recorders of the backends of s, those that old has for who
// stays.
func connectsOf(s *model.Service, old *table) []*latency.Recorder {
	all := make([]*latency.Recorder, len(s.Backends))
	for i := range s.Backends {
		at := -1
		if old != nil {
			at = backendAt(old.service, s.Backends[i].Address, i)
		}
		if at >= 0 {
			all[i] = old.connects[at]
		} else {
			all[i] = new(latency.Recorder)
		}
	}
	return all
}

// backendAt returns the index of a backend, which is probably guess, or -1.
func backendAt(s *model.Service, addr netip.AddrPort, guess int) int {
	if guess < len(s.Backends) && s.Backends[guess].Address == addr {
		return guess
	}
	return slices.IndexFunc(s.Backends, func(b model.Backend) bool { return b.Address == addr })
}

// connected notes that a backend has accepted a connection, after so long.
func (t *table) connected(addr netip.AddrPort, took time.Duration) {
	i := backendAt(t.service, addr, 0)
	if i < 0 { // it has the client's port, or is gone
		i = backendAt(t.service, netip.AddrPortFrom(addr.Addr(), 0), 0)
	}
	if i >= 0 {
		t.connects[i].Record(took, time.Now())
	}
}

// pick returns the backend for a connection from client to local, and what to
// call when it is over, which calls failed if the backend could not be reached.
func (t *table) pick(client, local netip.AddrPort, tried []netip.AddrPort, failed func(member, error)) (netip.AddrPort, func(error), bool) {
	i, done, ok := t.chooser.Choose(client, local, func(i uint32) bool {
		return slices.Contains(tried, dialed(t.service.Backends[i], local))
	})
	if !ok {
		return netip.AddrPort{}, nil, false
	}
	b := t.service.Backends[i]
	return dialed(b, local), func(err error) {
		if done(); err != nil {
			failed(memberOf(t.service, b.Address), err)
		}
	}, true
}

// dialed returns where a connection to local goes at a backend.
func dialed(b model.Backend, local netip.AddrPort) netip.AddrPort {
	if b.Address.Port() == 0 {
		return netip.AddrPortFrom(b.Address.Addr(), local.Port())
	}
	return b.Address
}

// openFront makes a front for s, listening on every port of it. A front that
// cannot listen is not an error: see missing.
func openFront(ctx context.Context, s *model.Service, j judgement, o frontOptions) *front {
	f := &front{log: o.log, limits: o.limits, sockets: o.sockets, flowsCame: o.flowsCame, serving: map[uint16]*listener{}, first: s.Listen.Port(), last: s.LastPort}
	f.table.Store(newTable(s, j, nil))
	pick := func(client, local netip.AddrPort, tried []netip.AddrPort) (netip.AddrPort, func(error), bool) {
		return f.table.Load().pick(client, local, tried, o.onFailure)
	}
	admit := func(client netip.Addr) model.Admission { return f.table.Load().guard.Admit(client, time.Now()) }
	first := func(client, server netip.AddrPort) []byte { return f.table.Load().first(client, server) }
	f.ctx, f.stop = context.WithCancelCause(ctx)
	name := func() string { return f.table.Load().service.Name }
	var told func() func(*accesslog.Record)
	if o.access != nil {
		told = o.access(name)
	}
	switch {
	case s.Protocol == model.UDP:
		f.udp = &udpproxy.Proxy{Pick: pick, Admit: admit, Idle: o.udpIdle, Room: o.limits.flows, OnFlow: o.onFlow, Log: o.log}
	case s.Forward == model.ForwardHTTP:
		f.http = newFrontHTTP(s, &o, admit)
		f.http.proxy.Origin, f.http.proxy.Access = f.origin, told
		if o.trace != nil {
			f.http.proxy.Trace = o.trace(name)
		}
	case s.Forward == model.ForwardTLS:
		f.names = newFrontNames(s, &o)
		f.tcp = &splice.Proxy{Route: f.names.route, Admit: admit, Origin: f.origin, Access: told, Grace: o.grace, Log: o.log}
	default:
		connected := func(addr netip.AddrPort, took time.Duration) { f.table.Load().connected(addr, took) }
		f.tcp = &splice.Proxy{Pick: pick, Admit: admit, Origin: f.origin, First: first, Connected: connected, Access: told, Grace: o.grace, Log: o.log}
	}
	f.move(s)
	f.listen(ctx)
	return f
}

// frontOptions are what all fronts share.
type frontOptions struct {
	grace   time.Duration // that TCP connections get at the end
	udpIdle time.Duration
	limits  limits
	sockets *sockets
	// flowsCame is closed when flows of UDP may be served.
	flowsCame <-chan struct{}
	onFlow    func(client, local netip.AddrPort, open bool)
	// onFailure is told of backends that could not be reached, from any goroutine.
	onFailure func(member, error)
	pool      func(name string) *pool
	sets      func(model.Key) *certs.Set
	challenge func(http.ResponseWriter, *http.Request) bool
	// access returns who is told of what a service has served; nil is nobody.
	access func(service func() string) func() func(*accesslog.Record)
	// trace returns what begins the spans of a service; nil is without.
	trace func(service func() string) func(r *http.Request, trusted bool) *tracing.Span
	log   *slog.Logger
}

// update gives the front another table, and ends what goes to backends that it
// may not go to any more.
func (f *front) update(s *model.Service, j judgement) {
	old := f.table.Load()
	t := newTable(s, j, old)
	f.table.Store(t)
	if f.http != nil {
		f.http.use(s) // its backends are the pools' concern
		return
	}
	if f.names != nil {
		f.names.use(s) // the same
		return
	}
	if now := t.duties[0].Serving; now != old.duties[0].Serving {
		logServing(f.log, now, "service", s.Name)
	}
	for i, b := range old.service.Backends {
		at := slices.IndexFunc(s.Backends, func(n model.Backend) bool { return n.Address == b.Address })
		removed := at < 0
		died := !removed && t.duties.Down(at) && !old.duties.Down(i) && (s.OnDown == model.DownReset || s.Protocol == model.UDP)
		if removed || died {
			f.closeBackend(b)
		}
	}
}

// listens reports whether a proxy listens wherever the service does, and will.
func (a *agent) listens(s *model.Service) bool {
	f := a.fronts[s.Key()]
	return !a.leaving && f != nil && f.missing() == ""
}

func (f *front) closeBackend(b model.Backend) {
	first, last := f.first, f.last
	if b.Address.Port() != 0 {
		last = first // the same for every port
	}
	for port := int(first); port <= int(last); port++ {
		addr := dialed(b, netip.AddrPortFrom(b.Address.Addr(), uint16(port)))
		if f.udp != nil {
			f.udp.CloseBackend(addr)
		} else {
			f.tcp.CloseBackend(addr)
		}
	}
}

// remove ends the front of a service that is no more, its connections too, and
// waits for it.
func (f *front) remove() {
	s := f.table.Load().service
	none := *s
	none.Backends = nil
	f.table.Store(newTable(&none, judgement{}, f.table.Load())) // what is only being connected finds nobody
	f.mu.Lock()
	for _, l := range f.serving {
		f.sockets.park(l.name)
	}
	f.mu.Unlock()
	f.stop(errServiceGone)
	switch {
	case f.http != nil:
		f.http.proxy.Cut()
	case f.names != nil:
		f.names.end()
		f.tcp.Cut()
	}
	for _, b := range s.Backends {
		f.closeBackend(b)
	}
	f.running.Wait()
}
