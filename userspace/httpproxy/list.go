package httpproxy

import (
	"crypto/tls"
	"net"
	"slices"
	"sync"

	"fairlead/userspace/accesslog"
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

// Kill resets connections of clients that are meant, or that have a request with a backend
// that is. Of HTTP/2, where requests do not concern each other, it breaks off only the
// requests, unless the connection is meant whatever its backends. It returns how many
// connections and requests that were.
func (p *Proxy) Kill(which func(model.Proxied) bool) (n int) {
	for _, c := range p.roll.clients() {
		n += c.kill(which)
	}
	return n
}

func (c *client) kill(which func(model.Proxied) bool) int {
	c.mu.Lock()
	at := slices.Clone(c.at)
	c.mu.Unlock()
	at = slices.DeleteFunc(at, func(a *attempt) bool { return !which(c.with(a)) })
	switch {
	case which(c.with(nil)):
	case len(at) == 0:
		return 0
	case at[0].x.in.ProtoMajor > 1:
		for _, a := range at {
			a.kill()
		}
		return len(at)
	}
	c.reset()
	return 1
}

// kill breaks the request off.
func (a *attempt) kill() {
	a.x.w.note.ends(accesslog.Agent, accesslog.Cut)
	a.watch.strike(errKilled)
}

func (c *client) proxied() []model.Proxied {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.at) == 0 {
		return []model.Proxied{c.with(nil)}
	}
	all := make([]model.Proxied, len(c.at))
	for i, a := range c.at {
		all[i] = c.with(a)
	}
	return all
}

// with describes the connection with the backend of one of its requests; nil is none.
func (c *client) with(a *attempt) model.Proxied {
	x := model.Proxied{Client: addrPortOf(c.RemoteAddr()), Virtual: addrPortOf(c.LocalAddr())}
	if a != nil {
		x.Backend = a.turn.backend.Address
	}
	return x
}

// visit notes that a request of the client is with a backend. A nil client is fine.
func (c *client) visit(a *attempt) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = append(c.at, a)
}

// depart is the end of visit.
func (c *client) depart(a *attempt) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if i := slices.Index(c.at, a); i >= 0 {
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
