package lbtest

import (
	"net/netip"

	"fairlead/loader"
	"fairlead/testenv"
)

// oddRows are packets that no honest host sends often, which no other table
// has: the one at the end of docs/datapath.md names a row for each kind.
func oddRows() []row {
	hello, stranger := segment(client, web, syn), segment(client, other, syn)
	ask := datagram(client, dns)
	from := func(first, second byte) []byte { return edit(hello, 26, first, second) }
	trailed := pad(ask, 4) // four bytes of the packet are not the datagram's
	trailed[17] += 4
	sum(trailed, 24, trailed[14:34])
	left := edit(leavingDatagram(client, dns1), 17, trailed[17])
	sum(left, 24, left[14:34])
	bare := numbered(client, web, ack, 1, 0x01020305)
	out := testenv.TCPFrame(testenv.FrameSpec{
		Src: client, Dst: back1, SrcMAC: testenv.MAC(router), TTL: 63, Flags: ack, Seq: 1, Ack: 0x01020305,
	})
	toAll := segment(client, netip.MustParseAddrPort("255.255.255.255:80"), syn)
	return []row{
		{name: "IP options for nobody", want: loader.LBVerdictPASS_OTHER, frame: withOptions(stranger)},
		{name: "a packet for everybody in a frame for one", want: loader.LBVerdictPASS_OTHER, frame: toAll},
		{name: "a source of class E", want: loader.LBVerdictDROP_SOURCE, frame: from(240, 0),
			given: func(w *world) { w.anyRoute(240) }},
		{name: "a source that is everybody", want: loader.LBVerdictDROP_SOURCE, frame: edit(hello, 26, 255, 255, 255, 255)},
		{name: "a source that is the service's", want: loader.LBVerdictDROP_SOURCE, frame: segment(netip.AddrPortFrom(web.Addr(), 40000), web, syn)},
		{name: "a source that is the service's, whose address is not local", want: loader.LBVerdictDROP_SOURCE,
			frame: segment(remote, remote, syn), given: func(w *world) { w.route(remote, RouteFound, Ingress) }},
		{name: "a TCP header that the packet does not hold", want: loader.LBVerdictDROP_MALFORMED, frame: edit(hello, 16, 0, 39)},
		{name: "bytes behind a datagram", want: loader.LBVerdictFORWARD_REDIRECT, frame: trailed, out: pad(left, 4),
			egress: uplink, counts: made("4", 40)},
		{name: "an ACK padded to the least frame", given: answered, want: loader.LBVerdictFORWARD_REDIRECT,
			frame: pad(bare, 6), out: pad(out, 6), egress: uplink, counts: counted("2", "forward", 40)},
		{name: "TTL 1 for nobody", want: loader.LBVerdictPASS_OTHER, frame: edit(stranger, 22, 1)},
		{name: "a VLAN tag of priority alone", want: loader.LBVerdictPASS_VLAN, frame: edit(tag(hello, 0), 14, 0xe0, 0)},
	}
}

// bufferRows are frames in several buffers, of which the first is as long as
// linear says.
func bufferRows() []row {
	hello, ask := jumbo(segment(client, web, syn), 8000), datagram(client, dns)
	sent := row{want: loader.LBVerdictFORWARD_REDIRECT, frame: hello, out: jumbo(toBackend(back1, syn), 8000), egress: uplink, counts: made("2", 48+8000)}
	asks := row{want: loader.LBVerdictFORWARD_REDIRECT, frame: ask, out: leavingDatagram(client, dns1), egress: uplink, counts: made("4", 36)}
	torn := row{want: loader.LBVerdictPASS_MALFORMED, frame: hello}
	at := func(name string, linear int, r row) row {
		r.linear = linear
		return r.as(name, narrowed(back1, 9000))
	}
	text := make([]byte, 8000)
	ping := row{want: loader.LBVerdictANSWER_ECHO, frame: echo(testenv.FrameSpec{Src: client, Dst: web}, echoRequest, text), out: pong(web, text)}
	unread := row{want: loader.LBVerdictPASS_ICMP, frame: ping.frame}
	return []row{
		at("the first buffer ends with the TCP header", 54, sent),
		at("the first buffer ends in the TCP header", 53, torn),
		at("the first buffer ends with the UDP header", 42, asks),
		at("the first buffer ends in the UDP header", 41, row{want: loader.LBVerdictPASS_MALFORMED, frame: ask}),
		at("the first buffer ends in the IP header", 33, row{want: loader.LBVerdictPASS_OTHER, frame: hello}),
		at("the first buffer ends with the header of a ping", 42, ping),
		at("the first buffer ends in the header of a ping", 41, unread),
		at("the first buffer ends in a VLAN tag", 17, row{want: loader.LBVerdictPASS_OTHER, frame: tag(hello, 0)}),
	}
}
