package model

import (
	"net/netip"
	"time"
)

// Defaults of [Bounds].
const (
	DefaultMaxHeader     = 64 << 10
	DefaultHeaderTimeout = 10 * time.Second
	DefaultKeepAlive     = 2 * time.Minute
)

// Bounds are what clients of an HTTP service may take, whatever they ask for. Zero
// is the default or, where there is none, no bound.
type Bounds struct {
	MaxHeader int // bytes of a request's header, its first line included
	MaxURI    int // bytes of what is asked for
	// MaxConnections are those that one client has at once.
	MaxConnections int
	// HeaderTimeout is from a request's first byte to the end of its header,
	// KeepAlive from the end of one request to the first byte of the next.
	HeaderTimeout, KeepAlive time.Duration
	Rate                     Rate // of requests for all routes together
}

// A Rate bounds the requests that each client may make: an address, of IPv6 its
// /64. The zero value does not.
type Rate struct {
	Requests int           // in a Per, from 1 to 1000000
	Per      time.Duration // from 1s to 24h
	Burst    int           // at once, from 1 to 1000000
}

// Access says which clients may make requests. The zero value lets everybody.
// None of the prefixes has bits beyond its length, stands twice or in both lists.
type Access struct {
	// Allow are the networks that may, if there is one; else all may.
	Allow []netip.Prefix
	// Deny are those that may not. Of the prefixes of both lists that a client
	// is in, the longest decides.
	Deny []netip.Prefix
}

// Listed reports whether not everybody may.
func (a *Access) Listed() bool { return len(a.Allow)+len(a.Deny) > 0 }

// Permits reports whether a client may.
func (a *Access) Permits(client netip.Addr) bool {
	may, longest := len(a.Allow) == 0, -1
	look := func(list []netip.Prefix, verdict bool) {
		for _, p := range list {
			if p.Bits() > longest && p.Contains(client) {
				may, longest = verdict, p.Bits()
			}
		}
	}
	look(a.Allow, true)
	look(a.Deny, false)
	return may
}
