package refmodel

// A family is what IPv4 and IPv6 do differently.
type family struct {
	kind          uint16 // of Ethernet
	version       byte
	header        int // length, without options and extension headers
	ttl, src, dst int // where they are in the header; dst is its end
	icmp          uint8
	unreachable   [2]byte // type and code of port unreachable
	tooBig        [2]byte // and of too big
	timeExceeded  [2]byte
	problem       uint8   // type of parameter problem
	echo          [2]byte // types of the request and of the reply
	leastMTU      uint16  // that every host, or link, has
}

var ipv4 = family{
	kind: 0x0800, version: 4, header: 20, ttl: 8, src: 12, dst: 16, icmp: ICMP,
	unreachable: [2]byte{icmpUnreachable, 3}, tooBig: [2]byte{icmpUnreachable, 4}, timeExceeded: [2]byte{icmpTimeExceeded, 0},
	problem: icmpParameterProblem,
	echo:    [2]byte{icmpEchoRequest, icmpEchoReply}, leastMTU: 576,
}

var ipv6 = family{
	kind: 0x86dd, version: 6, header: 40, ttl: 7, src: 8, dst: 24, icmp: ICMPv6,
	unreachable: [2]byte{icmp6Unreachable, 4}, tooBig: [2]byte{icmp6TooBig, 0}, timeExceeded: [2]byte{icmp6TimeExceeded, 0},
	problem: icmp6ParameterProblem,
	echo:    [2]byte{icmp6EchoRequest, icmp6EchoReply}, leastMTU: 1280,
}

// addrs are the addresses of an IP header.
func (f *family) addrs(ip []byte) (src, dst Addr) {
	return AddrFrom(ip[f.src:f.dst]), AddrFrom(ip[f.dst:f.header])
}

// total is the total length that a header tells.
func (f *family) total(ip []byte) int {
	if f == &ipv4 {
		return int(be.Uint16(ip[2:]))
	}
	return f.header + int(be.Uint16(ip[4:]))
}

// readdress gives a header other addresses and brings its checksum, if it has
// one, up to date with all that is not as in was.
func (f *family) readdress(ip, was []byte, src, dst Addr) {
	f.write(ip, src, dst)
	if f == &ipv4 {
		updateSum(ip[10:12], was[:f.header], ip[:f.header])
	}
}

// write puts addresses into a header.
func (f *family) write(ip []byte, src, dst Addr) {
	if f == &ipv4 {
		src, dst = src.Unmap(), dst.Unmap()
	}
	copy(ip[f.src:], src.AsSlice())
	copy(ip[f.dst:], dst.AsSlice())
}

// answer writes the header of an answer of this many bytes.
func (f *family) answer(ip []byte, src, dst Addr, proto uint8) {
	ip[0] = f.version << 4
	ip[f.ttl] = 64
	if f == &ipv4 {
		ip[0] |= 5
		be.PutUint16(ip[2:], uint16(len(ip)))
		be.PutUint16(ip[6:], 0x4000) // don't fragment
		ip[9] = proto
	} else {
		be.PutUint16(ip[4:], uint16(len(ip)-f.header))
		ip[6] = proto
	}
	f.write(ip, src, dst)
	if f == &ipv4 {
		be.PutUint16(ip[10:], Checksum(ip[:f.header]))
	}
}
