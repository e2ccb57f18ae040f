package lbtest

import (
	"slices"

	"fairlead/loader"
	"fairlead/testenv"
)

// tag returns a copy of a frame with a VLAN tag.
func tag(frame []byte, kind byte) []byte {
	tag := []byte{0x81, 0x00, 0x00, 0x05}
	if kind == 0xa8 {
		tag[0], tag[1] = 0x88, 0xa8
	}
	return slices.Insert(slices.Clone(frame), 12, tag...)
}

// withOptions returns a copy of an untagged frame with 4 bytes of IP options.
func withOptions(frame []byte) []byte {
	out := slices.Insert(slices.Clone(frame), 34, 1, 1, 1, 0)
	out[14] = 0x46
	out[17] += 4
	return out
}

func draining(w *world) {
	w.control(func(c *loader.Control) { c.Mode = uint32(loader.LBControlModeMODE_DRAINING) })
}

// passRows are packets that are not ours, or not to be read: rule 1.
func passRows() []row {
	hello := segment(client, web, syn)
	stranger := segment(client, other, syn)
	return []row{
		{name: "the switch is off", want: loader.LBVerdictPASS_OFF, frame: hello,
			given: func(w *world) { w.control(func(c *loader.Control) { c.Mode = 0 }) }},
		{name: "an address of nobody", want: loader.LBVerdictPASS_OTHER, frame: stranger},
		{name: "another port of a service's address", want: loader.LBVerdictPASS_OTHER, frame: edit(hello, 37, 81)},
		{name: "another protocol to a service's port", want: loader.LBVerdictPASS_OTHER, frame: datagram(client, web)},
		{name: "a service whose row is free", want: loader.LBVerdictPASS_OTHER, frame: hello,
			given: func(w *world) { w.service(1, web, tcp, func(s *loader.Service) { s.State = 0 }) }},
		{name: "a frame for everybody", want: loader.LBVerdictPASS_OTHER, frame: edit(hello, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)},
		{name: "ARP", want: loader.LBVerdictPASS_OTHER, frame: edit(hello, 12, 0x08, 0x06)},
		{name: "nothing but an Ethernet header", want: loader.LBVerdictPASS_OTHER, frame: hello[:14]},
		{name: "a frame that ends in the IP header", want: loader.LBVerdictPASS_OTHER, frame: hello[:33]},
		{name: "IP of another version", want: loader.LBVerdictPASS_OTHER, frame: edit(hello, 14, 0x55)},
		{name: "neither TCP nor UDP", want: loader.LBVerdictPASS_OTHER, frame: edit(hello, 23, 89)},
		{name: "a fragment for nobody", want: loader.LBVerdictPASS_OTHER, frame: edit(stranger, 20, 0x20)},
		{name: "don't fragment is no fragment", want: loader.LBVerdictPASS_OTHER, frame: edit(stranger, 20, 0x40)},
		{name: "IP options", want: loader.LBVerdictPASS_OPTIONS, frame: withOptions(hello)},
		{name: "a VLAN tag", want: loader.LBVerdictPASS_VLAN, frame: tag(hello, 0)},
		{name: "two VLAN tags", want: loader.LBVerdictPASS_VLAN, frame: tag(tag(hello, 0), 0xa8)},
		{name: "three VLAN tags", want: loader.LBVerdictPASS_OTHER, frame: tag(tag(tag(hello, 0), 0), 0xa8)},
		{name: "a VLAN tag for nobody", want: loader.LBVerdictPASS_OTHER, frame: tag(stranger, 0)},
		{name: "a frame that ends in a VLAN tag", want: loader.LBVerdictPASS_OTHER, frame: tag(hello, 0)[:15]},
		{name: "ICMP of a type that nobody knows", want: loader.LBVerdictPASS_ICMP, frame: edit(hello, 23, 1)},
		{name: "a header of four words", want: loader.LBVerdictPASS_MALFORMED, frame: edit(hello, 14, 0x44)},
		{name: "a packet shorter than its header", want: loader.LBVerdictPASS_MALFORMED, frame: edit(hello, 16, 0, 19)},
		{name: "a packet one byte longer than its frame", want: loader.LBVerdictPASS_MALFORMED, frame: edit(hello, 17, hello[17]+1)},
		{name: "seven bytes after the IP header", want: loader.LBVerdictPASS_MALFORMED, frame: edit(hello, 16, 0, 27)},
	}
}

