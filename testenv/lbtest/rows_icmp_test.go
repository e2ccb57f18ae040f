package lbtest

import (
	"encoding/binary"
	"net/netip"

	"fairlead/loader"
	"fairlead/testenv"
)

// Types of ICMP.
const (
	unreach  = 3
	exceeded = 11
	problem  = 12
)

// hop is a router somewhere, and of no ports.
var hop = netip.MustParseAddrPort("192.0.2.7:0")

// icmp is a packet of this type, with code 4.
func icmp(spec testenv.FrameSpec, kind byte, quote []byte) []byte {
	spec.Payload = quote
	f := testenv.UDPFrame(spec)
	f[23] = 1
	sum(f, 24, f[14:34])
	copy(f[34:], []byte{kind, 4, 0, 0, 0, 0, 1400 >> 8, 1400 & 0xff})
	sum(f, 36, f[34:])
	return f
}

// tellService is what the hop says of a packet to the client, and toldBackend
// what a backend hears of it.
func tellService(quote []byte) []byte {
	return icmp(testenv.FrameSpec{Src: hop, Dst: web}, unreach, quote)
}

func toldBackend(to netip.AddrPort, quote []byte) []byte {
	return icmp(testenv.FrameSpec{Src: hop, Dst: to, SrcMAC: testenv.MAC(router), TTL: 63}, unreach, quote)
}

// tellClient is what a host says of a packet to a backend, and toldClient what
// the client hears: that the service says so.
func tellClient(from netip.AddrPort, quote []byte) []byte {
	return icmp(testenv.FrameSpec{Src: from, Dst: client}, unreach, quote)
}

func toldClient(quote []byte) []byte {
	return icmp(testenv.FrameSpec{Src: web, Dst: client, SrcMAC: testenv.MAC(router), TTL: 63}, unreach, quote)
}

// left is an IP packet, of UDP if dns is one of its ends, as it has left here
// or, but for the TTL, as it was sent.
func left(src, dst netip.AddrPort) []byte {
	spec := testenv.FrameSpec{
		Src: src, Dst: dst, TTL: 63, Payload: []byte("fairlead"), Flags: ack, Seq: 0x01020304, Ack: 0x01020305,
	}
	for _, at := range []netip.AddrPort{src, dst} {
		if at == dns || at == dns1 {
			return testenv.UDPFrame(spec)[14:]
		}
	}
	return testenv.TCPFrame(spec)[14:]
}

// datagramRow is an error about a datagram to the backend whose checksum was
// made old, and what of it the client hears.
func datagramRow(name string, old, heard uint16) row {
	quote := func(dst netip.AddrPort, sum uint16) []byte {
		return edit(left(client, dst), 26, byte(sum>>8), byte(sum))
	}
	return row{name: name, given: asked, want: loader.LBVerdictFORWARD_TX, frame: tellClient(dns1, quote(dns1, old)),
		out: toldClient(quote(dns, heard)), counts: counted("4", "reply", 64)}
}

