package splice

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"fairlead/userspace/accesslog"
)

// A fault is a kind of failed dial.
type fault int

const (
	refused fault = iota
	timeout
	unreachable
	local // this host's fault, not the backend's
	faults
)

func faultOf(err error) fault {
	switch {
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ECONNRESET):
		return refused
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded), errors.Is(err, syscall.ETIMEDOUT):
		return timeout
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EHOSTDOWN):
		return unreachable
	}
	return local
}

// connect joins s to a backend that accepts. It returns false if there is
// none, and then has told every done that it got.
func (p *Proxy) connect(s *session) (done func(error), ok bool) {
	client, listen := s.from, addrPort(s.client.LocalAddr())
	var tried []netip.AddrPort
	s.way = Way{p.Pick, p.First, p.Connected}
	if p.Route != nil {
		if s.way = p.Route(s.group.run, s.client); s.way.Pick == nil {
			return nil, false
		}
	}
	for s.group.run.Err() == nil {
		before := p.closeCount()
		addr, done, ok := s.way.Pick(client, listen, tried)
		if !ok {
			break
		}
		if done == nil {
			done = func(error) {}
		}
		if slices.Contains(tried, addr) {
			done(nil)
			break
		}
		if len(tried) > 0 {
			p.retries.Add(1)
			s.retries++
		}
		err := p.dial(s, addr, before)
		switch {
		case err == nil:
			return done, true
		case errors.Is(err, errCut):
			done(nil)
		default:
			f := faultOf(err)
			p.dialErrors[f].Add(1)
			p.log().Debug("dial failed", "client", client, "backend", addr, "err", err)
			if f == local {
				err = nil
			}
			done(err)
			tried = append(tried, addr)
		}
		if gone(s.client) {
			s.ends(accesslog.Client, accesslog.Gone)
			return nil, false
		}
	}
	if s.group.run.Err() == nil {
		p.noBackend.Add(1)
	}
	return nil, false
}

// errCut says that the backend was closed while it was dialled.
var errCut = errors.New("backend closed")

// dial connects s to addr. before is the count of CloseBackend calls before
// addr was picked: what was closed since then may have been addr.
func (p *Proxy) dial(s *session, addr netip.AddrPort, before uint64) error {
	ctx, cancel := context.WithTimeout(s.group.run, cmpOr(p.DialTimeout, DefaultDialTimeout))
	defer cancel()
	p.mu.Lock()
	if p.closes != before {
		p.mu.Unlock()
		return errCut
	}
	s.addr, s.cancel, s.cut = addr, cancel, false
	if p.sessions == nil {
		p.sessions = map[*session]struct{}{}
	}
	p.sessions[s] = struct{}{}
	p.mu.Unlock()

	// Not DialTCP: given a netip address it binds to a port before it knows
	// the destination, which leaves one port per connection of the host.
	var d net.Dialer
	began := time.Now()
	c, err := d.DialContext(ctx, "tcp", addr.String())
	if s.connect = time.Since(began); err == nil && s.way.Connected != nil {
		s.way.Connected(addr, s.connect)
	}

	p.mu.Lock()
	defer p.mu.Unlock()
	if s.cut {
		if err == nil {
			reset(c.(*net.TCPConn))
		}
		return errCut
	}
	if err != nil {
		delete(p.sessions, s)
		return err
	}
	s.backend = c.(*net.TCPConn)
	return nil
}

func (p *Proxy) closeCount() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.closes
}

// gone reports whether the client has reset its connection. A client that only
// closed its side may still wait for an answer.
func gone(c *net.TCPConn) bool {
	raw, err := c.SyscallConn()
	if err != nil {
		return true
	}
	dead := true
	_ = raw.Control(func(fd uintptr) {
		// Not SO_ERROR, which would be cleared for who reads later.
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		dead = err != nil || info.State == unix.BPF_TCP_CLOSE
	})
	return dead
}

func addrPort(a net.Addr) netip.AddrPort {
	ap := a.(*net.TCPAddr).AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

func cmpOr(d, def time.Duration) time.Duration {
	if d > 0 {
		return d
	}
	return def
}
