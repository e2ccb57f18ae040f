package lbtest

import (
	"encoding/binary"
	"net/netip"

	"fairlead/loader"
	"fairlead/testenv"
)

// error4 and error6 are ICMP errors that quote an IP packet.
func error4(src, dst netip.AddrPort, kind, code byte, rest uint32, quote []byte) []byte {
	f := icmp(testenv.FrameSpec{Src: src, Dst: dst}, kind, quote)
	f[35] = code
	binary.BigEndian.PutUint32(f[38:], rest)
	sum(f, 36, f[34:])
	return f
}

func error6(src, dst netip.AddrPort, kind, code byte, rest uint32, quote []byte) []byte {
	header := binary.BigEndian.AppendUint32([]byte{kind, code, 0, 0}, rest)
	return packet6(src, dst, 58, append(header, quote...), 2)
}

// An answer is what the receiver of a packet, or a router on its way, says of it.
type answer struct {
	kind, code byte
	rest       uint32 // an MTU, or a place
}

// errorRowsMixed are errors about packets between families: rule 13.7.
func errorRowsMixed() []row {
	const redirect, tx = loader.LBVerdictFORWARD_REDIRECT, loader.LBVerdictFORWARD_TX
	// What has left to the backends, and to the clients; and as it was sent, but for the TTL.
	to4, from6 := in4(leaving(own, back1, syn), someID)[14:], left6(segment6(client6, web6, syn))[14:]
	to6, from4 := left6(segment6(own6, webBack6, syn))[14:], in4(leaving(client, web, syn), 0)[14:]
	back6, sent4 := left6(segment6(web6, client6, syn|ack))[14:], in4(leaving(back1, own, syn|ack), 0)[14:]
	back4, sent6 := in4(leaving(web, client, syn|ack), someID)[14:], left6(segment6(webBack6, own6, syn|ack))[14:]
	answered64, answered46 := then(opened64, sends(segment(back1, own, syn|ack))), then(opened46, sends(segment6(webBack6, own6, syn|ack)))

	fromRouter4 := func(name string, was, is answer, n4, n6 int) row {
		return row{name: name, given: opened64, want: tx, frame: error4(hop, own, was.kind, was.code, was.rest, to4[:n4]),
			out: left6(error6(web6, client6, is.kind, is.code, is.rest, from6[:n6])), counts: counted("2", "reply", uint64(28+n4))}
	}
	fromRouter6 := func(name string, was, is answer, n6, n4 int) row {
		return row{name: name, given: opened46, want: tx, frame: error6(hop6, own6, was.kind, was.code, was.rest, to6[:n6]),
			out: in4(fromUs(error4(web, client, is.kind, is.code, is.rest, from4[:n4])), someID), counts: counted("4", "reply", uint64(48+n6))}
	}
	refused := func(r row) row {
		r.want, r.out, r.counts = loader.LBVerdictDROP_FAMILY, nil, nil
		return r
	}
	port4, port6 := answer{3, 3, 0}, answer{1, 4, 0}
	short := fromRouter4("a router of IPv4 that does not tell the MTU", answer{3, 4, 0}, answer{2, 0, 1280}, 28, 48)
	return []row{
		fromRouter4("a client of IPv6 learns that a port is closed", port4, port6, 28, 48),
		fromRouter4("all of a segment is quoted to IPv6", port4, port6, len(to4), len(from6)),
		fromRouter4("a router of IPv4 tells the MTU", answer{3, 4, 1400}, answer{2, 0, 1420}, 28, 48), short,
		fromRouter4("a host of IPv4 is not there", answer{3, 1, 0}, answer{1, 0, 0}, 28, 48),
		fromRouter4("a host of IPv4 must not be reached", answer{3, 13, 0}, answer{1, 1, 0}, 28, 48),
		fromRouter4("a packet's time is exceeded in IPv4", answer{11, 1, 0}, answer{3, 1, 0}, 28, 48),
		fromRouter4("a protocol is unknown in IPv4", answer{3, 2, 0}, answer{4, 1, 6}, 28, 48),
		fromRouter4("an IPv4 header has a bad length", answer{12, 2, 3 << 24}, answer{4, 0, 4}, 28, 48),
		fromRouter4("an IPv4 header has a bad source", answer{12, 0, 12 << 24}, answer{4, 0, 8}, 28, 48),
		refused(fromRouter4("an IPv4 header has a bad checksum", answer{12, 0, 10 << 24}, answer{}, 28, 48)),
		refused(fromRouter4("an IPv4 header lacks an option", answer{12, 1, 0}, answer{}, 28, 48)),
		refused(fromRouter4("a net of IPv4 is not known to be there", answer{3, 14, 0}, answer{}, 28, 48)),
		fromRouter6("a client of IPv4 learns that a port is closed", port6, port4, 48, 28),
		fromRouter6("all of a segment is quoted to IPv4", port6, port4, len(to6), len(from4)),
		fromRouter6("a router of IPv6 tells the MTU", answer{2, 0, 1400}, answer{3, 4, 1380}, 48, 28),
		fromRouter6("a router of IPv6 tells less than the least MTU", answer{2, 0, 500}, answer{3, 4, 1260}, 48, 28),
		fromRouter6("a router of IPv6 tells more than an MTU", answer{2, 0, 1 << 20}, answer{3, 4, 65515}, 48, 28),
		fromRouter6("a host of IPv6 is not there", answer{1, 3, 0}, answer{3, 1, 0}, 48, 28),
		fromRouter6("a host of IPv6 must not be reached", answer{1, 1, 0}, answer{3, 10, 0}, 48, 28),
		fromRouter6("a packet's time is exceeded in IPv6", answer{3, 0, 0}, answer{11, 0, 0}, 48, 28),
		fromRouter6("a next header is unknown in IPv6", answer{4, 1, 6}, answer{3, 2, 0}, 48, 28),
		fromRouter6("an IPv6 header has a bad hop limit", answer{4, 0, 7}, answer{12, 0, 8 << 24}, 48, 28),
		fromRouter6("an IPv6 header has a bad destination", answer{4, 0, 39}, answer{12, 0, 16 << 24}, 48, 28),
		refused(fromRouter6("an IPv6 header has a bad flow label", answer{4, 0, 2}, answer{}, 48, 28)),
		refused(fromRouter6("an IPv6 header has a bad option", answer{4, 2, 40}, answer{}, 48, 28)),
		{name: "a backend of IPv4 learns of its segment", given: answered64, want: redirect, egress: uplink,
			frame:  error6(hop6, web6, 2, 0, 1300, back6[:48]),
			out:    in4(fromUs(error4(own, back1, 3, 4, 1280, sent4[:28])), someID),
			counts: counted("2", "forward", 96)},
		{name: "a backend of IPv6 learns of its segment to an address that has another service", given: answered46, want: redirect, egress: uplink,
			frame: error4(hop, web, 3, 4, 1300, back4[:28]), out: left6(error6(own6, webBack6, 2, 0, 1320, sent6[:48])),
			counts: counted("4", "forward", 56)},
	}
}
