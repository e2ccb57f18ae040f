package lbtest

import (
	"fairlead/loader"
	"fairlead/testenv"
)

// opened has a flow from the client to back1, not answered yet.
func opened(w *world) {
	w.tb.Helper()
	w.send(segment(client, web, syn))
}

// answered has an established one.
func answered(w *world) {
	w.tb.Helper()
	opened(w)
	w.send(segment(back1, client, syn|ack), segment(client, web, ack))
}

// asked has a UDP flow from the client to dns1.
func asked(w *world) {
	w.tb.Helper()
	w.send(datagram(client, dns))
}

// then does one thing after another.
func then(steps ...func(*world)) func(*world) {
	return func(w *world) {
		w.tb.Helper()
		for _, step := range steps {
			step(w)
		}
	}
}

func sends(frames ...[]byte) func(*world) {
	return func(w *world) {
		w.tb.Helper()
		w.send(frames...)
	}
}

func waits(tick uint32) func(*world) {
	return func(w *world) {
		w.tb.Helper()
		w.at(tick)
	}
}

// changed makes the next packet of each flow check it.
func changed(w *world) {
	w.tb.Helper()
	w.control(func(c *loader.Control) { c.Epoch = 2 })
}

// What the next packet of a flow does when all is well.
func forwarded(flags uint8) row {
	return row{want: loader.LBVerdictFORWARD_REDIRECT, frame: segment(client, web, flags),
		out: toBackend(back1, flags), egress: uplink, counts: counted("2", "forward", 48)}
}

func replied(flags uint8) row {
	return row{want: loader.LBVerdictFORWARD_TX, frame: segment(back1, client, flags),
		out: toClient(web, flags), counts: counted("2", "reply", 48)}
}

// reopened is a SYN that makes a new flow, to the backend whose turn it is.
func reopened() row {
	return row{want: loader.LBVerdictFORWARD_REDIRECT, frame: segment(client, web, syn),
		out: toBackend(back2, syn), egress: uplink, counts: made("3", 48)}
}

// knownRows are packets of flows that need no check: rule 2, steps 1 to 4.
func knownRows() []row {
	answer := datagram(dns1, client)
	return []row{
		forwarded(ack).as("a packet of a flow is forwarded", answered),
		replied(syn|ack).as("a reply goes back as from the service", opened),
		replied(ack).as("a frame from the backend while draining goes back", then(answered, draining)),
		{name: "a datagram's answer goes back", given: asked, want: loader.LBVerdictFORWARD_TX, frame: answer,
			out: testenv.UDPFrame(testenv.FrameSpec{Src: dns, Dst: client, SrcMAC: testenv.MAC(router),
				TTL: 63, Payload: []byte("fairlead")}),
			counts: counted("4", "reply", 36)},
		{name: "a bad header of a flow", given: answered, want: loader.LBVerdictDROP_MALFORMED,
			frame: edit(segment(client, web, ack), 46, 4<<4)},
		{name: "a header of a flow that ends beyond the packet", given: answered, want: loader.LBVerdictDROP_MALFORMED,
			frame: edit(segment(client, web, ack), 46, 8<<4)},
		{name: "the switch is off for flows, too", want: loader.LBVerdictPASS_OFF, frame: segment(client, web, ack),
			given: then(answered, func(w *world) { w.control(func(c *loader.Control) { c.Mode = 0 }) })},
		forwarded(ack).as("a tick from the future is now", then(answered, waits(now-1))),
		forwarded(ack).as("a flow survives as many silent ticks as it may", then(answered, waits(now+tcpOpen))),
		{name: "a flow does not survive one more", given: then(answered, waits(now+tcpOpen+1)),
			want: loader.LBVerdictPASS_NO_FLOW, frame: segment(client, web, ack)},
		{name: "a flow of another era does not count", given: then(answered, func(w *world) {
			w.control(func(c *loader.Control) { c.Era = 4 })
		}), want: loader.LBVerdictPASS_NO_FLOW, frame: segment(client, web, ack)},
		reopened().as("a SYN reopens a flow that was reset", then(answered, sends(segment(client, web, rst)))),
		reopened().as("a SYN reopens a flow that both sides closed",
			then(answered, sends(segment(client, web, fin|ack), segment(back1, client, fin|ack)))),
		forwarded(ack).as("a closed flow still carries its last packets", then(answered,
			sends(segment(client, web, fin|ack), segment(back1, client, fin|ack)))),
	}
}

