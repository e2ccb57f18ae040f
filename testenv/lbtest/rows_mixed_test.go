package lbtest

import (
	"net/netip"
	"slices"
	"testing"

	"fairlead/loader"
)

// opened64 and opened46 have a flow of a client of IPv6 and of one of IPv4.
func opened64(w *world) {
	w.tb.Helper()
	w.send(segment6(client6, web6, syn))
}

func opened46(w *world) {
	w.tb.Helper()
	w.send(segment(client, web, syn))
}

// asks64 is a datagram of a client of IPv6 that makes a flow.
func asks64(name string, frame, out []byte, given ...func(*world)) row {
	return row{name: name, given: then(given...), want: loader.LBVerdictFORWARD_REDIRECT, frame: frame, out: out, egress: uplink,
		counts: made("3", uint64(len(frame)-14))}
}

// asks46 is one of IPv4.
func asks46(name string, frame, out []byte, given ...func(*world)) row {
	r := asks64(name, frame, out, given...)
	r.counts = made("5", uint64(len(frame)-14))
	return r
}

// rows64 are clients of IPv6 with backends of IPv4: rule 13.
func rows64() []row {
	const redirect, tx = loader.LBVerdictFORWARD_REDIRECT, loader.LBVerdictFORWARD_TX
	is := func(name string, want loader.Verdict, frame []byte, given ...func(*world)) row {
		return row{name: name, given: then(given...), want: want, frame: frame}
	}
	hello, ask := segment6(client6, web6, syn), datagram6(client6, dns6)
	asked := in4(leavingDatagram(own, dns1), someID)
	classy := edit(ask, 14, 0x6a, 0xb5) // traffic class 0xab
	sumless := edit(ask, 60, 0, 0)
	big, bigger := long6(client6, dns6, 1260-28), long6(client6, dns6, 1261-28)
	answer := segment(back1, own, syn|ack)
	there := fromUs(long4(own, dns1, 1260-28))
	fixed := fromUs(long4(own, dns1, 1261-28))
	return []row{
		{name: "a client of IPv6 opens a connection", want: redirect, frame: hello, out: in4(leaving(own, back1, syn), someID),
			egress: uplink, counts: made("2", 68)},
		{name: "a backend of IPv4 answers", want: tx, given: opened64, frame: answer, out: in6(segment6(web6, client6, syn|ack)),
			counts: counted("2", "reply", 48)},
		{name: "the connection goes on", want: redirect, given: then(opened64, sends(answer)), frame: segment6(client6, web6, ack),
			out: in4(leaving(own, back1, ack), someID), egress: uplink, counts: counted("2", "forward", 68)},
		{name: "a check finds nothing wrong", want: redirect, given: then(opened64, sends(answer), changed), frame: segment6(client6, web6, ack),
			out: in4(leaving(own, back1, ack), someID), egress: uplink, counts: counted("2", "forward", 68)},
		asks64("a client of IPv6 asks", ask, asked),
		asks64("extension headers are left behind", extend(ask, hopByHop, destination), asked),
		asks64("the traffic class becomes the TOS", classy, in4(edit(asked, 15, 0xab), someID)),
		asks64("no UDP checksum stays none in IPv4", sumless, edit(asked, 40, 0, 0)),
		asks64("a packet of 1260 bytes may be cut up", big, in4(there, someID)),
		asks64("a packet of 1261 bytes may not", bigger, in4(fixed, 0)),
		is("a hop limit of 1", loader.LBVerdictANSWER_TIME_EXCEEDED, edit(hello, 21, 1)).answered(answer6(edit(hello, 21, 1), 3, 0, 0)),
		is("a backend is told of its TTL by whom it knows", loader.LBVerdictANSWER_TIME_EXCEEDED, late(answer), opened64).
			answered(timeExceeded(late(answer), own.Addr().AsSlice())),
		{name: "a packet too big for IPv4", want: loader.LBVerdictANSWER_TOO_BIG, given: narrowedMixed(mapped(dns1), 1400),
			frame: long6(client6, dns6, 1401-28), out: answer6(long6(client6, dns6, 1401-28), 2, 0, 1420), counts: flow("3")},
		{name: "no sender is told less than IPv6 asks of each link", want: loader.LBVerdictANSWER_TOO_BIG,
			given: narrowedMixed(mapped(dns1), 1000), frame: big, out: answer6(big, 2, 0, 1280), counts: flow("3")},
		{name: "a packet with extension headers that is too big", want: loader.LBVerdictDROP_TOO_BIG,
			given: narrowedMixed(mapped(dns1), 1000), frame: extend(big, destination), counts: flow("3")},
		is("a source that is not of the backend's family", loader.LBVerdictDROP_TUPLE_TAKEN, hello, func(w *world) {
			w.backend(2, mapped(back1), 1, func(b *loader.Backend) { b.Sources = 4<<16 | 1 })
		}),
		is("a source without ports", loader.LBVerdictDROP_TUPLE_TAKEN, hello, func(w *world) {
			w.control(func(c *loader.Control) { c.SnatPort, c.SnatPorts = own.Port(), 1 })
		}),
		{name: "a service without full NAT has it towards the other family", want: redirect, frame: hello,
			out: in4(leaving(own, back1, syn), someID), egress: uplink, counts: made("2", 68), given: func(w *world) {
				w.service(1, web6, tcp, func(s *loader.Service) { s.Slots, s.SlotsAll = 1, 1 })
			}},
		is("an IPv6 header that names addresses of IPv4", loader.LBVerdictPASS_OTHER, packet6(mapped(back1), mapped(own), tcp, answer[34:], 16), opened64),
		is("an IPv6 header that names a service of IPv4", loader.LBVerdictPASS_OTHER, segment6(client6, mapped(web), syn)),
	}
}