// errorRows are ICMP errors about packets of flows: rule 9.
func errorRows() []row {
	service := func(name string, frame, out []byte) row {
		return row{name: name, given: answered, want: loader.LBVerdictFORWARD_REDIRECT, frame: frame, out: out,
			egress: uplink, counts: counted("2", "forward", uint64(frame[16])<<8+uint64(frame[17]))}
	}
	customer := func(name string, frame, out []byte) row {
		return row{name: name, given: answered, want: loader.LBVerdictFORWARD_TX, frame: frame, out: out,
			counts: counted("2", "reply", uint64(frame[17]))}
	}
	there, back := left(client, back1), left(client, web) // on their way to a backend
	here, fore := left(web, client), left(back1, client)  // on their way to the client
	tell, told := tellService(here[:28]), toldBackend(back1, fore[:28])
	refused := row{name: "a port of the backend that nobody listens on", given: asked, want: loader.LBVerdictFORWARD_TX,
		frame: tellClient(dns1, left(client, dns1)), out: toldClient(left(client, dns)), counts: counted("4", "reply", 64)}
	gone := row{name: "a port of the client that nobody listens on", given: asked, want: loader.LBVerdictFORWARD_REDIRECT,
		frame: icmp(testenv.FrameSpec{Src: client, Dst: dns}, unreach, left(dns, client)),
		out: icmp(testenv.FrameSpec{Src: client, Dst: dns1, SrcMAC: testenv.MAC(router), TTL: 63}, unreach,
			left(dns1, client)),
		egress: uplink, counts: counted("4", "forward", 64)}
	// What translation adds to a checksum makes 0 of itself.
	zero := testenv.Sum(left(client, dns1)[26:28], ^binary.BigEndian.Uint16(left(client, dns)[26:]))
	of := func(kind byte) row {
		spec := testenv.FrameSpec{Src: hop, Dst: back1, SrcMAC: testenv.MAC(router), TTL: 63}
		return service("", icmp(testenv.FrameSpec{Src: hop, Dst: web}, kind, here[:28]), icmp(spec, kind, fore[:28]))
	}
	broad := service("", tellService(here), toldBackend(back1, fore))
	return []row{
		service("a backend learns that its segment was too big", tell, told),
		service("a quoted TCP header has its checksum", tellService(here[:40]), toldBackend(back1, fore[:40])),
		service("as many bytes as end with the checksum", tellService(here[:38]), toldBackend(back1, fore[:38])),
		service("a byte less", tellService(here[:37]), toldBackend(back1, append(fore[:36:36], here[36]))),
		service("padding is not quoted", pad(tell, 20), pad(told, 20)),
		customer("a client learns of its segment, and not from whom", tellClient(hop, there[:28]), toldClient(back[:28])),
		customer("all of a segment is quoted", tellClient(back1, there), toldClient(back)),
		refused, gone,
		datagramRow("no quoted UDP checksum stays none", 0, 0),
		datagramRow("a quoted UDP checksum that becomes 0 is written as 0xffff", zero, 0xffff),
		of(exceeded).as("a packet's time is exceeded on its way to the client", answered),
		of(problem).as("a parameter of a packet has a problem", answered),
		service("the first fragment of a packet", tellService(edit(here[:28], 6, 0x20)),
			toldBackend(back1, edit(fore[:28], 6, 0x20))),
		broad.as("the MTU does not matter to errors", then(narrowed(back1, 50), answered)),
		service("", tell, told).as("an error about a closed flow", then(answered,
			sends(segment(client, web, fin|ack), segment(back1, client, fin|ack)))),
		{name: "an error does not keep a flow alive", want: loader.LBVerdictPASS_NO_FLOW, frame: segment(client, web, ack),
			given: then(answered, waits(now+tcpOpen), sends(tell), waits(now+tcpOpen+1))},
		{name: "an error whose TTL is used up", given: answered, want: loader.LBVerdictDROP_TTL, frame: edit(tell, 22, 1)},
		{name: "an error about a flow whose backend is down", want: loader.LBVerdictDROP_FLOW_ENDED, frame: tell,
			given: then(answered, backendDown)},
		{name: "an error about a flow whose service is another's", want: loader.LBVerdictDROP_FLOW_ENDED,
			frame: tellClient(hop, there[:28]), given: then(answered, serviceReplaced)},
	}
}

// strangeRows are ICMP packets about no flow.
func strangeRows() []row {
	here := left(web, client)
	tell := tellService(here[:28])
	connected := func(w *world) {
		w.tb.Helper()
		w.put(lbMapConnections, flowKey(tcp, client, web), uint32(0))
		w.put(lbMapConnections, flowKey(tcp, client, remote), uint32(0))
	}
	about := func(port netip.AddrPort) []byte {
		return icmp(testenv.FrameSpec{Src: hop, Dst: port}, unreach, left(port, client)[:28])
	}
	passes := func(name string, frame []byte) row {
		return row{name: name, given: answered, want: loader.LBVerdictPASS_ICMP, frame: frame}
	}
	quoting := func(at int, b byte) []byte { return tellService(edit(here[:28], at, b)) }
	short := edit(tell, 17, 55)
	sum(short, 24, short[14:34])
	return []row{
		{name: "an error about a packet that nobody has sent", want: loader.LBVerdictDROP_ICMP, frame: tell},
		{name: "an error about a flow that is ended", want: loader.LBVerdictDROP_ICMP, frame: tell,
			given: then(answered, backendDown, sends(segment(back1, client, ack)))},
		{name: "an error about a connection of the host's own", given: connected, want: loader.LBVerdictPASS_ICMP, frame: tell},
		{name: "an error about a service that is not local", given: connected, want: loader.LBVerdictDROP_ICMP,
			frame: about(remote)},
		{name: "an error about a connection of the proxy's", want: loader.LBVerdictPASS_ICMP, frame: about(proxy)},
		{name: "an error about a port that is no service's", want: loader.LBVerdictPASS_ICMP,
			frame: about(netip.AddrPortFrom(web.Addr(), 22))},
		{name: "an error about a packet of nobody", want: loader.LBVerdictPASS_OTHER, frame: about(other)},
		passes("an error that quotes a byte too few", tellService(here[:27])),
		passes("an error that quotes padding", short),
		passes("an error that goes to another than it quotes",
			icmp(testenv.FrameSpec{Src: hop, Dst: remote}, unreach, here[:28])),
		passes("an error that quotes options", quoting(0, 0x46)),
		passes("an error that quotes a later fragment", quoting(7, 1)),
		passes("an error that quotes ICMP", quoting(9, 1)),
	}
}
