package model

import (
	"net/netip"
	"slices"
)

// Clients say who may make flows of a service, and how many. The zero value
// lets everybody make any number. What is open already is not judged.
//
// Prefixes are of the family of the service's address, without bits beyond their
// length, and none stands twice or in both lists.
type Clients struct {
	// Allow are the networks that may, if there is one; else all may.
	Allow []netip.Prefix
	// Deny are those that may not. Of the prefixes of both lists that a client
	// is in, the longest decides.
	Deny  []netip.Prefix
	Limit Limit
}

// A Limit bounds the flows that each network of clients may make. With a Rate
// of 0 there is none.
type Limit struct {
	Rate   int // flows per second, at most 1000000
	Burst  int // flows at once, from 1 to 1000000
	Prefix int // length of a network's prefix, from 8 to 32, for IPv6 from 32 to 128
}

// Listed reports whether not every client may make flows.
func (c *Clients) Listed() bool { return len(c.Allow)+len(c.Deny) > 0 }

// Rules returns which networks may make flows (true) and which may not, with a
// rule for 0.0.0.0/0 or ::/0 that is for everybody else. It is nil if c is not
// Listed.
func (c *Clients) Rules() map[netip.Prefix]bool {
	if !c.Listed() {
		return nil
	}
	everybody := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	if slices.Concat(c.Allow, c.Deny)[0].Addr().Is6() {
		everybody = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	rules := map[netip.Prefix]bool{everybody: len(c.Allow) == 0}
	for _, p := range c.Allow {
		rules[p] = true
	}
	for _, p := range c.Deny {
		rules[p] = false
	}
	return rules
}

// Equal reports whether c and d are the same in every word.
func (c *Clients) Equal(d *Clients) bool {
	return c.Limit == d.Limit && slices.Equal(c.Allow, d.Allow) && slices.Equal(c.Deny, d.Deny)
}

// An Admission says whether a client may make a flow and, if not, why.
type Admission int

// The admissions.
const (
	Admitted Admission = iota
	Denied             // by the lists
	Limited            // its network makes too many
)