// flow counts a flow that was made, but whose packet was not forwarded.
func flow(backend string) map[string]uint64 {
	return map[string]uint64{"backend " + backend + " flows": 1}
}

// rows46 are clients of IPv4 with backends of IPv6.
func rows46() []row {
	const redirect, tx = loader.LBVerdictFORWARD_REDIRECT, loader.LBVerdictFORWARD_TX
	is := func(name string, want loader.Verdict, frame []byte, given ...func(*world)) row {
		return row{name: name, given: then(given...), want: want, frame: frame}
	}
	hello, ask := segment(client, web, syn), datagram(client, dns)
	asked := in6(datagram6(own6, dnsBack6))
	answer := segment6(webBack6, own6, syn|ack)
	long := long4(client, dns, 1381-28)
	return []row{
		{name: "a client of IPv4 opens a connection", want: redirect, frame: hello, out: in6(segment6(own6, webBack6, syn)),
			egress: uplink, counts: made("4", 48)},
		{name: "a backend of IPv6 answers", want: tx, given: opened46, frame: answer, out: in4(leaving(web, client, syn|ack), someID),
			counts: counted("4", "reply", 68)},
		asks46("a client of IPv4 asks", ask, asked),
		asks46("the TOS becomes the traffic class", in4(edit(ask, 15, 0xab), 7), edit(asked, 14, 0x6a, 0xb0)),
		asks46("padding stays behind the packet", pad(ask, 6), pad(asked, 6)).sized(36),
		asks46("a datagram of IPv4 without a checksum gets one", unsummed(ask), asked),
		asks46("a datagram of many chunks without a checksum gets one", unsummed(long), in6(long6(own6, dnsBack6, 1381-28))),
		asks46("a datagram of an odd length without a checksum gets one", unsummed(long4(client, dns, 63)), in6(long6(own6, dnsBack6, 63))),
		asks46("bytes behind a datagram are no part of its checksum", trailed(unsummed(ask)), trailed6(asked)),
		asks46("a datagram of 1500 bytes gets a checksum", unsummed(long4(client, dns, 1500-28)), in6(long6(own6, dnsBack6, 1500-28)), narrowedMixed(dnsBack6, 9000)),
		is("a datagram of 1501 bytes gets none", loader.LBVerdictDROP_FAMILY, unsummed(long4(client, dns, 1501-28)), narrowedMixed(dnsBack6, 9000)).counting(flow("5")),
		is("a packet that may be cut up is too big for IPv6", loader.LBVerdictDROP_TOO_BIG, long, narrowedMixed(dnsBack6, 1400)).counting(flow("5")),
		{name: "a packet too big for IPv6", want: loader.LBVerdictANSWER_TOO_BIG, given: narrowedMixed(dnsBack6, 1400),
			frame: whole(long), out: unreachable(whole(long), 4, 1380), counts: flow("5")},
		is("a client of IPv4 from nowhere", loader.LBVerdictDROP_SOURCE, segment(netip.MustParseAddrPort("127.0.0.1:4000"), web, syn)),
		is("a network of clients has no credit left", loader.LBVerdictDROP_SOURCE_LIMIT, segment(netip.AddrPortFrom(client.Addr().Next(), 5), web, syn),
			limitedMixed, opened46),
		is("a backend of IPv4 is not fairlead46's", loader.LBVerdictANSWER_RESET, hello, func(w *world) {
			w.backend(4, mapped(back1), 3, func(b *loader.Backend) { b.Sources = 3<<16 | 1 })
			w.control(func(c *loader.Control) { c.MixedPort, c.MixedPorts = own.Port(), 1 })
		}).answered(resetTo(client, web, rst|ack, 0, 0x01020304+8+1)),
		is("a service of IPv4 alone", loader.LBVerdictPASS_PROXY, segment(client, proxy, syn)),
	}
}

