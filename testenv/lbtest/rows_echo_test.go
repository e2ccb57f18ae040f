package lbtest

import (
	"net/netip"

	"fairlead/loader"
	"fairlead/testenv"
)

// Types of ICMP that ask for an echo, and are one.
const (
	echoReply   = 0
	echoRequest = 8
)

// echo is an ICMP message of this type with code 0, an id, a number and a payload.
func echo(spec testenv.FrameSpec, kind byte, payload []byte) []byte {
	f := icmp(spec, kind, payload)
	f[35] = 0
	sum(f, 36, f[34:])
	return f
}

// pong is the answer to a ping of an address; the Ethernet addresses change places.
func pong(of netip.AddrPort, payload []byte) []byte {
	spec := testenv.FrameSpec{Src: of, Dst: client, SrcMAC: testenv.MAC(of.Addr()), DstMAC: testenv.MAC(client.Addr()), TTL: 64}
	return echo(spec, echoReply, payload)
}

// echoRows are pings: rule 9, step 6.
func echoRows() []row {
	text := []byte("fairlead pings")
	ask := func(to netip.AddrPort, payload []byte) []byte {
		return echo(testenv.FrameSpec{Src: client, Dst: to}, echoRequest, payload)
	}
	from := func(src string) []byte {
		return echo(testenv.FrameSpec{Src: netip.AddrPortFrom(netip.MustParseAddr(src), 0), Dst: web}, echoRequest, text)
	}
	ping, answer := ask(web, text), pong(web, text)
	answered := func(name string, frame, out []byte) row {
		return row{name: name, want: loader.LBVerdictANSWER_ECHO, frame: frame, out: out}
	}
	passes := func(name string, frame []byte) row {
		return row{name: name, want: loader.LBVerdictPASS_ICMP, frame: frame}
	}
	badSum, badOut := edit(ping, 36, ping[36]^1), edit(answer, 36, answer[36]^1)
	hasty := edit(ping, 22, 1)
	sum(hasty, 24, hasty[14:34])
	short := edit(ping, 17, 27)
	sum(short, 24, short[14:34])
	edge := ask(web, nil)
	edge[38], edge[39], edge[40], edge[41] = 0xf7, 0xff, 0, 0
	sum(edge, 36, edge[34:])
	edgeOut := edit(pong(web, nil), 36, 0x08, 0, 0xf7, 0xff, 0, 0)
	return []row{
		answered("a ping is answered", ping, answer),
		answered("a ping without payload", ask(web, nil), pong(web, nil)),
		answered("a ping of an address that is not local", ask(remote, text), pong(remote, text)),
		answered("a ping whose TTL is used up", hasty, answer),
		answered("a ping in a padded frame", pad(ping, 4), pad(answer, 4)),
		answered("a ping of a jumbo frame", ask(web, make([]byte, 8000)), pong(web, make([]byte, 8000))),
		answered("a ping with a wrong checksum", badSum, badOut),
		answered("a ping whose checksum is zero", edge, edgeOut),
		answered("a ping while draining", ping, answer).as("a ping while draining", draining),
		answered("a ping in spite of flows", ping, answer).as("a ping in spite of flows", pinged),
		{name: "a ping over the limit", given: func(w *world) { w.control(func(c *loader.Control) { c.ReplyLimit = 0 }) }, want: loader.LBVerdictPASS_ICMP,
			frame: ping},
		{name: "a ping after half of the answers", given: sends(ping), want: loader.LBVerdictPASS_ICMP, frame: ping},
		{name: "a ping while switched off", want: loader.LBVerdictPASS_OFF, frame: ping,
			given: func(w *world) { w.control(func(c *loader.Control) { c.Mode = 0 }) }},
		{name: "a ping of nobody", want: loader.LBVerdictPASS_OTHER, frame: ask(other, text)},
		{name: "a ping of nobody from nowhere", want: loader.LBVerdictPASS_OTHER,
			frame: echo(testenv.FrameSpec{Src: hop, Dst: other}, echoRequest, text)},
		{name: "a ping from a loopback source", want: loader.LBVerdictDROP_SOURCE, frame: from("127.0.0.1")},
		{name: "a ping from a multicast source", want: loader.LBVerdictDROP_SOURCE, frame: from("224.0.0.1")},
		{name: "a ping from everybody", want: loader.LBVerdictDROP_SOURCE, frame: from("255.255.255.255")},
		{name: "a ping from the address itself", want: loader.LBVerdictDROP_SOURCE, frame: from(web.Addr().String())},
		passes("an echo request of code 4", icmp(testenv.FrameSpec{Src: client, Dst: web}, echoRequest, text)),
		passes("an echo reply", echo(testenv.FrameSpec{Src: client, Dst: web}, echoReply, text)),
		passes("an echo request that ends in its header", short),
	}
}

// pinged has flows of the client.
func pinged(w *world) {
	w.tb.Helper()
	answered(w)
	asked(w)
}
