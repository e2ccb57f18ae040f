package model

import "net/netip"

// A Proxied is a client's connection, or flow of UDP, through a proxy.
type Proxied struct {
	// Client is who has come, Virtual where to.
	Client, Virtual netip.AddrPort
	// Backend serves it now; not valid while none does.
	Backend netip.AddrPort
}
