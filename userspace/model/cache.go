package model

import (
	"net/netip"
	"time"
)

// A Cache bounds what is stored of the answers that the backends of a service
// give. Its routes say whether anything is.
type Cache struct {
	// Size is how many bytes are stored, and MaxBody how many an answer may
	// have that is.
	Size, MaxBody int64
	// StaleIfError is for how long after it is fresh an answer may be used while
	// no backend answers, unless it says so itself. 0 is not at all.
	StaleIfError time.Duration
	// Purge are the networks of clients that may make it forget something.
	Purge []netip.Prefix
}

// DefaultCache returns the bounds of a cache of which nothing is said.
func DefaultCache() Cache {
	return Cache{Size: 64 << 20, MaxBody: 4 << 20, StaleIfError: time.Minute}
}
