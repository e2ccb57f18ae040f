package daemon

import (
	"net"
	"net/netip"
	"slices"

	"fairlead/userspace/model"
	"fairlead/userspace/origin"
)

// origin returns what reads the PROXY header that a peer owes, nil if it owes none.
func (f *front) origin(peer netip.Addr) func(net.Conn) (client, server netip.AddrPort, err error) {
	a := &f.table.Load().service.AcceptProxy
	if !slices.ContainsFunc(a.From, func(p netip.Prefix) bool { return p.Contains(peer) }) {
		return nil
	}
	return func(c net.Conn) (client, server netip.AddrPort, err error) { return origin.Read(c, a.Timeout) }
}

// first returns what a backend is sent first.
func (t *table) first(client, server netip.AddrPort) []byte {
	return announcement(t.service.SendProxy, client, server)
}

// announcement returns the PROXY header of a version, nothing for none.
func announcement(v model.ProxyVersion, client, server netip.AddrPort) []byte {
	if v == "" {
		return nil
	}
	return origin.Header(v, client, server)
}
