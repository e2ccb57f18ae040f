package splice

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"fairlead/userspace/accesslog"
)

// A session is one client's connection and, once it is made, the one to the
// backend.
type session struct {
	group    *group
	client   *net.TCPConn
	from, to netip.AddrPort // the client, and where it went to
	way      Way

	// Guarded by Proxy.mu.
	addr   netip.AddrPort
	cancel context.CancelFunc // ends the dial
	cut    bool
	// backend is also read without the lock by who runs the session.
	backend *net.TCPConn

	add      func(*accesslog.Record) // nil if nobody wants to know
	began    time.Time               // if somebody does
	joined   time.Time               // when it had its backend
	retries  int
	connect  time.Duration
	up, down flow
	end      atomic.Pointer[accesslog.Ending] // the first that was noted

	aborted atomic.Bool
	ended   atomic.Int32 // directions that are over
	dead    atomic.Bool  // one direction ended because its reader is gone
}

// handle serves one client to the end.
func (p *Proxy) handle(s *session) {
	p.active.Add(1)
	defer p.active.Add(-1)
	done, ok := p.connect(s)
	if !ok {
		if s.group.run.Err() != nil {
			s.ends(accesslog.Agent, accesslog.Cut)
		}
		s.refuse(accesslog.NoBackend)
		p.forget(s)
		return
	}
	if s.way.First != nil {
		if b := s.way.First(s.from, s.to); len(b) > 0 { // too short to wait
			_, _ = s.backend.Write(b) // a backend that is gone is found below
		}
	}
	var up sync.WaitGroup
	s.up.total, s.down.total, s.joined = &p.toBackends, &p.toClients, time.Now()
	up.Go(func() { p.forward(s, s.backend, s.client, &s.up, accesslog.Client) })
	p.forward(s, s.client, s.backend, &s.down, accesslog.Backend)
	up.Wait()
	p.forget(s)
	done(nil)
	s.tell()
}

func (p *Proxy) forget(s *session) {
	p.mu.Lock()
	delete(p.sessions, s)
	p.mu.Unlock()
}

// forward runs the direction of s that from sends in until it is over, and closes
// both connections if the other one is over as well.
func (p *Proxy) forward(s *session, dst, src *net.TCPConn, moved *flow, from accesslog.Party) {
	srcErr, dstErr := move(dst, src, moved)
	if srcErr != nil {
		s.abort(&p.resets, from, accesslog.Reset)
		return
	}
	if dstErr != nil {
		s.ends(other(from), accesslog.Reset)
		// dst has reset. What it sent before is still to be read by the
		// other direction, which then finds the reset or the end.
		s.dead.Store(true)
	}
	s.ends(from, accesslog.Done)
	if s.ended.Add(1) == 2 {
		p.finish(s)
		return
	}
	if dstErr != nil {
		return
	}
	_ = dst.CloseWrite() // fails only if dst is gone, which the other direction sees
	// Nobody reads src any more, but it may still reset.
	if watch(src) != nil {
		s.abort(&p.resets, from, accesslog.Reset)
	}
}

// finish closes what both directions are done with.
func (p *Proxy) finish(s *session) {
	if s.dead.Load() {
		s.abort(&p.resets, "", "") // whose doing it was is known
		return
	}
	if s.aborted.CompareAndSwap(false, true) {
		s.client.Close()
		s.backend.Close()
	}
}

// abort resets both connections, if that or their end was not done before,
// and counts it. by is empty if it is known who has ended them.
func (s *session) abort(why *atomic.Uint64, by accesslog.Party, reason accesslog.Reason) {
	if s.aborted.CompareAndSwap(false, true) {
		why.Add(1)
		if by != "" {
			s.end.Store(&accesslog.Ending{By: by, Reason: reason})
		}
		reset(s.client)
		reset(s.backend)
	}
}

// reset closes c with a reset.
func reset(c *net.TCPConn) {
	_ = c.SetLinger(0)
	c.Close()
}

// watch waits until c, whose input has ended, breaks. It returns nil when c is
// closed here.
func watch(c *net.TCPConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil
	}
	var sockErr error
	err = raw.Read(func(fd uintptr) bool {
		sockErr = broken(int(fd))
		return sockErr != nil
	})
	if err != nil {
		return nil
	}
	return sockErr
}

// broken returns the error that waits on a socket, and clears it.
func broken(fd int) error {
	e, err := syscall.GetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_ERROR)
	if err != nil {
		return err
	}
	if e != 0 {
		return syscall.Errno(e)
	}
	return nil
}
