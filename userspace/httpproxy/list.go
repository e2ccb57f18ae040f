package httpproxy

import (
	"crypto/tls"
	"net"
	"net/netip"
	"slices"
	"sync"

	"fairlead/userspace/model"
)

// A roll has the connections of clients that are open. The zero value is empty.
type roll struct {
	mu   sync.Mutex
	open map[*client]struct{}
}

// enter notes a connection.
func (r *roll) enter(c *client) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.open == nil {
		r.open = map[*client]struct{}{}
	}
	r.open[c] = struct{}{}
}

// leave forgets a connection.
func (r *roll) leave(c *client) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.open, c)
}

// clients returns those that are open now.
func (r *roll) clients() []*client {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make([]*client, 0, len(r.open))
	for c := range r.open {
		all = append(all, c)
	}
	return all
}

// Proxied returns the connections of clients: one for each request that is with a
// backend, or one without a backend.
func (p *Proxy) Proxied() (all []model.Proxied) {
	for _, c := range p.roll.clients() {
		all = append(all, c.proxied()...)
	}
	return all
}

// Kill resets connections of clients, with all their requests, of which one is meant.
// It returns how many.
func (p *Proxy) Kill(which func(model.Proxied) bool) (n int) {
	for _, c := range p.roll.clients() {
		if slices.ContainsFunc(c.proxied(), which) {
			c.reset()
			n++
		}
	}
	return n
}

func (c *client) proxied() []model.Proxied {
	x := model.Proxied{Client: addrPortOf(c.RemoteAddr()), Virtual: addrPortOf(c.LocalAddr())}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.at) == 0 {
		return []model.Proxied{x}
	}
	all := make([]model.Proxied, len(c.at))
	for i, backend := range c.at {
		all[i] = x
		all[i].Backend = backend
	}
	return all
}

// visit notes that a request of the client is with a backend. A nil client is fine.
func (c *client) visit(backend netip.AddrPort) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = append(c.at, backend)
}

// depart is the end of visit.
func (c *client) depart(backend netip.AddrPort) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if i := slices.Index(c.at, backend); i >= 0 {
		c.at = slices.Delete(c.at, i, i+1)
	}
}

// clientOf returns the client of a connection that a server has, nil if it is none of
// this package.
func clientOf(c net.Conn) *client {
	switch c := c.(type) {
	case *client:
		return c
	case *guarded:
		return clientOf(c.Conn)
	case *guardedTLS:
		return clientOf(c.Conn)
	case *tls.Conn:
		return clientOf(c.NetConn())
	}
	return nil
}
