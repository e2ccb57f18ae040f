package udpproxy

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"time"
)

type key struct{ client, local netip.AddrPort }

// A flow is what one client sends to one address, and the answers.
type flow struct {
	key    key
	server *server

	// All guarded by Proxy.mu.
	addr    netip.AddrPort // backend
	conn    *net.UDPConn   // to addr; nil: picked at the next datagram
	done    func(error)    // of addr
	refused netip.AddrPort // the last backend that refused
	last    time.Time      // of a datagram
	// Neighbours in the list of silent flows: newer and older.
	newer, older *flow
}

// lookup returns the flow of k, nil if there is none, and its socket, nil if
// it needs a backend.
func (p *Proxy) lookup(k key) (*flow, *net.UDPConn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f := p.flows[k]
	if f == nil {
		return nil, nil
	}
	p.silent.remove(f)
	f.last = time.Now()
	p.silent.push(f)
	return f, f.conn
}

// touch notes that f is not silent. It returns false if c is not the socket of
// f any more.
func (p *Proxy) touch(f *flow, c *net.UDPConn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if f.conn != c {
		return false
	}
	p.silent.remove(f)
	f.last = time.Now()
	p.silent.push(f)
	return true
}

// connect gives a backend to f, or to a new flow of k if f is nil. Only the
// goroutine that receives for s calls it, so no two make the same flow. The
// socket is nil if there is no backend to be had, or no room.
func (p *Proxy) connect(s *server, k key, f *flow) (*flow, *net.UDPConn) {
	if f == nil {
		f = &flow{key: k, server: s}
	}
	placed := false // a place in the room is taken for f
	defer func() {
		if placed {
			p.room().give()
		}
	}()
	tried, before := p.state(f)
	optional := len(tried) // refused earlier, better than nothing
	for {
		addr, done, ok := p.Pick(unmap(k.client), k.local, tried)
		if ok && done == nil {
			done = func(error) {}
		}
		if !ok || slices.Contains(tried, addr) {
			if ok {
				done(nil)
			}
			if optional == 0 {
				p.noBackend.Add(1)
				return f, nil
			}
			tried, optional = tried[optional:], 0
			continue
		}
		if !placed && !p.has(f) {
			if placed = p.room().take(p); !placed {
				done(nil)
				return f, nil
			}
		}
		c, err := p.dial(addr)
		if err != nil {
			p.dialErrors.Add(1)
			p.log().Debug("connect failed", "client", k.client, "backend", addr, "err", err)
			if !isDead(err) {
				err = nil
			}
			done(err)
			tried = append(tried, addr)
			continue
		}
		if p.attach(f, c, addr, done, before, placed) {
			placed = false
			return f, c
		}
		// A backend was closed meanwhile, perhaps this one, or f is gone.
		c.Close()
		done(nil)
		_, before = p.state(f)
	}
}

// state returns the backends that f should avoid, and how often CloseBackend
// was called so far.
func (p *Proxy) state(f *flow) (tried []netip.AddrPort, closes uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if f.refused.IsValid() {
		tried = []netip.AddrPort{f.refused}
	}
	return tried, p.closes
}

// has reports whether f is in the table.
func (p *Proxy) has(f *flow) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.flows[f.key] == f
}

// dial opens a socket to addr. When the host has none left, a flow gives up its
// own.
func (p *Proxy) dial(addr netip.AddrPort) (*net.UDPConn, error) {
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(addr))
	if isFull(err) && p.room().yield(p) {
		return net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(addr))
	}
	return c, err
}

// isFull reports whether err says that no descriptor or no port is left.
func isFull(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) ||
		errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EADDRNOTAVAIL)
}

// attach makes c, to the backend addr, the socket of f and f a flow of the
// table, for which a place must be taken. It refuses if CloseBackend was called
// since before, or if f, without a place, was forgotten meanwhile.
func (p *Proxy) attach(f *flow, c *net.UDPConn, addr netip.AddrPort, done func(error), before uint64, placed bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	known := p.flows[f.key] == f
	if p.closes != before || !known && !placed {
		return false
	}
	f.conn, f.addr, f.done, f.last = c, addr, done, time.Now()
	if known {
		p.moved.Add(1)
		p.silent.remove(f)
	} else {
		p.add(f)
	}
	p.silent.push(f)
	f.server.running.Go(func() { p.answer(f, c) })
	return true
}

// add puts f into the table. The caller holds the lock.
func (p *Proxy) add(f *flow) {
	if p.flows == nil {
		p.flows = map[key]*flow{}
	}
	p.flows[f.key] = f
	p.opened.Add(1)
	if p.size.Add(1) == 1 {
		p.room().active.Add(1)
	}
	if p.OnFlow != nil {
		p.OnFlow(unmap(f.key.client), f.key.local, true)
	}
}

// refuse takes the backend behind c, which is dead, from f. The flow stays and
// gets another one with the client's next datagram.
func (p *Proxy) refuse(f *flow, c *net.UDPConn, err error) {
	p.mu.Lock()
	if f.conn != c {
		p.mu.Unlock()
		return
	}
	done := f.done
	f.conn, f.done, f.refused = nil, nil, f.addr
	p.mu.Unlock()
	p.refused.Add(1)
	c.Close()
	done(err)
}

// CloseBackend takes all flows from addr, whose late answers are not passed
// on, and returns how many there were. Each gets another backend with its next
// datagram: change what Pick answers first, then call CloseBackend.
func (p *Proxy) CloseBackend(addr netip.AddrPort) int {
	var left []leaving
	p.mu.Lock()
	p.closes++
	for _, f := range p.flows {
		if f.conn != nil && f.addr == addr {
			left = append(left, leaving{f.conn, f.done})
			f.conn, f.done = nil, nil
		}
	}
	p.mu.Unlock()
	return leave(left)
}
