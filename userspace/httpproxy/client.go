package httpproxy

import (
	"net"
	"net/netip"
	"sync"
)

// A client is the connection of one, as it was accepted.
type client struct {
	*net.TCPConn
	origin netip.AddrPort // whom it is of, as far as somebody trusted says so
	leave  func()
	once   sync.Once
}

// RemoteAddr returns whom the connection is of.
func (c *client) RemoteAddr() net.Addr {
	if c.origin.IsValid() {
		return net.TCPAddrFromAddrPort(c.origin)
	}
	return c.TCPConn.RemoteAddr()
}

// Close closes the connection, and makes room for another of its client.
func (c *client) Close() error {
	c.once.Do(c.leave)
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
	bad   error
}

// Read ends with an error at what is malformed, but only after a byte of it: a
// server that reads ahead would take an error at once for the end of the request
// that it answers.
func (c *guarded) Read(p []byte) (int, error) {
	if c.bad != nil || len(p) == 0 {
		return 0, c.bad
	}
	n, err := c.Conn.Read(p)
	fine, bad := c.guard.check(p[:n])
	if bad == nil {
		return n, err
	}
	c.bad = bad
	c.proxy.malformed.Add(1)
	if fine == 0 {
		p[0], fine = 0, 1 // a byte that no line may have
	}
	return fine, nil
}

// CloseWrite ends what is written.
func (c *guarded) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return c.Close()
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
