package daemon

import (
	"cmp"
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
	log   *slog.Logger

	ctx     context.Context // of what runs
	stop    context.CancelCauseFunc
	running sync.WaitGroup

	mu sync.Mutex
	// lacking are the ports that the front does not listen on, in order, why
	// is about the first of them.
	lacking []uint16
	why     string
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
// cannot listen is not an error: see missing.
func openFront(ctx context.Context, s *model.Service, down []bool, o frontOptions) *front {
	f := &front{log: o.log}
	f.table.Store(newTable(s, down))
	pick := func(_, local netip.AddrPort, tried []netip.AddrPort) (netip.AddrPort, func(error), bool) {
		addr, ok := f.table.Load().pick(local, tried)
		return addr, nil, ok
	}
	f.ctx, f.stop = context.WithCancelCause(ctx)
	if s.Protocol == model.UDP {
		f.udp = &udpproxy.Proxy{Pick: pick, Idle: o.udpIdle, OnFlow: o.onFlow, Log: o.log}
	} else {
		f.tcp = &splice.Proxy{Pick: pick, Grace: o.grace, Log: o.log}
	}
	for port := int(s.Listen.Port()); port <= int(s.LastPort); port++ {
		f.lacking = append(f.lacking, uint16(port))
	}
	f.listen(ctx)
	return f
}

// frontOptions are what all fronts share.
type frontOptions struct {
	grace   time.Duration // that TCP connections get at the end
	udpIdle time.Duration
	onFlow  func(client, local netip.AddrPort, open bool)
	log     *slog.Logger
}

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
	lacking := map[uint16]bool{}
	for _, port := range f.lacking {
		lacking[port] = true
	}
	var all []uint16
	s := f.table.Load().service
	for port := int(s.Listen.Port()); port <= int(s.LastPort); port++ {
		if !lacking[uint16(port)] {
			all = append(all, uint16(port))
		}
	}
	return all
}

// listen serves the ports that the front lacks, as far as it can.
func (f *front) listen(ctx context.Context) {
	f.mu.Lock()
	defer f.mu.Unlock()
	addr := f.table.Load().service.Listen.Addr()
	still := f.lacking[:0]
	f.why = ""
	for _, port := range f.lacking {
		at := netip.AddrPortFrom(addr, port)
		serve, err := f.open(ctx, at)
		if err != nil {
			still = append(still, port)
			f.why = cmp.Or(f.why, listenFault(at, err))
			continue
		}
		f.running.Go(func() {
			if err := serve(); f.ctx.Err() == nil {
				f.broke(at, err)
			}
		})
	}
	f.lacking = still
}

// open opens the socket of one port and returns what serves it until the front
// is stopped.
func (f *front) open(ctx context.Context, at netip.AddrPort) (serve func() error, err error) {
	if f.udp != nil {
		l, err := udpproxy.Listen(ctx, at)
		return func() error { return f.udp.Serve(f.ctx, l) }, err
	}
	l, err := splice.Listen(ctx, at)
	return func() error { return f.tcp.Serve(f.ctx, l) }, err
}

// broke notes that a socket has failed, so that the port is tried again.
func (f *front) broke(at netip.AddrPort, err error) {
	f.log.Error("proxy listener broke", "address", at, "err", err)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lacking = append(f.lacking, at.Port())
	f.why = err.Error()
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

// remove ends the front of a service that is no more, its connections too, and
// waits for it.
func (f *front) remove() {
	s := f.table.Load().service
	none := *s
	none.Backends = nil
	f.table.Store(newTable(&none, nil)) // what is only being connected finds nobody
	f.stop(errServiceGone)
	for _, b := range s.Backends {
		f.closeBackend(s, b)
	}
	f.running.Wait()
}
