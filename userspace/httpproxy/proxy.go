// Package httpproxy is the HTTP proxy: it forwards each request of a client to a
// backend of the pool that the request's route names.
//
// A [Table] says where requests go and never changes; a [Pool] is what is known
// of some backends, and outlives tables. The package neither probes nor weighs
// backends: a [Chooser], which the daemon hands in, chooses. docs/http.md has the
// rules: the order of handlers, what is kept byte for byte, what is sent again.
package httpproxy

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"fairlead/userspace/accesslog"
	"fairlead/userspace/model"
	"fairlead/userspace/tracing"
)

// maxFrame is of HTTP/2: more than the least is refused as h2spec wants it.
const maxFrame = 16 << 10

// challengePath begins what an authority asks for over HTTP (RFC 8555, section 8.3).
const challengePath = "/.well-known/acme-challenge/"

// A Proxy forwards the requests of one service. Its fields must not change once
// Serve runs. Any number of Serve calls may share it.
type Proxy struct {
	// Admit judges a client that has connected, from many goroutines at once.
	// One that is not admitted gets a reset. nil admits all.
	Admit func(client netip.Addr) model.Admission
	// Origin, which may be nil, returns what reads from a connection of a peer
	// whom it is of and where that went to; nil if the peer speaks for itself,
	// as it also does where the addresses are not valid. Admit then judges the
	// client. An error ends the connection.
	Origin func(peer netip.Addr) (read func(c net.Conn) (client, server netip.AddrPort, err error))
	// Grace is how long requests may go on after the end of Serve was asked
	// for. 0 breaks them off at once.
	Grace time.Duration
	// TLS is how clients are spoken to; nil is without. It says nothing of
	// protocols: clients get HTTP/2 or HTTP/1.1 as they ask.
	TLS *tls.Config
	// Challenge answers what an authority asks to see whose a name is, or returns
	// false if a request is not that. nil answers nothing.
	Challenge func(w http.ResponseWriter, r *http.Request) bool
	// Access, which may be nil, returns who is told of a request that begins when
	// it is over; nil is nobody. Both are called from many goroutines at once.
	Access func() func(*accesslog.Record)
	// Trace, which may be nil, begins the span of a request, whose peer is trusted
	// or not; nil is none.
	Trace func(r *http.Request, trusted bool) *tracing.Span
	// Log may be nil.
	Log *slog.Logger

	table atomic.Pointer[Table]
	counters
	meters meters
	crowd  crowd
	roll   roll
	mu     sync.Mutex
	cuts   map[*context.CancelFunc]struct{} // of Serve calls that run
}

// Use makes t decide where requests go from now on. Those that run go on by the
// table that they came with. A Proxy without a table answers 503.
func (p *Proxy) Use(t *Table) { p.table.Store(t) }

// Yield has clients leave for another process, which listens where this one does:
// each answer is the last of its connection. When Serve ends, connections without a
// request stay open for d, or until Grace is over: to close them at once may hit a
// request that is on its way.
func (p *Proxy) Yield(d time.Duration) { p.yields.Store(int64(d)) }

// Serve serves what l accepts until ctx is done and then closes l. Requests, also of
// the last client accepted, go on until they end or Grace is over, when they are
// broken off. Serve waits for its goroutines and returns [context.Cause] of ctx, or
// why l broke.
func (p *Proxy) Serve(ctx context.Context, l *net.TCPListener) error {
	run, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	defer p.cutLater(&cut)()
	var open headcount
	beside := &beside{ctx: run}
	entry, refuse := context.WithCancel(run)
	defer refuse()
	in := &intake{proxy: p, run: context.WithValue(run, besideKey{}, beside), entry: entry, refuse: refuse, open: &open, servers: map[terms]*server{}}
	if p.TLS != nil {
		in.tls = p.TLS.Clone()
		in.tls.NextProtos = []string{"h2", "http/1.1"}
	}
	err := in.accept(ctx, l)
	grace, cancel := context.WithTimeout(run, p.Grace)
	defer cancel()
	in.linger(grace)
	if in.shutdown(grace); grace.Err() == nil {
		open.wait(grace) // connections that speak another protocol by now
	}
	cut()
	in.close()
	beside.running.Wait()
	return err
}

// Cut breaks off all requests at once. Those that come later are not concerned.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for cut := range p.cuts {
		(*cut)()
	}
}

