package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"fairlead/userspace/host"
	"fairlead/userspace/model"
	"fairlead/userspace/splice"
	"fairlead/userspace/udpproxy"
)

// A listener is the socket of one port.
type listener struct {
	io.Closer
	name string                  // among the sockets of the agent
	stop context.CancelCauseFunc // of what serves it
}

// errPortGone ends what a front runs for a port that its service has left.
var errPortGone = errors.New("service has left the port")

// missing says why the front does not listen, or not on every port; "" if it
// does.
func (f *front) missing() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.why
}

// ports returns the ports that the front listens on.
func (f *front) ports() []uint16 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Sorted(maps.Keys(f.serving))
}

// move gives the front the ports of another version of its service. What it
// serves on ports that stay goes on; the front does not listen on new ones yet.
func (f *front) move(s *model.Service) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.first, f.last = min(f.first, s.Listen.Port()), max(f.last, s.LastPort)
	for port, l := range f.serving {
		if port < s.Listen.Port() || port > s.LastPort {
			delete(f.serving, port)
			f.sockets.park(l.name) // another service may be waiting for the port
			l.Close()
			l.stop(errPortGone)
		}
	}
	f.lacking, f.why = nil, ""
	for port := int(s.Listen.Port()); port <= int(s.LastPort); port++ {
		if f.serving[uint16(port)] == nil {
			f.lacking, f.why = append(f.lacking, uint16(port)), "its ports have changed"
		}
	}
}

// listen serves the ports that the front lacks, as far as it can.
func (f *front) listen(ctx context.Context) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.table.Load().service
	var still []uint16
	f.why = ""
	for _, port := range f.lacking {
		at := netip.AddrPortFrom(s.Listen.Addr(), port)
		if why := f.serve(ctx, at, port != s.Listen.Port()); why != "" {
			still = append(still, port)
			f.why = cmp.Or(f.why, why)
		}
	}
	f.lacking = still
}

// serve listens on an address and serves it until the front is stopped, or has
// left the port. It returns why it cannot. Further ports of a range are counted.
func (f *front) serve(ctx context.Context, at netip.AddrPort, counted bool) (why string) {
	if counted && !f.limits.sockets.take() {
		return fmt.Sprintf("no proxy socket is left for %s: %d are taken by ranges of ports", at, f.limits.sockets.max)
	}
	l, serve, err := f.open(ctx, at)
	if err != nil {
		if counted {
			f.limits.sockets.give()
		}
		return listenFault(at, err)
	}
	ctx, stop := context.WithCancelCause(f.ctx)
	own := &listener{l, nameOf(at, f.table.Load().service.Protocol), stop}
	f.serving[at.Port()] = own
	f.running.Go(func() {
		err := serve(ctx)
		if counted {
			f.limits.sockets.give()
		}
		f.ended(at, own, err)
		stop(nil)
	})
	return ""
}

// open opens the socket of one port and returns it and what serves it.
func (f *front) open(ctx context.Context, at netip.AddrPort) (io.Closer, func(context.Context) error, error) {
	if f.udp != nil {
		l, err := f.sockets.udp(ctx, at)
		return l, func(ctx context.Context) error { return f.serveUDP(ctx, l) }, err
	}
	l, err := f.sockets.tcp(ctx, at)
	if f.http != nil {
		return l, func(ctx context.Context) error { return f.http.proxy.Serve(ctx, l) }, err
	}
	return l, func(ctx context.Context) error { return f.tcp.Serve(ctx, l) }, err
}

// serveUDP serves l once the flows have come that are of a process before this one.
func (f *front) serveUDP(ctx context.Context, l *net.UDPConn) error {
	select {
	case <-f.flowsCame:
		return f.udp.Serve(ctx, l)
	case <-ctx.Done():
		l.Close()
		return context.Cause(ctx)
	}
}

// ended notes that a socket has failed, if that is why it is not served any
// more, so that the port is tried again.
func (f *front) ended(at netip.AddrPort, l *listener, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ctx.Err() != nil || f.serving[at.Port()] != l {
		return
	}
	f.log.Error("proxy listener broke", "address", at, "err", err)
	f.sockets.closed(l.name)
	delete(f.serving, at.Port())
	f.lacking = append(f.lacking, at.Port())
	f.why = err.Error()
}

