package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"fairlead/userspace/balance"
	"fairlead/userspace/model"
	"fairlead/userspace/splice"
	"fairlead/userspace/udpproxy"
)

// errServiceGone ends what a front runs when its service is removed.
var errServiceGone = errors.New("service was removed")

// A front is a service's user-space proxy: the hot standby behind XDP, or the
// whole of it where XDP cannot run.
type front struct {
	table atomic.Pointer[table]
	tcp   *splice.Proxy   // nil for UDP
	udp   *udpproxy.Proxy // nil for TCP

	stop    context.CancelCauseFunc
	running sync.WaitGroup
	// missing says why the front does not listen, "" if it does.
	missing string
}

// A table is what a front picks from. It does not change.
type table struct {
	picker  *balance.Picker
	service *model.Service
	down    []bool // by index of the service's backends
}

func newTable(s *model.Service, down []bool) *table {
	weights := make([]int, len(s.Backends))
	for i, b := range s.Backends {
		weights[i] = b.Weight
	}
	return &table{balance.NewPicker(balance.RoundRobin(weights)), s, down}
}

// pick returns the next backend for a connection to local.
func (t *table) pick(local netip.AddrPort, tried []netip.AddrPort) (netip.AddrPort, bool) {
	i, ok := t.picker.Pick(func(i uint32) bool {
		return t.down[i] || slices.Contains(tried, dialed(t.service.Backends[i], local))
	})
	if !ok {
		return netip.AddrPort{}, false
	}
	return dialed(t.service.Backends[i], local), true
}

// dialed returns where a connection to local goes at a backend.
func dialed(b model.Backend, local netip.AddrPort) netip.AddrPort {
	if b.Address.Port() == 0 {
		return netip.AddrPortFrom(b.Address.Addr(), local.Port())
	}
	return b.Address
}

// openFront makes a front for s, listening on every port of it. A front that
// cannot listen is not an error: it says so in missing.
func openFront(ctx context.Context, s *model.Service, down []bool, o frontOptions) *front {
	f := &front{}
	f.table.Store(newTable(s, down))
	pick := func(_, local netip.AddrPort, tried []netip.AddrPort) (netip.AddrPort, func(error), bool) {
		addr, ok := f.table.Load().pick(local, tried)
		return addr, nil, ok
	}
	ctx, f.stop = context.WithCancelCause(ctx)
	if s.Protocol == model.UDP {
		f.udp = &udpproxy.Proxy{Pick: pick, Idle: o.udpIdle, OnFlow: o.onFlow, Log: o.log}
	} else {
		f.tcp = &splice.Proxy{Pick: pick, Grace: o.grace, Log: o.log}
	}
	for port := int(s.Listen.Port()); port <= int(s.LastPort); port++ {
		addr := netip.AddrPortFrom(s.Listen.Addr(), uint16(port))
		if err := f.listen(ctx, addr, o.log); err != nil {
			f.missing = listenFault(addr, err)
			o.log.Warn("no standby", "service", s.Name, "reason", f.missing)
			break
		}
	}
	return f
}

// frontOptions are what all fronts share.
type frontOptions struct {
	grace   time.Duration // that TCP connections get at the end
	udpIdle time.Duration
	onFlow  func(client, local netip.AddrPort, open bool)
	log     *slog.Logger
}

// listen serves one port until the front is stopped.
func (f *front) listen(ctx context.Context, addr netip.AddrPort, log *slog.Logger) error {
	var serve func() error
	if f.udp != nil {
		l, err := udpproxy.Listen(ctx, addr)
		if err != nil {
			return err
		}
		serve = func() error { return f.udp.Serve(ctx, l) }
	} else {
		l, err := splice.Listen(ctx, addr)
		if err != nil {
			return err
		}
		serve = func() error { return f.tcp.Serve(ctx, l) }
	}
	f.running.Go(func() {
		if err := serve(); ctx.Err() == nil {
			log.Error("proxy listener broke", "address", addr, "err", err)
		}
	})
	return nil
}

// listenFault says in words why an address cannot be listened on.
func listenFault(addr netip.AddrPort, err error) string {
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		return fmt.Sprintf("another program listens on %s", addr)
	case errors.Is(err, unix.EADDRNOTAVAIL):
		return fmt.Sprintf("this host lacks the address %s; add it: ip address add %s/32 dev lo", addr.Addr(), addr.Addr())
	case errors.Is(err, unix.EACCES):
		return fmt.Sprintf("not allowed to listen on %s: ports below 1024 need root or CAP_NET_BIND_SERVICE", addr)
	}
	return err.Error()
}

// update gives the front another table, and ends what goes to backends that it
// may not go to any more.
func (f *front) update(s *model.Service, down []bool) {
	old := f.table.Load()
	f.table.Store(newTable(s, down))
	for i, b := range old.service.Backends {
		at := slices.IndexFunc(s.Backends, func(n model.Backend) bool { return n.Address == b.Address })
		removed := at < 0
		died := !removed && down[at] && !old.down[i] && (s.OnDown == model.DownReset || s.Protocol == model.UDP)
		if removed || died {
			f.closeBackend(s, b)
		}
	}
}

func (f *front) closeBackend(s *model.Service, b model.Backend) {
	first, last := s.Listen.Port(), s.LastPort
	if b.Address.Port() != 0 {
		last = first // the same for every port
	}
	for port := int(first); port <= int(last); port++ {
		addr := dialed(b, netip.AddrPortFrom(s.Listen.Addr(), uint16(port)))
		if f.udp != nil {
			f.udp.CloseBackend(addr)
		} else {
			f.tcp.CloseBackend(addr)
		}
	}
}

// remove ends the front of a service that is no more: its connections too.
func (f *front) remove() {
	f.stop(errServiceGone)
	s := f.table.Load().service
	for _, b := range s.Backends {
		f.closeBackend(s, b)
	}
}
