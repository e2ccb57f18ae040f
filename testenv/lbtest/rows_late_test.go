package lbtest

import (
	"net/netip"

	"fairlead/loader"
)

// late returns a copy of a frame whose TTL is used up.
func late(frame []byte) []byte {
	out := edit(frame, 22, 1)
	sum(out, 24, out[14:34])
	return out
}

// timeExceeded is the ICMP error that tells the sender of a frame, in the name of an
// address, that its time is exceeded.
func timeExceeded(frame []byte, from []byte) []byte {
	out := unreachable(frame, 0, 0)
	copy(out[26:], from)
	out[34] = exceeded
	sum(out, 24, out[14:34])
	sum(out, 36, out[34:])
	return out
}

// lateRows are packets whose TTL is used up: rules 2.2, 3.8 and 5.
func lateRows() []row {
	hello, data, answer := late(segment(client, web, syn)), late(segment(client, web, ack)), late(segment(back1, client, ack))
	ask, first := late(datagram(client, dns)), late(firstOf(datagram(client, dns)))
	service := web.Addr().AsSlice()
	told := func(name string, frame []byte, given ...func(*world)) row {
		return row{name: name, given: then(given...), want: loader.LBVerdictANSWER_TIME_EXCEEDED, frame: frame, out: timeExceeded(frame, service)}
	}
	not := func(name string, want loader.Verdict, frame []byte, given ...func(*world)) row {
		return row{name: name, given: then(given...), want: want, frame: frame}
	}
	return []row{
		told("TTL 1 makes no flow", hello),
		told("TTL 0 makes no flow", edit(hello, 22, 0)),
		told("a datagram's TTL is used up", ask),
		told("a flow's TTL is used up", data, answered),
		told("the TTL of a backend's answer is used up", answer, answered),
		told("the TTL of a datagram's answer is used up", late(datagram(dns1, client)), asked),
		told("the TTL of a first fragment is used up", first),
		told("the TTL of the first fragment of an answer is used up", late(firstOf(datagram(dns1, client))), asked),
		told("a TTL that is used up before there is no backend", hello, setBackend(loader.LBBackendStateBACKEND_DOWN)),
		told("a TTL that is used up on the way to a backend that is down", data, answered, backendDown),
		not("the rest of a datagram whose first fragment was late", loader.LBVerdictDROP_FRAGMENT, laterOf(datagram(client, dns)), sends(first)),
		not("the rest of an answer whose first fragment was late", loader.LBVerdictDROP_FRAGMENT, laterOf(datagram(dns1, client)),
			asked, sends(late(firstOf(datagram(dns1, client))))),
		not("a TTL that is used up after the last answer of this second", loader.LBVerdictDROP_TTL, hello, sends(hello, hello)),
		not("a flow's TTL that is used up after the last answer of this second", loader.LBVerdictDROP_TTL, data, answered, sends(data, data)),
		not("TTL 1 from a source that no client has", loader.LBVerdictDROP_SOURCE, late(edit(hello, 26, 127)), func(w *world) { w.anyRoute(127) }),
		not("TTL 1 from a source that is the host's own", loader.LBVerdictDROP_SOURCE, hello, func(w *world) { w.route(client, RouteNotForwarded, 0) }),
		not("TTL 1 from a client that may not enter", loader.LBVerdictDROP_DENIED, hello, flagged(listed, unchanged)),
		not("TTL 1 and no SYN", loader.LBVerdictPASS_NO_FLOW, data),
	}
}

// hostRows are SYNs of clients that the host has connections with: rule 3.6.
func hostRows() []row {
	hello := segment(client, web, syn)
	made := row{want: loader.LBVerdictFORWARD_REDIRECT, frame: hello, out: toBackend(back1, syn), egress: uplink, counts: made("2", 48)}
	passed := row{want: loader.LBVerdictPASS_STANDBY, frame: hello}
	elsewhere := func(w *world) {
		w.tb.Helper()
		w.put(lbMapConnections, flowKey(tcp, client, remote), uint32(0))
	}
	return []row{
		passed.as("a SYN with the tuple of a connection of the host's", remembered(0)),
		passed.as("the same, of a client that may not enter by now", then(remembered(0), flagged(listed, unchanged))),
		made.as("a SYN with the tuple of a connection of the host's that is over", remembered(1)),
		made.as("a SYN with the tuple of a connection with another service", elsewhere),
		{name: "a SYN with the tuple of a connection of the host's while draining", want: loader.LBVerdictPASS_DRAINING,
			frame: hello, given: then(remembered(0), draining)},
		sentAgain().as("a SYN that is sent again, whose tuple the host has by now", then(opened, remembered(0))),
		{name: "a SYN that reopens a flow, whose tuple the host has by now", want: loader.LBVerdictPASS_STANDBY, frame: hello,
			given: then(answered, sends(segment(client, web, rst)), remembered(0))},
	}
}

// late6 is late for IPv6.
func late6(frame []byte) []byte { return edit(frame, 21, 1) }

// lateRows6 and hostRows6 are lateRows and hostRows for IPv6.
func lateRows6() []row {
	told := func(name string, frame []byte, given ...func(*world)) row {
		sender := netip.AddrPortFrom(netip.AddrFrom16([16]byte(frame[22:38])), 0)
		answer := packet6(web6, sender, 58, append([]byte{3, 0, 0, 0, 0, 0, 0, 0}, frame[14:62]...), 2)
		copy(answer, frame[6:12])
		copy(answer[6:], frame[:6])
		return row{name: name, given: then(given...), want: loader.LBVerdictANSWER_TIME_EXCEEDED, frame: frame, out: answer}
	}
	data := late6(segment6(client6, web6, ack))
	return []row{
		told("a hop limit of 1 makes no flow", late6(segment6(client6, web6, syn))),
		told("a flow's hop limit is used up", data, answered6),
		told("the hop limit of a backend's answer is used up", late6(segment6(webBack6, client6, ack)), answered6),
		{name: "an extended packet whose hop limit is used up", given: answered6, want: loader.LBVerdictDROP_TTL,
			frame: late6(extend(segment6(client6, web6, ack), destination))},
		{name: "a hop limit that is used up after the last answer of this second", given: then(answered6, sends(data, data)),
			want: loader.LBVerdictDROP_TTL, frame: data},
	}
}

func hostRows6() []row {
	return []row{{name: "a SYN with the tuple of a connection of the host's", want: loader.LBVerdictPASS_STANDBY,
		frame: segment6(client6, web6, syn),
		given: func(w *world) { w.put(lb6MapConnections, flowKey6(tcp, client6, web6), uint32(0)) }}}
}
