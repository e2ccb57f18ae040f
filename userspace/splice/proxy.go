// Package splice is the TCP proxy: it joins a client's connection to one of a
// backend, and the kernel moves what is much.
//
// It knows nothing of services, health or balancing; Pick chooses the backend.
// What the peers do to each other is kept: the end of one direction, a reset,
// and a slow reader all arrive at the other side as what they are.
package splice

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"fairlead/userspace/accesslog"
	"fairlead/userspace/model"
)

// DefaultDialTimeout is how long a backend may take to accept.
const DefaultDialTimeout = 3 * time.Second

// A Pick is what chooses backends; see [Proxy].
type Pick = func(client, local netip.AddrPort, tried []netip.AddrPort) (addr netip.AddrPort, done func(err error), ok bool)

// A First returns what a backend is sent before all that the client sends.
type First = func(client, server netip.AddrPort) []byte

// Connected is told of a backend that has accepted, and how long that took.
type Connected = func(addr netip.AddrPort, took time.Duration)

// A Way is what serves a connection. Fields but Pick may be nil.
type Way struct {
	Pick      Pick
	First     First
	Connected Connected
}

// A Proxy joins connections of clients to connections of backends. Its fields
// must not change once Serve runs. Any number of Serve calls may share it.
type Proxy struct {
	// Pick chooses a backend for a connection from client to local; tried
	// are the backends that this connection found dead. ok false, or an
	// address that was tried, ends the search: the client gets a reset.
	//
	// done, which may be nil, is called once: with what went wrong if the
	// backend could not be reached, with nil when the connection is over or
	// when something else than the backend was at fault. Both are called
	// from many goroutines at once.
	Pick Pick
	// Route, if not nil, finds what serves a connection in place of Pick, First
	// and Connected. It may look at what the client has sent, but not take it,
	// and wait for it until ctx is done. A Pick that is nil ends the search.
	Route func(ctx context.Context, client *net.TCPConn) Way
	// Admit judges a client that has connected, from many goroutines at once.
	// One that is not admitted gets a reset. nil admits all.
	Admit func(client netip.Addr) model.Admission
	// Origin, which may be nil, returns what reads from a connection of a peer
	// whom it is of and where that went to; nil if the peer speaks for itself,
	// as it also does where the addresses are not valid. Admit then judges the
	// client. An error ends the connection.
	Origin func(peer netip.Addr) (read func(c net.Conn) (client, server netip.AddrPort, err error))
	// First and Connected may be nil. Connected is called from many goroutines
	// at once.
	First     First
	Connected Connected
	// Access, which may be nil, returns who is told of a connection that begins
	// when it is over; nil is nobody. Both are called from many goroutines at
	// once. The record does not say of which service it is.
	Access func() func(*accesslog.Record)
	// DialTimeout bounds the wait for one backend to accept. 0 means
	// [DefaultDialTimeout].
	DialTimeout time.Duration
	// Grace is how long connections may go on after the end of Serve was
	// asked for. 0 resets them at once.
	Grace time.Duration
	// Log may be nil.
	Log *slog.Logger

	counters
	mu       sync.Mutex
	sessions map[*session]struct{}
	closes   uint64 // calls of CloseBackend
}

// Listen opens a TCP socket on addr for Serve: without MPTCP, and IPv6
// addresses take no IPv4 connections. It needs no more than the host having
// the address.
func Listen(ctx context.Context, addr netip.AddrPort) (*net.TCPListener, error) {
	network := "tcp4"
	if addr.Addr().Is6() && !addr.Addr().Is4In6() {
		network = "tcp6"
	}
	// Accepted sockets inherit keepalive, which saves four system calls each.
	lc := net.ListenConfig{KeepAlive: -1, Control: keepAlive}
	lc.SetMultipathTCP(false)
	l, err := lc.Listen(ctx, network, addr.String())
	if err != nil {
		return nil, fmt.Errorf("listen on tcp %s: %w", addr, err)
	}
	return l.(*net.TCPListener), nil
}

// keepAlive sets what Go gives every connection by default.
func keepAlive(_, _ string, c syscall.RawConn) error {
	var errs []error
	err := c.Control(func(fd uintptr) {
		errs = append(errs,
			syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_KEEPALIVE, 1),
			syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_KEEPIDLE, 15),
			syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_KEEPINTVL, 15),
			syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_KEEPCNT, 9))
	})
	return errors.Join(append(errs, err)...)
}

