package httpproxy

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"fairlead/userspace/model"
)

// An intake accepts clients and hands each, once it may speak HTTP, to a server of
// net/http that keeps the bounds of the service as they are then.
type intake struct {
	proxy   *Proxy
	run     context.Context // of the requests
	entry   context.Context // of clients that no server has yet
	refuse  context.CancelFunc
	tls     *tls.Config    // nil is without; one for all, as it has the keys of tickets
	open    *headcount     // connections and requests
	opening sync.WaitGroup // connections that no server has yet
	fresh   atomic.Int64   // connections without a request so far
	serving sync.WaitGroup // servers

	mu      sync.Mutex
	servers map[terms]*server
}

// terms are what a server cannot change while it runs.
type terms struct {
	maxHeader                int
	headerTimeout, keepAlive time.Duration
}

// A server is one of net/http, and the listener that it gets its clients from.
type server struct {
	http http.Server
	feed feed
}

// A feed is a listener whose connections were accepted elsewhere.
type feed struct {
	ready  chan net.Conn
	closed chan struct{}
	addr   net.Addr
}

// How long accept waits while the host has nothing left to accept with.
const (
	backoffMin = 5 * time.Millisecond
	backoffMax = time.Second
)

// accept accepts from l until ctx is done. It returns [context.Cause] of ctx, or
// why l broke.
func (in *intake) accept(ctx context.Context, l *net.TCPListener) error {
	defer l.Close()
	defer context.AfterFunc(ctx, func() { l.Close() })()
	backoff := backoffMin
	for {
		c, err := l.AcceptTCP()
		switch {
		case err == nil:
			backoff = backoffMin
			in.fresh.Add(1)
			in.opening.Go(func() { in.welcome(c) })
			continue
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, net.ErrClosed), errors.Is(err, syscall.EINVAL):
			return fmt.Errorf("accept on %s: %w", l.Addr(), err)
		}
		in.proxy.log().Debug("accepting stalled", "listen", l.Addr(), "err", err)
		select {
		case <-ctx.Done():
		case <-time.After(backoff):
		}
		backoff = min(2*backoff, backoffMax)
	}
}

// welcome finds out who a client is and hands it to a server, or resets it.
func (in *intake) welcome(tcp *net.TCPConn) {
	c := &client{TCPConn: tcp, leave: func() {}, heard: sync.OnceFunc(func() { in.fresh.Add(-1) })}
	c.forget = func() { in.proxy.roll.leave(c) }
	in.proxy.accepted.Add(1)
	if err := c.learn(in.entry, in.proxy); err != nil {
		in.proxy.log().Debug("client refused", "peer", c.RemoteAddr(), "err", err)
		in.proxy.unannounced.Add(1)
		c.reset()
		return
	}
	if !in.proxy.admits(c) {
		c.reset()
		return
	}
	in.proxy.roll.enter(c)
	var spoken net.Conn = &guarded{Conn: c, proxy: in.proxy}
	if in.tls != nil {
		var err error
		if spoken, err = in.shake(in.entry, c); err != nil {
			in.proxy.log().Debug("handshake failed", "client", c.RemoteAddr(), "err", err)
			c.Close()
			return
		}
	}
	select {
	case in.server(in.proxy.bounds(), c.LocalAddr()).feed.ready <- spoken:
	case <-in.entry.Done():
		c.Close()
	}
}

// admits reports whether a client may stay.
func (p *Proxy) admits(c *client) bool {
	peer := addrPort(c.RemoteAddr().String()).Addr()
	if p.Admit != nil {
		switch p.Admit(peer) {
		case model.Denied:
			p.denied.Add(1)
			return false
		case model.Limited:
			p.sourceLimit.Add(1)
			return false
		}
	}
	t := p.table.Load()
	if t == nil || t.trusts(peer) { // who forwards for others has many
		return true
	}
	leave, ok := p.crowd.enter(peer, t.bounds.MaxConnections)
	if !ok {
		p.sourceLimit.Add(1)
		return false
	}
	c.leave = leave
	return true
}

// bounds returns those of the table in force.
func (p *Proxy) bounds() terms {
	var b model.Bounds
	if t := p.table.Load(); t != nil {
		b = t.bounds
	}
	return terms{cmp.Or(b.MaxHeader, model.DefaultMaxHeader), cmp.Or(b.HeaderTimeout, model.DefaultHeaderTimeout), cmp.Or(b.KeepAlive, model.DefaultKeepAlive)}
}

// server returns the one that keeps these terms. It serves until shutdown, as
// connections that are open go on as they began.
func (in *intake) server(t terms, addr net.Addr) *server {
	in.mu.Lock()
	defer in.mu.Unlock()
	s := in.servers[t]
	if s != nil {
		return s
	}
	s = &server{feed: feed{make(chan net.Conn), make(chan struct{}), addr}}
	in.proxy.prepare(&s.http, in.run, in.open, t)
	in.servers[t] = s
	in.serving.Go(func() { _ = s.http.Serve(&s.feed) }) // it ends when it is shut down
	return s
}

// How long clients may take at the end until their first request is there, unless the
// proxy yields, and how often it is looked for that.
const (
	entryTime  = time.Second
	lingerLook = 5 * time.Millisecond
)

// linger waits for a while for the first requests of all clients that were accepted:
// a server that shuts down drops what it reads by then. If the proxy yields, it waits
// until the clients have left. Nobody must accept any more.
func (in *intake) linger(grace context.Context) {
	yields := time.Duration(in.proxy.yields.Load())
	ctx, cancel := context.WithTimeout(grace, cmp.Or(yields, entryTime))
	defer cancel()
	tick := time.NewTicker(lingerLook)
	defer tick.Stop()
	for in.fresh.Load() > 0 || yields > 0 && in.proxy.active.Load() > 0 {
		select {
		case <-tick.C:
			continue
		case <-ctx.Done():
		}
		break
	}
	in.refuse()
	in.opening.Wait()
}

// shutdown lets what runs end until grace is over, after linger.
func (in *intake) shutdown(grace context.Context) {
	var all sync.WaitGroup
	for _, s := range in.servers {
		all.Go(func() { _ = s.http.Shutdown(grace) }) // what is left then is broken off
	}
	in.serving.Wait()
	all.Wait()
}

// close breaks off what runs after shutdown.
func (in *intake) close() {
	for _, s := range in.servers {
		_ = s.http.Close()
	}
	in.open.wait(context.WithoutCancel(in.run))
}

// Accept waits for a client that is ready.
func (f *feed) Accept() (net.Conn, error) {
	select {
	case c := <-f.ready:
		return c, nil
	case <-f.closed:
		return nil, net.ErrClosed
	}
}

// Close ends Accept. The server calls it once.
func (f *feed) Close() error {
	close(f.closed)
	return nil
}

// Addr returns where the first client came to.
func (f *feed) Addr() net.Addr { return f.addr }

// addrPort returns an address of a socket, as IPv4 if it is that.
func addrPort(s string) netip.AddrPort {
	a, err := netip.ParseAddrPort(s)
	if err != nil {
		return netip.AddrPort{}
	}
	return plainAddr(a)
}

// addrPortOf is addrPort for an address that was not written yet.
func addrPortOf(a net.Addr) netip.AddrPort {
	if tcp, ok := a.(*net.TCPAddr); ok {
		return plainAddr(tcp.AddrPort())
	}
	return netip.AddrPort{}
}

func plainAddr(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
}
