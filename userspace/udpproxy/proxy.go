// Package udpproxy is the UDP proxy: each client's flow gets a socket of its
// own to one backend, and answers go back from the address the client spoke to.
//
// It knows nothing of services, health or balancing; Pick chooses the backend.
// A flow is remembered by the addresses of both ends and ends by silence, by
// pressure (the longest silent one makes room for a new one) or with Serve.
package udpproxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"fairlead/userspace/model"
)

// DefaultIdle is how long a flow may be silent.
const DefaultIdle = 3 * time.Minute

// A Proxy forwards datagrams between clients and backends. Its fields must not
// change once Serve runs. Any number of Serve calls may share it, each with a
// socket of its own.
type Proxy struct {
	// Pick chooses a backend for a flow from client to local; tried are the
	// backends that the flow found dead. If it has no other, it is asked
	// once more with those that refused earlier datagrams left out of tried.
	// ok false drops the datagram.
	//
	// done, which may be nil, is called once: with what went wrong if the
	// backend refused, with nil when the flow left it for another reason.
	// Both are called from many goroutines at once.
	Pick func(client, local netip.AddrPort, tried []netip.AddrPort) (addr netip.AddrPort, done func(err error), ok bool)
	// Admit judges a client that has no flow yet, from many goroutines at once.
	// The datagram of one that is not admitted is dropped. nil admits all.
	Admit func(client netip.Addr) model.Admission
	// Idle is how long a flow may be silent in both directions, give or take
	// an eighth. 0 means [DefaultIdle].
	Idle time.Duration
	// Room bounds the flows, together with those of other proxies that have
	// the same one. nil means one for this proxy alone. When the host itself
	// runs out of descriptors or ports, a flow makes room as well.
	Room *Room
	// OnFlow, if not nil, is told of a flow before its first datagram is
	// forwarded (open true) and when it is forgotten. A flow that moves to
	// another backend stays open. Calls come one at a time, in order, under
	// the Proxy's lock: OnFlow must be quick and must not call the Proxy.
	OnFlow func(client, local netip.AddrPort, open bool)
	// Log may be nil.
	Log *slog.Logger

	counters
	mu     sync.Mutex
	flows  map[key]*flow
	silent flowList // the longest silent flow last
	closes uint64   // calls of CloseBackend
	take   func(Handed)
	given  map[netip.AddrPort][]Handed // by the address that Serve is to serve
	size   atomic.Int64
	alone  Room
}

// ErrUnspecified says that a socket has no address that answers could come from.
var ErrUnspecified = errors.New("address is unspecified")

// Listen opens a UDP socket on addr for Serve. The address must be a specific
// one that the host has, as answers must come from where the client sent to:
// [ErrUnspecified] otherwise.
func Listen(ctx context.Context, addr netip.AddrPort) (*net.UDPConn, error) {
	if addr.Addr().IsUnspecified() {
		return nil, fmt.Errorf("listen on udp %s: %w", addr, ErrUnspecified)
	}
	network := "udp4"
	if addr.Addr().Is6() && !addr.Addr().Is4In6() {
		network = "udp6"
	}
	var lc net.ListenConfig
	c, err := lc.ListenPacket(ctx, network, addr.String())
	if err != nil {
		return nil, fmt.Errorf("listen on udp %s: %w", addr, err)
	}
	l := c.(*net.UDPConn)
	// All clients share this buffer; the system may allow less.
	_ = l.SetReadBuffer(1 << 20)
	return l, nil
}

// Serve forwards what arrives on l until ctx is done. Then it forgets the flows
// that came by l, or hands them over, closes l, waits for its goroutines and
// returns [context.Cause] of ctx. It returns early, in the same way, if l breaks.
func (p *Proxy) Serve(ctx context.Context, l *net.UDPConn) error {
	local := addrPort(l.LocalAddr())
	if local.Addr().IsUnspecified() {
		l.Close()
		return fmt.Errorf("serve udp %s: %w", local, ErrUnspecified)
	}
	ctx, cancel := context.WithCancel(ctx)
	s := &server{conn: l, local: local}
	// Not closed yet: answers go on until the flows are handed over.
	stop := context.AfterFunc(ctx, func() { _ = l.SetReadDeadline(time.Unix(1, 0)) })
	p.adopt(s)
	s.running.Go(func() { p.sweep(ctx) })
	err := p.receive(ctx, s)
	cancel()
	stop()
	p.handOver(s)
	p.forget(s)
	s.running.Wait()
	l.Close()
	return err
}

