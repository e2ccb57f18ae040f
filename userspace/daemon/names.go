package daemon

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"fairlead/userspace/model"
	"fairlead/userspace/sni"
	"fairlead/userspace/splice"
)

// A frontNames is what a front of a TLS service has.
type frontNames struct {
	routes    atomic.Pointer[sni.Routes[*pool]]
	pool      func(name string) *pool
	onFailure func(member, error)
	log       *slog.Logger
	gone      context.Context // done when nobody is asked for a name any more
	leave     context.CancelFunc
}

func newFrontNames(s *model.Service, o *frontOptions) *frontNames {
	n := &frontNames{pool: o.pool, onFailure: o.onFailure, log: o.log}
	n.gone, n.leave = context.WithCancel(context.Background())
	n.use(s)
	return n
}

// use makes the names of s decide where connections go from now on.
func (n *frontNames) use(s *model.Service) {
	routes := sni.Routes[*pool]{}
	for _, r := range s.Names {
		routes[r.Name] = n.pool(r.Pool)
	}
	n.routes.Store(&routes)
}

// end lets no connection have a backend any more, and waits for no name.
func (n *frontNames) end() {
	n.routes.Store(nil)
	n.leave()
}

// route returns what serves a client, by the name that it asks for.
func (n *frontNames) route(ctx context.Context, client *net.TCPConn) (none splice.Way) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	defer context.AfterFunc(n.gone, stop)()
	name, err := sni.Peek(ctx, client)
	if err != nil {
		n.log.Debug("no server name", "client", client.RemoteAddr(), "err", err)
		return none
	}
	routes := n.routes.Load()
	if routes == nil {
		return none
	}
	p, ok := routes.Find(name)
	if !ok {
		n.log.Debug("no route", "client", client.RemoteAddr(), "name", name)
		return none
	}
	pick := func(from, local netip.AddrPort, tried []netip.AddrPort) (netip.AddrPort, func(error), bool) {
		if n.routes.Load() == nil {
			return netip.AddrPort{}, nil, false
		}
		return p.tcp.Load().pick(from, local, tried, n.onFailure)
	}
	return splice.Way{
		Pick:      pick,
		First:     func(from, to netip.AddrPort) []byte { return announcement(p.tcp.Load().service.SendProxy, from, to) },
		Connected: func(addr netip.AddrPort, took time.Duration) { p.tcp.Load().connected(addr, took) },
	}
}