// checkPorts refuses a state with a service that could not listen because of another
// program, where proxies alone serve. Ports that the agent has itself are not tried.
func (a *agent) checkPorts(ctx context.Context, state *model.State) error {
	var errs []error
	sockets := sync.OnceValues(host.Sockets)
	for i := range state.Services {
		s := &state.Services[i]
		if f := a.fronts[s.Key()]; f != nil && f.table.Load().service.LastPort == s.LastPort {
			continue // it listens, or tries to
		}
		for port := int(s.Listen.Port()); port <= int(s.LastPort); port++ {
			at := netip.AddrPortFrom(s.Listen.Addr(), uint16(port))
			if err := tryPort(ctx, at, s.Protocol); errors.Is(err, unix.EADDRINUSE) && (!a.serves(at, s.Protocol) || a.others(sockets, at, s.Protocol)) {
				errs = append(errs, fmt.Errorf("%w: %s: %s", ErrListen, s.Name, listenFault(at, err)))
				break
			}
		}
	}
	return errors.Join(errs...)
}

// tryPort returns why an address cannot be listened on.
func tryPort(ctx context.Context, at netip.AddrPort, p model.Protocol) error {
	var l io.Closer
	var err error
	if p == model.UDP {
		l, err = udpproxy.Listen(ctx, at)
	} else {
		l, err = splice.Listen(ctx, at)
	}
	if err != nil {
		return err
	}
	return l.Close()
}

// serves reports whether a proxy of the agent is in the way of another one.
func (a *agent) serves(at netip.AddrPort, p model.Protocol) bool {
	for _, f := range a.fronts {
		s := f.table.Load().service
		if s.Protocol == p && excludes(s.Listen.Addr(), at.Addr()) && slices.Contains(f.ports(), at.Port()) {
			return true
		}
	}
	return false
}

// others reports whether another program is in the way, too, where a proxy of the
// agent is: on another address of the port, for who wants all of them.
func (a *agent) others(sockets func() ([]host.Socket, error), at netip.AddrPort, p model.Protocol) bool {
	all, err := sockets()
	if err != nil {
		return false // the proxy will see
	}
	return slices.ContainsFunc(all, func(k host.Socket) bool {
		return k.Protocol == p && k.Addr.Port() == at.Port() && excludes(k.Addr.Addr(), at.Addr()) && !a.has(k)
	})
}

// has reports whether a socket is that of a proxy of the agent.
func (a *agent) has(k host.Socket) bool {
	for _, f := range a.fronts {
		if s := f.table.Load().service; s.Protocol == k.Protocol && s.Listen.Addr() == k.Addr.Addr() && slices.Contains(f.ports(), k.Addr.Port()) {
			return true
		}
	}
	return false
}

// excludes reports whether nobody can listen on one of two addresses while somebody
// does on the other, on the same port. Those of the proxies are of one family.
func excludes(a, b netip.Addr) bool {
	return a.Is4() == b.Is4() && (a == b || a.IsUnspecified() || b.IsUnspecified())
}

// warnUnheard says that the proxies of services do not listen, and what that means.
func (a *agent) warnUnheard(services ...*model.Service) {
	for _, s := range services {
		why := a.fronts[s.Key()].missing()
		if a.lock == nil || s.UserSpace() {
			a.log.Warn("service is not served", "service", s.Name, "reason", why)
		} else {
			a.log.Warn("no standby", "service", s.Name, "reason", why)
		}
	}
}

// listenFault says in words why an address cannot be listened on.
func listenFault(addr netip.AddrPort, err error) string {
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		return fmt.Sprintf("another program listens on %s: stop it, or choose another port", addr)
	case errors.Is(err, unix.EADDRNOTAVAIL):
		return fmt.Sprintf("this host lacks the address %s; add it: ip address add %s/%d dev lo", addr.Addr(), addr.Addr(), addr.Addr().BitLen())
	case errors.Is(err, unix.EACCES):
		return fmt.Sprintf("not allowed to listen on %s: ports below 1024 need root or CAP_NET_BIND_SERVICE", addr)
	}
	return err.Error()
}