// openRows are packets without a flow that make none, or a first one: rule 3.
func openRows() []row {
	hello := segment(client, web, syn)
	ask := datagram(client, dns)
	none := testenv.UDPFrame(testenv.FrameSpec{Src: client, Dst: dns, Payload: []byte("fairlead"), NoChecksum: true})
	from := func(first byte) []byte { return edit(hello, 26, first) }
	return []row{
		{name: "a SYN makes a flow", want: loader.LBVerdictFORWARD_REDIRECT, frame: hello,
			out: toBackend(back1, syn), egress: uplink, counts: made("2", 48)},
		{name: "padding leaves as it came", want: loader.LBVerdictFORWARD_REDIRECT, frame: pad(hello, 6),
			out: pad(toBackend(back1, syn), 6), egress: uplink, counts: made("2", 48)},
		{name: "a jumbo frame leaves whole", want: loader.LBVerdictFORWARD_REDIRECT, frame: jumbo(hello, 8000),
			given: narrowed(back1, 9000),
			out:   jumbo(toBackend(back1, syn), 8000), egress: uplink, counts: made("2", 48+8000)},
		{name: "a service without backend ports keeps the client's", want: loader.LBVerdictFORWARD_REDIRECT, frame: hello,
			given: func(w *world) { w.put(loader.LBMapTurns, uint32(1), uint64(1)) },
			out:   toBackend(back2, syn), egress: uplink, counts: made("3", 48)},
		{name: "a backend behind the ingress is sent to with XDP_TX", want: loader.LBVerdictFORWARD_TX, frame: hello,
			given: func(w *world) { w.route(back1, RouteFound, Ingress) },
			out:   toBackend(back1, syn), counts: made("2", 48)},
		{name: "a datagram makes a flow", want: loader.LBVerdictFORWARD_REDIRECT, frame: ask,
			out: testenv.UDPFrame(testenv.FrameSpec{Src: client, Dst: dns1, SrcMAC: testenv.MAC(router),
				TTL: 63, Payload: []byte("fairlead")}),
			egress: uplink, counts: made("4", 36)},
		{name: "no UDP checksum stays none", want: loader.LBVerdictFORWARD_REDIRECT, frame: none,
			out: testenv.UDPFrame(testenv.FrameSpec{Src: client, Dst: dns1, SrcMAC: testenv.MAC(router),
				TTL: 63, Payload: []byte("fairlead"), NoChecksum: true}),
			egress: uplink, counts: made("4", 36)},
		zeroChecksum(),
		deadAgents(),
		{name: "a wrong checksum stays as wrong", want: loader.LBVerdictFORWARD_REDIRECT, frame: wrong(hello),
			out: wrong(toBackend(back1, syn)), egress: uplink, counts: made("2", 48)},
		{name: "a TCP header beyond the packet", want: loader.LBVerdictDROP_MALFORMED, frame: edit(hello, 46, 8<<4)},
		{name: "a TCP header of four words", want: loader.LBVerdictDROP_MALFORMED, frame: edit(hello, 46, 4<<4)},
		{name: "a UDP length beyond the packet", want: loader.LBVerdictDROP_MALFORMED, frame: edit(pad(ask, 1), 39, 17)},
		{name: "a UDP length of seven", want: loader.LBVerdictDROP_MALFORMED, frame: edit(ask, 39, 7)},
		{name: "a service of the proxy", want: loader.LBVerdictPASS_PROXY, frame: segment(client, proxy, syn)},
		{name: "no flow and no SYN", want: loader.LBVerdictPASS_NO_FLOW, frame: segment(client, web, ack)},
		{name: "SYN and ACK make no flow", want: loader.LBVerdictPASS_NO_FLOW, frame: segment(client, web, syn|ack)},
		{name: "no flow and no SYN, to an address that is not local", want: loader.LBVerdictDROP_NO_FLOW,
			frame: segment(client, remote, ack)},
		{name: "a SYN while draining", want: loader.LBVerdictPASS_DRAINING, frame: hello, given: draining},
		{name: "a datagram of the standby proxy's", want: loader.LBVerdictPASS_STANDBY, frame: ask,
			given: func(w *world) { w.put(loader.LBMapStandby, flowKey(udp, client, dns), uint32(1)) }},
		{name: "a source of net 0", want: loader.LBVerdictDROP_SOURCE, frame: from(0),
			given: func(w *world) { w.anyRoute(0) }},
		{name: "a loopback source", want: loader.LBVerdictDROP_SOURCE, frame: from(127),
			given: func(w *world) { w.anyRoute(127) }},
		{name: "a multicast source", want: loader.LBVerdictDROP_SOURCE, frame: from(224),
			given: func(w *world) { w.anyRoute(224) }},
		{name: "a source that is the host's own", want: loader.LBVerdictDROP_SOURCE, frame: hello,
			given: func(w *world) { w.route(client, RouteNotForwarded, 0) }},
		{name: "a client without a way back", want: loader.LBVerdictDROP_NO_ROUTE, frame: hello,
			given: func(w *world) { w.route(client, RouteBlackhole, 0) }},
		{name: "a client whose neighbour is not known", want: loader.LBVerdictFORWARD_REDIRECT, frame: hello,
			given: func(w *world) { w.route(client, RouteNoNeighbour, 0) },
			out:   toBackend(back1, syn), egress: uplink, counts: made("2", 48)},
	}
}