// Serve accepts from l until ctx is done and then closes l. Connections, also the
// last one accepted, go on until they end or Grace is over, when they are reset. Serve waits for its
// goroutines and returns [context.Cause] of ctx. It returns early, in the same
// way, if l breaks; a host without descriptors or memory only makes it wait.
func (p *Proxy) Serve(ctx context.Context, l *net.TCPListener) error {
	defer keepPipes()()
	run, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	g := &group{run: run}
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	err := p.accept(ctx, l, g)
	l.Close()

	ended := make(chan struct{})
	go func() {
		g.conns.Wait()
		close(ended)
	}()
	grace := time.NewTimer(p.Grace)
	defer grace.Stop()
	select {
	case <-ended:
	case <-grace.C:
		cut()
		p.cut(func(s *session) bool { return s.group == g })
		<-ended
	}
	return err
}

// A group is what one call of Serve started.
type group struct {
	run   context.Context // done when the connections must end
	conns sync.WaitGroup
}

// How long accept waits while the host has nothing left to accept with.
const (
	backoffMin = 5 * time.Millisecond
	backoffMax = time.Second
)

func (p *Proxy) accept(ctx context.Context, l *net.TCPListener, g *group) error {
	var backoff time.Duration
	for {
		c, err := l.AcceptTCP()
		if err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if errors.Is(err, net.ErrClosed) || errors.Is(err, syscall.EINVAL) {
				return fmt.Errorf("accept on %s: %w", l.Addr(), err)
			}
			p.acceptErrors.Add(1)
			if backoff == 0 {
				p.log().Warn("accepting stalled", "listen", l.Addr(), "err", err)
			}
			backoff = min(max(2*backoff, backoffMin), backoffMax)
			select {
			case <-ctx.Done():
			case <-time.After(backoff):
			}
			continue
		}
		if backoff != 0 {
			p.log().Info("accepting again", "listen", l.Addr())
			backoff = 0
		}
		p.welcome(g, c)
	}
}

// welcome has c served, if its client may stay.
func (p *Proxy) welcome(g *group, c *net.TCPConn) {
	p.accepted.Add(1)
	s := &session{group: g, client: c, from: addrPort(c.RemoteAddr()), to: addrPort(c.LocalAddr())}
	if p.Access != nil {
		s.add, s.began = p.Access(), time.Now()
	}
	if p.Origin != nil {
		if read := p.Origin(s.from.Addr()); read != nil {
			g.conns.Go(func() {
				if p.learn(s, read) && p.admits(s) {
					p.handle(s)
				}
			})
			return
		}
	}
	if p.admits(s) {
		g.conns.Go(func() { p.handle(s) })
	}
}

// learn finds out whose connection a session's is, and resets it if it cannot.
func (p *Proxy) learn(s *session, read func(net.Conn) (client, server netip.AddrPort, err error)) bool {
	defer context.AfterFunc(s.group.run, func() { _ = s.client.SetDeadline(time.Unix(1, 0)) })()
	client, server, err := read(s.client)
	if err != nil {
		p.log().Debug("client refused", "peer", s.from, "err", err)
		p.unannounced.Add(1)
		s.refuse(accesslog.Malformed)
		return false
	}
	if client.IsValid() && server.IsValid() {
		s.from, s.to = client, server
	}
	return true
}

// admits reports whether the client of s may stay, and resets it if not.
func (p *Proxy) admits(s *session) bool {
	if p.Admit == nil {
		return true
	}
	switch p.Admit(s.from.Addr()) {
	case model.Denied:
		p.denied.Add(1)
		s.refuse(accesslog.Denied)
	case model.Limited:
		p.sourceLimit.Add(1)
		s.refuse(accesslog.Limit)
	default:
		return true
	}
	return false
}

// CloseBackend resets every connection to addr, both sides of it, and returns
// how many there were. A connection that was only being made looks for another
// backend: change what Pick answers first, then call CloseBackend.
func (p *Proxy) CloseBackend(addr netip.AddrPort) int {
	return p.cut(func(s *session) bool { return s.addr == addr })
}

// Cut resets every connection that has a backend.
func (p *Proxy) Cut() { p.cut(func(*session) bool { return true }) }

// cut ends the sessions that which names.
func (p *Proxy) cut(which func(*session) bool) (n int) {
	var joined []*session
	p.mu.Lock()
	p.closes++
	for s := range p.sessions {
		if !which(s) {
			continue
		}
		s.cut = true
		s.cancel()
		if s.backend != nil {
			joined = append(joined, s)
		}
	}
	p.mu.Unlock()
	for _, s := range joined {
		s.abort(&p.cuts, accesslog.Agent, accesslog.Cut)
	}
	return len(joined)
}

func (p *Proxy) log() *slog.Logger {
	if p.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return p.Log
}
