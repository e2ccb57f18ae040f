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

	"fairlead/userspace/model"
)

// DefaultDialTimeout is how long a backend may take to accept.
const DefaultDialTimeout = 3 * time.Second

// A Pick is what chooses backends; see [Proxy].
type Pick = func(client, local netip.AddrPort, tried []netip.AddrPort) (addr netip.AddrPort, done func(err error), ok bool)

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
	// Route, if not nil, finds what picks for a connection, instead of Pick. It
	// may look at what the client has sent, but not take it, and wait for it
	// until ctx is done. nil ends the search.
	Route func(ctx context.Context, client *net.TCPConn) Pick
	// Admit judges a client that has connected, from many goroutines at once.
	// One that is not admitted gets a reset. nil admits all.
	Admit func(client netip.Addr) model.Admission
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

// Serve accepts from l until ctx is done and then closes l. Connections go on
// until they end or Grace is over, when they are reset. Serve waits for its
// goroutines and returns [context.Cause] of ctx. It returns early, in the same
// way, if l breaks; a host without descriptors or memory only makes it wait.
func (p *Proxy) Serve(ctx context.Context, l *net.TCPListener) error {
	run, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	g := &group{serving: ctx, run: run}
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
	serving context.Context // done when no connection is to begin
	run     context.Context // done when the connections must end
	conns   sync.WaitGroup
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
		if ctx.Err() != nil {
			if c != nil {
				reset(c)
			}
			return context.Cause(ctx)
		}
		if err != nil {
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
		if p.admits(c) {
			g.conns.Go(func() { p.handle(g, c) })
		}
	}
}

// admits reports whether the client of c may stay, and resets c if not.
func (p *Proxy) admits(c *net.TCPConn) bool {
	p.accepted.Add(1)
	if p.Admit == nil {
		return true
	}
	switch p.Admit(addrPort(c.RemoteAddr()).Addr()) {
	case model.Denied:
		p.denied.Add(1)
	case model.Limited:
		p.sourceLimit.Add(1)
	default:
		return true
	}
	reset(c)
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
		s.abort(&p.cuts)
	}
	return len(joined)
}

func (p *Proxy) log() *slog.Logger {
	if p.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return p.Log
}
