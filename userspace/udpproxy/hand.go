package udpproxy

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"time"
)

// A Handed flow is one that goes on in another process.
type Handed struct {
	Client netip.AddrPort // as the socket that it came by has it
	Local  netip.AddrPort // the address of that socket
	// Backend is where Socket goes. Who has the flow closes it.
	Backend netip.AddrPort
	Socket  *os.File
}

// HandOver has the end of each Serve give its flows to take, from its goroutine, in
// place of forgetting them. What a backend has sent by then has gone to the client.
func (p *Proxy) HandOver(take func(Handed)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.take = take
}

// Adopt makes a flow the proxy's, once Serve serves its local address: it must not do
// so yet. One that there is no room for is closed.
func (p *Proxy) Adopt(h Handed) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.given == nil {
		p.given = map[netip.AddrPort][]Handed{}
	}
	p.given[h.Local] = append(p.given[h.Local], h)
}

// adopt gives s the flows that were handed over for it. OnFlow may have been told of
// them, and is told of those that end here.
func (p *Proxy) adopt(s *server) {
	p.mu.Lock()
	all := p.given[s.local]
	delete(p.given, s.local)
	p.mu.Unlock()
	for _, h := range all {
		c, err := socketOf(h)
		if err != nil {
			p.log().Warn("take flow over", "client", h.Client, "err", err)
		}
		placed := err == nil && p.room().take(p)
		p.mu.Lock()
		if placed {
			f := &flow{key: key{h.Client, s.local}, server: s, conn: c, addr: h.Backend, done: func(error) {}, last: time.Now()}
			p.add(f)
			p.silent.push(f)
			s.running.Go(func() { p.answer(f, c) })
		} else if p.OnFlow != nil {
			p.OnFlow(unmap(h.Client), s.local, false)
		}
		p.mu.Unlock()
		if err == nil && !placed {
			c.Close()
		}
	}
}

// socketOf returns the socket of a flow, whose file it closes.
func socketOf(h Handed) (*net.UDPConn, error) {
	c, err := net.FileConn(h.Socket)
	h.Socket.Close()
	if err != nil {
		return nil, err
	}
	udp, ok := c.(*net.UDPConn)
	if !ok {
		c.Close()
		return nil, errKind
	}
	return udp, nil
}

var errKind = errors.New("socket is of another kind")

// handOver gives away the flows that came by s, if somebody takes them. Nobody
// receives for s any more.
func (p *Proxy) handOver(s *server) {
	type pair struct {
		Handed
		flow *flow
	}
	var all []pair
	p.mu.Lock()
	take := p.take
	for _, f := range p.flows {
		if take == nil || f.server != s || f.conn == nil {
			continue
		}
		socket, err := f.conn.File()
		if err != nil {
			p.log().Warn("hand flow over", "client", f.key.client, "err", err)
			continue
		}
		f.conn.Close()
		all = append(all, pair{Handed{f.key.client, s.local, f.addr, socket}, f})
	}
	p.mu.Unlock()
	if len(all) == 0 {
		return
	}
	s.running.Wait() // for answers that were read but have not left yet
	for _, x := range all {
		p.mu.Lock()
		if p.flows[x.flow.key] == x.flow {
			l := p.drop(x.flow)
			p.mu.Unlock()
			leave([]leaving{l})
		} else {
			p.mu.Unlock()
		}
		take(x.Handed)
	}
}
