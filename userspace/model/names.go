package model

import (
	"net/netip"
	"time"
)

// A Name is what DNS has addresses for. The zero value is none.
type Name struct {
	// Host is in lower case, complete, without a dot at its end.
	Host string
	// SRV says that there are SRV records under it, which name hosts, ports and
	// weights.
	SRV bool
}

// A Resolver says how names are looked up.
type Resolver struct {
	// Servers are asked in this order; none: those of /etc/resolv.conf.
	Servers []netip.AddrPort
	Timeout time.Duration // of one try
	// MinTTL and MaxTTL bound how long an answer is good for, whatever it says
	// itself. After a failed look-up the next is MinTTL later.
	MinTTL, MaxTTL time.Duration
}

// Defaults of a Resolver.
const (
	DefaultDNSTimeout = 2 * time.Second
	DefaultMinTTL     = 5 * time.Second
	DefaultMaxTTL     = 5 * time.Minute
)

// WithDefaults returns r with every zero time set to its default.
func (r Resolver) WithDefaults() Resolver {
	for p, usual := range map[*time.Duration]time.Duration{&r.Timeout: DefaultDNSTimeout, &r.MinTTL: DefaultMinTTL, &r.MaxTTL: DefaultMaxTTL} {
		if *p == 0 {
			*p = usual
		}
	}
	return r
}

// Named reports whether a backend of the service has a name.
func (s *Service) Named() bool {
	for i := range s.Backends {
		if s.Backends[i].Name.Host != "" {
			return true
		}
	}
	return false
}