// resetRows are flows that somebody has reset, or seems to have: rule 2, step 6.
func resetRows() []row {
	steps := func(frames ...[]byte) func(*world) {
		return then(answered, sends(frames...), waits(now+tcpFin+1))
	}
	gone := func(name string, given func(*world)) row {
		return row{name: name, given: given, want: loader.LBVerdictPASS_NO_FLOW, frame: segment(client, web, ack)}
	}
	byClient, byBackend := segment(client, web, rst), segment(back1, client, rst)
	data, answer := segment(client, web, ack), segment(back1, client, ack)
	return []row{
		forwarded(rst).as("a reset is forwarded", answered),
		gone("a reset of the backend makes a flow last less", steps(byBackend)),
		gone("the other side's packets do not undo a reset", steps(byClient, answer)),
		gone("the client's packets do not undo the backend's reset", steps(byBackend, data)),
		gone("a SYN does not undo a reset either", steps(byClient, segment(client, web, syn|ack))),
		gone("a reset before the client has answered is believed at once", then(opened,
			sends(segment(back1, client, syn|ack), byClient, data), waits(now+tcpFin+1))),
		reopened().as("the other side's FIN does not undo a reset",
			then(answered, sends(byClient, segment(back1, client, fin|ack)))),
		forwarded(ack).as("who is said to have sent a reset goes on: it was forged", steps(byClient, data)),
		forwarded(ack).as("the backend goes on", steps(byBackend, answer)),
		forwarded(syn).as("a SYN does not reopen a flow that goes on", then(answered, sends(byClient, data))),
		gone("an undone reset leaves the FIN as it was", steps(segment(client, web, fin|ack), byClient, data)),
		gone("resets of both sides are no forgery", steps(byClient, byBackend, data)),
		reopened().as("a SYN reopens a flow that the backend has reset", then(answered, sends(byBackend))),
	}
}

// lifeRows look at the time-outs that states have: rule 2, step 6.
func lifeRows() []row {
	gone := func(name string, given func(*world)) row {
		return row{name: name, given: given, want: loader.LBVerdictPASS_NO_FLOW, frame: segment(client, web, ack)}
	}
	finned := then(answered, sends(segment(client, web, fin|ack)))
	return []row{
		gone("a flow that is not answered is forgotten soon", then(opened, waits(now+tcpNew+1))),
		forwarded(ack).as("the client's answer makes both entries last", then(answered, waits(now+tcpNew+1))),
		forwarded(syn).as("a flow that is only answered lasts as long as a new one", then(opened,
			sends(segment(back1, client, syn|ack)), waits(now+tcpNew))),
		gone("the backend's answer alone does not", then(opened, sends(segment(back1, client, syn|ack)), waits(now+tcpNew+1))),
		gone("what the backend sends without ACK is no answer", then(opened,
			sends(segment(back1, client, 8), numbered(client, web, ack, 1, 1)), waits(now+tcpNew+1))),
		gone("an ACK of the backend is no SYN that may be acknowledged late", then(opened, sends(numbered(back1, client, ack, 100, 1),
			numbered(back1, client, ack, 1<<31, 1), numbered(client, web, ack, 1, 1<<31)), waits(now+tcpNew+1))),
		forwarded(ack).as("an ACK of the backend is an answer", then(opened,
			sends(numbered(back1, client, ack, 100, 1), numbered(client, web, ack, 1, 100)), waits(now+tcpNew+1))),
		gone("an acknowledgement of what the backend has not sent establishes nothing", then(opened,
			sends(numbered(back1, client, syn|ack, 100, 1), numbered(client, web, ack, 1, 101+65536)), waits(now+tcpNew+1))),
		forwarded(ack).as("one of its first 64 KB does", then(opened,
			sends(numbered(back1, client, syn|ack, 100, 1), numbered(client, web, ack, 1, 101+65535)), waits(now+tcpNew+1))),
		forwarded(ack).as("of answers that are sent again the last one counts", then(opened,
			sends(numbered(back1, client, syn|ack, 100, 1), numbered(back1, client, syn|ack, 1<<31, 1),
				numbered(client, web, ack, 1, 1<<31+1)), waits(now+tcpNew+1))),
		gone("a client that has only sent its SYN again has not answered", then(opened,
			sends(segment(back1, client, syn|ack), segment(client, web, syn)), waits(now+tcpNew+1))),
		gone("a FIN makes a flow last less", then(finned, waits(now+tcpFin+1))),
		{name: "a FIN makes the twin last less too", given: then(finned, waits(now+tcpFin+1)),
			want: loader.LBVerdictPASS_OTHER, frame: segment(back1, client, ack)},
		forwarded(syn).as("a SYN does not reopen a flow with one FIN", finned),
		gone("a reset makes a flow last less", then(answered, sends(segment(client, web, rst)), waits(now+tcpFin+1))),
		{name: "an unanswered datagram is forgotten soon", given: then(asked, waits(now+udpNew+1)),
			want: loader.LBVerdictPASS_OTHER, frame: datagram(dns1, client)},
	}
}
