package httpproxy

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// A client is the connection of one, as it was accepted.
type client struct {
	*net.TCPConn
	// from is whom it is of, and to where that went to; not valid unless
	// somebody trusted says so.
	from, to netip.AddrPort
	leave    func() // room for another of the client
	forget   func()
	once     sync.Once
	// heard is called when the first request has come, or none can any more; more than
	// once is no more than once.
	heard func()

	mu sync.Mutex
	at []*attempt // of requests that are with backends
}

// RemoteAddr returns whom the connection is of.
func (c *client) RemoteAddr() net.Addr {
	if c.from.IsValid() {
		return net.TCPAddrFromAddrPort(c.from)
	}
	return c.TCPConn.RemoteAddr()
}

// LocalAddr returns where the client went to.
func (c *client) LocalAddr() net.Addr {
	if c.to.IsValid() {
		return net.TCPAddrFromAddrPort(c.to)
	}
	return c.TCPConn.LocalAddr()
}

// learn finds out whose connection it is.
func (c *client) learn(ctx context.Context, p *Proxy) error {
	if p.Origin == nil {
		return nil
	}
	read := p.Origin(addrPort(c.RemoteAddr().String()).Addr())
	if read == nil {
		return nil
	}
	defer context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })()
	from, to, err := read(c.TCPConn)
	if err == nil && from.IsValid() && to.IsValid() {
		c.from, c.to = from, to
	}
	return err
}

// Close closes the connection, and makes room for another of its client.
func (c *client) Close() error {
	c.heard()
	c.once.Do(func() {
		c.leave()
		c.forget()
	})
	return c.TCPConn.Close()
}

// reset closes the connection with a reset.
func (c *client) reset() {
	_ = c.SetLinger(0)
	c.Close()
}

// A guarded connection hands on what a guard lets pass.
type guarded struct {
	net.Conn
	guard guard
	proxy *Proxy
	bad   bool
	spoil string // what is left to be handed on in place of what is malformed
	rest  atomic.Int64
	whose atomic.Uint32 // what is written next
}

// spoiled ends whatever line or chunk it stands in, and makes it one that net/http
// refuses. An error of Read would not do: a server that reads ahead takes it for the
// end of the request that it answers.
const spoiled = "\x00\r\n\r\n"

// Read puts spoiled in place of what is malformed and of all that follows it.
func (c *guarded) Read(p []byte) (int, error) {
	if len(c.spoil) > 0 {
		n := copy(p, c.spoil)
		c.spoil = c.spoil[n:]
		return n, nil
	}
	for {
		n, err := c.Conn.Read(p)
		if c.bad && err == nil {
			continue
		} else if c.bad {
			return 0, err
		}
		fine, ok := c.guard.check(p[:n])
		if ok {
			return n, err
		}
		c.proxy.malformed.Add(1)
		c.bad = true
		added := copy(p[fine:], spoiled)
		c.spoil = spoiled[added:]
		return fine + added, nil
	}
}

// lingerer is a connection whose end may wait for what its client still sends.
type lingerer interface{ linger(limit time.Duration) }

// linger has CloseWrite take the rest of a body, for so long at most: a client that is
// reset while it sends might lose the answer.
func (c *guarded) linger(limit time.Duration) { c.rest.Store(int64(limit)) }

// CloseWrite ends what is written.
func (c *guarded) CloseWrite() error {
	half, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok {
		return c.Close()
	}
	err := half.CloseWrite()
	if limit := time.Duration(c.rest.Load()); err == nil && limit > 0 {
		_ = c.SetReadDeadline(time.Now().Add(limit)) // who is gone is found by Read
		b := moving.Get()
		defer moving.Put(b)
		for err == nil && !c.bad && c.guard.isInside() {
			_, err = c.Read(b)
		}
		return nil
	}
	return err
}

// A crowd counts the connections that each client has. The zero value is empty.
type crowd struct {
	mu   sync.Mutex
	open map[netip.Addr]int
}

// enter counts one more, and returns what it is to be called at its end, unless
// its client has as many as it may; 0 is any number.
func (c *crowd) enter(client netip.Addr, most int) (leave func(), ok bool) {
	client = household(client)
	c.mu.Lock()
	defer c.mu.Unlock()
	if most > 0 && c.open[client] >= most {
		return nil, false
	}
	if c.open == nil {
		c.open = map[netip.Addr]int{}
	}
	c.open[client]++
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.open[client]--; c.open[client] == 0 {
			delete(c.open, client)
		}
	}, true
}
