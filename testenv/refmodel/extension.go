package refmodel

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

// extensions steps over the extension headers of an IPv6 packet that its frame
// holds. The header of proto begins at; if a packet is odd, at is the end of
// the header that makes it so.
func extensions(ip []byte) (proto uint8, at int, odd Verdict) {
	total := ipv6.total(ip)
	proto, at = ip[6], ipv6.header
	for n := 0; ; n++ {
		size := 8
		switch proto {
		case HopByHop, Routing, Destination:
			if at+size <= total {
				size += 8 * int(ip[at+1])
			}
		case Fragment:
		default:
			return proto, at, PassOff
		}
		end := at + size
		switch {
		case end > total, proto == HopByHop && n > 0:
			return proto, end, PassMalformed
		case proto == Routing && ip[at+3] != 0, n == maxExtensions, end-ipv6.header > maxExtensionsLen:
			return proto, end, PassOptions
		case proto == Fragment && be.Uint16(ip[at+2:])&0xfff9 != 0:
			return proto, end, PassFragment
		}
		proto, at = ip[at], end
	}
}