// cutLater lets Cut find what ends the requests of a Serve call, until the
// function that it returns is called.
func (p *Proxy) cutLater(cut *context.CancelFunc) func() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cuts == nil {
		p.cuts = map[*context.CancelFunc]struct{}{}
	}
	p.cuts[cut] = struct{}{}
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.cuts, cut)
	}
}

// prepare makes s a server whose requests end when run does. It counts in open, never
// from zero once Serve has returned: a request begins while its connection counts.
func (p *Proxy) prepare(s *http.Server, run context.Context, open *headcount, t terms) {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(p.TLS != nil)
	protocols.SetUnencryptedHTTP2(p.TLS == nil)
	// A client of HTTP/2 that takes nothing would hold its streams for ever: their
	// time-outs must be written to it.
	s.Protocols, s.HTTP2 = &protocols, &http.HTTP2Config{MaxReadFrameSize: maxFrame, WriteByteTimeout: t.keepAlive}
	s.ReadHeaderTimeout, s.IdleTimeout, s.MaxHeaderBytes = t.headerTimeout, t.keepAlive, t.maxHeader
	s.ErrorLog = slog.NewLogLogger(p.log().Handler(), slog.LevelDebug)
	s.BaseContext, s.ConnContext = func(net.Listener) context.Context { return run }, withConn
	s.DisableGeneralOptionsHandler = true // serve answers those, and counts
	s.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		open.add()
		defer open.done()
		defer func() {
			if run.Err() != nil {
				p.cut.Add(1)
			}
		}()
		if run.Err() != nil {
			panic(http.ErrAbortHandler) // nobody waits for what begins now
		}
		conn := r.Context().Value(connKey{}).(net.Conn)
		clientOf(conn).heard()
		if c, ok := conn.(handled); ok {
			c.handle(r.ProtoMajor)
		}
		n := p.note(run, r)
		u := receive(w, r)
		p.serve(w, r, u, n)
		u.finish(t.headerTimeout)
	})
	s.ConnState = func(c net.Conn, state http.ConnState) {
		switch state {
		case http.StateIdle:
			if c, ok := c.(handled); ok {
				c.answered()
			}
		case http.StateNew:
			open.add()
			p.active.Add(1)
		case http.StateClosed, http.StateHijacked:
			open.done()
			p.active.Add(-1)
		}
	}
}

// serve forwards one request, whose body is u.
func (p *Proxy) serve(w http.ResponseWriter, r *http.Request, u *upload, n *note) {
	p.requests.Add(1)
	p.running.Add(1)
	defer p.running.Add(-1)
	defer r.Context().Value(takenBackKey{}).(*takenBack).ends(w, r)
	t := p.table.Load()
	counted := &counted{ResponseWriter: w, counters: &p.counters, began: time.Now(), old: !r.ProtoAtLeast(1, 1), upload: u, note: n}
	counted.last = r.ProtoMajor == 1 && slices.ContainsFunc(r.Header["Upgrade"], changes) // nobody guards what follows, if it does not change
	defer counted.end()
	if p.Challenge != nil && strings.HasPrefix(r.URL.Path, challengePath) && p.Challenge(counted, r) {
		return
	}
	if r.Method == http.MethodOptions && r.RequestURI == "*" { // of the server, and of no route
		counted.Header().Set("Content-Length", "0")
		counted.WriteHeader(http.StatusOK)
		return
	}
	if t == nil {
		refuse(counted, http.StatusServiceUnavailable)
		return
	}
	t.serve(counted, r, p)
}

func (p *Proxy) log() *slog.Logger {
	if p.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return p.Log
}

// Errors that end a request before it is answered.
var (
	errNoBackend   = errors.New("no backend is up")
	errBusy        = errors.New("every backend has as many requests as it may")
	errConnectLate = errors.New("backend does not accept in time")
	errAnswerLate  = errors.New("backend does not answer in time")
	errRequestLate = errors.New("request takes too long")
	errIdle        = errors.New("nothing moves for too long")
	errUntaken     = errors.New("backend does not take the request") // and has done nothing with it
	errMalformed   = errors.New("backend says that the request is wrong")
	errTunnelled   = errors.New("connection has changed its protocol") // no error
	errKilled      = errors.New("broken off on demand")
	errOvertaken   = errors.New("another attempt has begun")
	errPath        = errors.New("path cannot be sent as it is")
	errBodyLarge   = errors.New("body is larger than it may be")
	errBodyLate    = errors.New("body does not come in time")
)