// unsummed is a datagram of IPv4 without its checksum.
func unsummed(frame []byte) []byte { return edit(frame, 40, 0, 0) }

// trailed and trailed6 have bytes behind the datagram that are in the packet.
func trailed(frame []byte) []byte {
	out := append(edit(frame, 16, byte((len(frame)-10)>>8), byte(len(frame)-10)), 1, 2, 3, 4)
	sum(out, 24, out[14:34])
	return out
}

func trailed6(frame []byte) []byte {
	return append(edit(frame, 18, byte((len(frame)-50)>>8), byte(len(frame)-50)), 1, 2, 3, 4)
}

// limitedMixed lets each network of 256 clients make one flow of web.
func limitedMixed(w *world) {
	w.tb.Helper()
	w.service(3, mapped(web), tcp, func(s *loader.Service) {
		s.Slots, s.SlotsAll = 2<<32|1, 2<<32|1
		s.Flags |= fullNAT | limited
		s.LimitMask, s.LimitRate, s.LimitBurst = loader.Address{Word: [4]uint32{3: addr32(netip.MustParseAddr("255.255.255.0"))}}, 1, 1
	})
}

// sized is a row whose packet has so many bytes, and not as many as its frame.
func (r row) sized(n uint64) row {
	r.counts = made("5", n)
	return r
}

func (r row) counting(n map[string]uint64) row {
	r.counts = n
	return r
}

func (r row) answered(out []byte) row {
	r.out = out
	return r
}

func mixedRows() []row {
	return slices.Concat(rows64(), rows46(), errorRowsMixed(), fragmentRows64(), fragmentRows46(), strangerRows())
}

func TestEachPacketBetweenFamiliesHasItsEffect(t *testing.T) {
	checkEach(t, newWorldMixed(t, 0), mixedRows())
}

func TestEachFaultBetweenFamiliesIsFound(t *testing.T) {
	findEach(t, newWorldMixed(t, FaultsMixed[0].N), FaultsMixed, mixedRows())
}
