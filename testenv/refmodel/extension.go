package refmodel

import "slices"

// What may follow an IPv6 header (RFC 8200, 4).
const (
	HopByHop    = 0
	Routing     = 43
	Fragment    = 44
	NoHeader    = 59 // nothing follows
	Destination = 60
)

const (
	maxExtensions    = 6
	maxExtensionsLen = 256
)

// A chain is what stands between an IPv6 header and its payload.
type chain struct {
	proto uint8 // what follows, if the packet is not odd and no later fragment
	end   int   // of the chain, or of the header that makes the packet odd
	odd   Verdict
	part  part
	id    uint32
	place uint16 // of a fragment, as in a packet
	hides bool
}

// extensions steps over the extension headers of an IPv6 packet that its frame holds.
func extensions(ip []byte) (c chain) {
	total := ipv6.total(ip)
	c = chain{proto: ip[6], end: ipv6.header, odd: PassOff}
	for n := 0; c.odd == PassOff && c.part != laterPart; n++ {
		size := 8
		switch c.proto {
		case HopByHop, Routing, Destination:
			if c.end+size <= total {
				size += 8 * int(ip[c.end+1])
			}
		case Fragment:
		default:
			return c
		}
		at := c.end
		c.end += size
		switch {
		case c.end > total, c.proto == HopByHop && n > 0:
			c.odd = PassMalformed
		case c.proto == Routing && ip[at+3] != 0, n == maxExtensions, c.end-ipv6.header > maxExtensionsLen:
			c.odd = PassOptions
		case c.proto == Fragment && be.Uint16(ip[at+2:])&0xfff9 != 0:
			c.fragment(ip[at:])
		}
		if c.odd == PassOff {
			c.proto = ip[at]
		}
	}
	return c
}

// fragment reads a fragment header that is not atomic.
func (c *chain) fragment(header []byte) {
	follows := slices.Contains([]byte{TCP, UDP, Routing, Destination}, header[0])
	if !follows || c.part == firstPart {
		c.odd = PassFragment
		return
	}
	c.part, c.id = firstPart, be.Uint32(header[4:])
	c.place, c.hides = be.Uint16(header[2:]), header[0] != TCP && header[0] != UDP
	if be.Uint16(header[2:])&0xfff8 != 0 {
		c.part = laterPart
	}
}
