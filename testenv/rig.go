package testenv

import (
	"fmt"
	"net/netip"
)

// Uplink is the name of the interface of clients and backends that leads to
// the balancer.
const Uplink = "balancer"

// RigOptions say what [NewRig] builds.
type RigOptions struct {
	Clients  int // 0 means 1
	Backends int // 0 means 3
	// IPv6 gives every address that of [Six] beside it.
	IPv6 bool
	// Cable holds for every cable of the rig.
	Cable []CableOption
}

// A Rig is a balancer between clients and backends, each on a cable of its
// own. The balancer forwards and is everybody's default route, so that any
// service address leads to it. By index i from 0:
//
//	Clients[i]   10.1.<i+1>.2/24  balancer's end 10.1.<i+1>.1, interface client<i+1>
//	Backends[i]  10.2.<i+1>.2/24  balancer's end 10.2.<i+1>.1, interface backend<i+1>
type Rig struct {
	Balancer *Host
	Clients  []*Host
	Backends []*Host
	// ClientAddrs and BackendAddrs are their addresses; Prev of one is the
	// balancer's address on that cable, [MAC] of which frames go to.
	ClientAddrs, BackendAddrs []netip.Addr
	// ClientLinks and BackendLinks are the balancer's interfaces.
	ClientLinks, BackendLinks []string
}

// NewRig builds a rig that lasts as long as the test.
func NewRig(tb TB, opts RigOptions) *Rig {
	tb.Helper()
	if opts.Clients == 0 {
		opts.Clients = 1
	}
	if opts.Backends == 0 {
		opts.Backends = 3
	}
	r := &Rig{Balancer: NewHost(tb, Uplink)}
	if opts.IPv6 {
		r.Balancer.EnableIPv6(tb)
	}
	r.Balancer.forward(tb)
	for i := range opts.Clients {
		h, addr := r.add(tb, "client", 1, i+1, opts.Cable)
		r.Clients = append(r.Clients, h)
		r.ClientAddrs = append(r.ClientAddrs, addr)
		r.ClientLinks = append(r.ClientLinks, h.Name)
	}
	for i := range opts.Backends {
		h, addr := r.add(tb, "backend", 2, i+1, opts.Cable)
		r.Backends = append(r.Backends, h)
		r.BackendAddrs = append(r.BackendAddrs, addr)
		r.BackendLinks = append(r.BackendLinks, h.Name)
	}
	return r
}

// add cables one host to the balancer and routes everything through it.
func (r *Rig) add(tb TB, role string, side, n int, opts []CableOption) (*Host, netip.Addr) {
	tb.Helper()
	h := NewHost(tb, fmt.Sprintf("%s%d", role, n))
	if r.Balancer.ipv6 {
		h.EnableIPv6(tb)
	}
	gateway := netip.AddrFrom4([4]byte{10, byte(side), byte(n), 1})
	own := gateway.Next()
	Cable(tb, r.Balancer, gateway.String()+"/24", h, own.String()+"/24", opts...)
	h.DefaultRoute(tb, Uplink, gateway)
	return h, own
}

// CountFrames counts what arrives at every client and every backend.
func (r *Rig) CountFrames(tb TB) (clients, backends []*FrameCounter) {
	tb.Helper()
	for _, h := range r.Clients {
		clients = append(clients, h.CountFrames(tb, Uplink))
	}
	for _, h := range r.Backends {
		backends = append(backends, h.CountFrames(tb, Uplink))
	}
	return clients, backends
}