// A server is one call of Serve.
type server struct {
	conn    *net.UDPConn
	local   netip.AddrPort
	running sync.WaitGroup
}

// maxDatagram is the largest payload that UDP can carry, and then some.
const maxDatagram = 65535

var buffers = sync.Pool{New: func() any { return new([maxDatagram]byte) }}

// backoffMax bounds the pause between errors that do not end.
const backoffMax = time.Second

func (p *Proxy) receive(ctx context.Context, s *server) error {
	buf := new([maxDatagram]byte)
	var backoff time.Duration
	for {
		n, client, err := s.conn.ReadFromUDPAddrPort(buf[:])
		if err == nil {
			backoff = 0
			p.forward(s, client, buf[:n])
			continue
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("receive on %s: %w", s.local, err)
		}
		// An error that waits on the socket is gone once it is read, so
		// only the second in a row is worth a pause.
		p.readErrors.Add(1)
		if backoff == 0 {
			p.log().Warn("receiving failed", "listen", s.local, "err", err)
			backoff = time.Millisecond
			continue
		}
		select {
		case <-ctx.Done():
		case <-time.After(backoff):
		}
		backoff = min(2*backoff, backoffMax)
	}
}

// forward hands a client's datagram to the backend of its flow. A backend that
// turns out to be dead is changed, a few times at most.
func (p *Proxy) forward(s *server, client netip.AddrPort, b []byte) {
	k := key{client, s.local}
	for range 3 {
		f, c := p.lookup(k)
		if f == nil && !p.admits(k.client) {
			break
		}
		if c == nil {
			if f, c = p.connect(s, k, f); c == nil {
				break
			}
		}
		_, err := c.Write(b)
		if err == nil {
			p.toBackends.add(len(b))
			return
		}
		if isDead(err) {
			p.refuse(f, c, err)
		}
		// Else the flow has just moved, or an error of an earlier datagram
		// waited on the socket and has gone now.
	}
	p.dropped.Add(1)
}

// admits reports whether a client may make a flow.
func (p *Proxy) admits(client netip.AddrPort) bool {
	if p.Admit == nil {
		return true
	}
	switch p.Admit(unmap(client).Addr()) {
	case model.Denied:
		p.denied.Add(1)
	case model.Limited:
		p.sourceLimit.Add(1)
	default:
		return true
	}
	return false
}

// answer forwards what the backend sends on c to the client of f, until c is
// closed or refused.
func (p *Proxy) answer(f *flow, c *net.UDPConn) {
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	// A buffer is held only while there is a datagram in it.
	var buf *[maxDatagram]byte
	var n int
	var readErr error
	take := func(fd uintptr) bool {
		buf = buffers.Get().(*[maxDatagram]byte)
		n, _, readErr = unix.Recvfrom(int(fd), buf[:], 0)
		if readErr == nil {
			return true
		}
		buffers.Put(buf)
		return !errors.Is(readErr, unix.EAGAIN) && !errors.Is(readErr, unix.EINTR)
	}
	for {
		if err := raw.Read(take); err != nil {
			return
		}
		switch {
		case readErr == nil:
			p.toClient(f, c, buf[:n])
			buffers.Put(buf)
		case isDead(readErr):
			p.refuse(f, c, readErr)
			return
		default:
			p.readErrors.Add(1) // such as a packet too big; reading it cleared it
		}
	}
}

func (p *Proxy) toClient(f *flow, c *net.UDPConn, b []byte) {
	if !p.touch(f, c) {
		return // late, from a backend that the flow has left
	}
	if _, err := f.server.conn.WriteToUDPAddrPort(b, f.key.client); err != nil {
		p.dropped.Add(1)
		return
	}
	p.toClients.add(len(b))
}

// isDead reports whether err says that nobody listens at the other end.
func isDead(err error) bool {
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.EHOSTUNREACH) || errors.Is(err, syscall.ENETUNREACH)
}

func addrPort(a net.Addr) netip.AddrPort {
	return unmap(a.(*net.UDPAddr).AddrPort())
}

func unmap(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

func (p *Proxy) room() *Room {
	if p.Room == nil {
		return &p.alone
	}
	return p.Room
}

func (p *Proxy) log() *slog.Logger {
	if p.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return p.Log
}
