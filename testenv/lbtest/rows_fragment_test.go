package lbtest

import (
	"encoding/binary"

	"fairlead/loader"
	"fairlead/testenv"
)

// Bytes behind the IP header that first fragments have.
const (
	udpFirst = 8
	tcpFirst = 24
)

func firstOf(frame []byte) []byte {
	if frame[23] == tcp {
		return testenv.Fragment(frame, 0, tcpFirst)
	}
	return testenv.Fragment(frame, 0, udpFirst)
}

func laterOf(frame []byte) []byte {
	if frame[23] == tcp {
		return testenv.Fragment(frame, tcpFirst, 0)
	}
	return testenv.Fragment(frame, udpFirst, 0)
}

// watched has an agent that holds fragments.
func watched(w *world) {
	w.tb.Helper()
	w.must(w.SetAgent(true))
}

// held is a frame that the agent gets.
func held(name string, frame []byte, given ...func(*world)) row {
	return row{name: name, given: then(append(given, watched)...), want: loader.LBVerdictHOLD_FRAGMENT, frame: frame,
		counts: map[string]uint64{"held": 1}}
}

// told is a first fragment that was waited for.
func (r row) told() row {
	r.counts["told"] = 1
	return r
}

// fated is the fate of the client's datagram to dns.
func fated(w *world, frame []byte, name string, tick uint32) {
	w.tb.Helper()
	key := loader.Fragment{Saddr: loader.AddressOf(client.Addr()), Daddr: loader.AddressOf(dns.Addr()), Id: uint32(binary.NativeEndian.Uint16(frame[18:])), Proto: udp}
	w.put(name, key, loader.Fate{
		Sport: port16(client.Port()), Dport: port16(dns.Port()), Proto: udp, Tick: tick, Verdict: uint8(loader.LBVerdictFORWARD_REDIRECT),
	})
}

// fragmentRows are datagrams in fragments: rule 12.
func fragmentRows() []row {
	ask, answer, data := datagram(client, dns), datagram(dns1, client), segment(client, web, ack)
	asked, sent := leavingDatagram(client, dns1), toBackend(back1, ack)
	there := func(name string, frame, out []byte, given ...func(*world)) row {
		return row{name: name, given: then(given...), want: loader.LBVerdictFORWARD_REDIRECT, frame: frame, out: out,
			egress: uplink, counts: counted("4", "forward", uint64(frame[17]))}
	}
	back := func(name string, frame, out []byte, given ...func(*world)) row {
		return row{name: name, given: then(given...), want: loader.LBVerdictFORWARD_TX, frame: frame, out: out,
			counts: counted("4", "reply", uint64(frame[17]))}
	}
	first, later := firstOf(ask), laterOf(ask)
	begun, known := sends(first), sends(ask)
	opens := there("the first fragment of a datagram makes a flow", first, firstOf(asked))
	opens.counts = made("4", 28)
	segments := forwarded(ack)
	segments.frame, segments.out, segments.counts = firstOf(data), firstOf(sent), counted("2", "forward", 44)
	rest := segments
	rest.frame, rest.out, rest.counts = laterOf(data), laterOf(sent), counted("2", "forward", 24)
	late := func(w *world) {
		w.tb.Helper()
		fated(w, ask, loader.LBMapFragments, now-5*hz-1)
	}
	return []row{
		opens,
		there("a later fragment", later, laterOf(asked), begun),
		there("a fragment in the middle", testenv.Fragment(pad(ask, 8), 8, 16), testenv.Fragment(pad(asked, 8), 8, 16), begun),
		there("a later fragment five seconds after the first", later, laterOf(asked), begun, waits(now+5*hz), known),
		there("a later fragment of another CPU's first one", later, laterOf(asked), known, watched,
			func(w *world) { fated(w, ask, lbMapFirstRivals, now) }),
		back("the first fragment of an answer", firstOf(answer), firstOf(leavingDatagram(dns, client)), known),
		back("a later fragment of an answer", laterOf(answer), laterOf(leavingDatagram(dns, client)), known, sends(firstOf(answer))),
		segments.as("the first fragment of a segment", answered),
		rest.as("a later fragment of a segment", then(answered, sends(firstOf(data)))),
		there("a first fragment that was not waited for any more", first, firstOf(asked), watched,
			sends(later), waits(now+6*hz), known).told(),
		there("the first fragment comes last", first, firstOf(asked), known, watched, sends(later)).told(),
		there("a first fragment that comes twice", first, firstOf(asked), known, begun),
		held("a fragment before its first", later),
		held("two fragments before their first", later, watched, sends(later)),
		held("a fragment of an answer before its first", laterOf(answer), known),
		held("a fragment of another datagram", edit(later, 19, later[19]+1), begun),
		held("a fragment of another protocol", edit(later, 23, tcp), begun),
		held("a fragment long after its first", later, known, late),
		held("a frame that is just not too long to come back", pad(later, 3000-len(later))),
		held("a datagram that did not concern us when it began", laterOf(datagram(client, other)),
			sends(firstOf(datagram(client, other))), func(w *world) { w.use(other.Addr(), loader.LBAddressUseADDRESS_SERVICE) }),
	}
}

// strayRows are fragments that are not forwarded.
func strayRows() []row {
	ask, data := datagram(client, dns), segment(client, web, ack)
	first, later := firstOf(ask), laterOf(ask)
	begun := sends(first)
	ending := edit(laterOf(data), 22, 1)
	drop := func(name string, want loader.Verdict, frame []byte, given ...func(*world)) row {
		return row{name: name, given: then(given...), want: want, frame: frame}
	}
	toBackend := edit(first, 30, 10, 0, 0, 4)
	denied := flagged(uint8(loader.LBServiceFlagSERVICE_LISTED), unchanged)
	return []row{
		drop("a fragment before its first, and nobody to hold it", loader.LBVerdictDROP_FRAGMENT, later),
		drop("a frame that is too long to come back", loader.LBVerdictDROP_FRAGMENT, pad(later, 3001-len(later)), watched),
		drop("the first fragment of a datagram has no ports", loader.LBVerdictPASS_MALFORMED, testenv.Fragment(ask, 0, 7)),
		drop("the rest of a datagram whose first fragment has no ports", loader.LBVerdictPASS_MALFORMED, later, sends(testenv.Fragment(ask, 0, 7))),
		drop("a TCP header in two fragments", loader.LBVerdictDROP_MALFORMED, testenv.Fragment(data, 0, 16), answered),
		drop("the rest of a TCP header in two fragments", loader.LBVerdictDROP_FRAGMENT, testenv.Fragment(data, 16, 0), answered, sends(testenv.Fragment(data, 0, 16))),
		drop("a later fragment of a client who is denied", loader.LBVerdictDROP_FRAGMENT,
			laterOf(segment(client, web, syn)), denied, sends(firstOf(segment(client, web, syn)))),
		drop("a later fragment for the proxy", loader.LBVerdictPASS_PROXY, laterOf(segment(client, proxy, syn)),
			sends(firstOf(segment(client, proxy, syn)))),
		drop("a later fragment for nobody", loader.LBVerdictPASS_OTHER, laterOf(datagram(client, other))),
		drop("a later fragment to a backend that is no service", loader.LBVerdictPASS_OTHER, laterOf(edit(ask, 30, 10, 0, 0, 4)), watched),
		drop("IP options to a backend", loader.LBVerdictPASS_OTHER, withOptions(toBackend)),
		drop("a later fragment whose TTL is used up", loader.LBVerdictDROP_TTL, edit(later, 22, 1), begun),
		drop("a later fragment whose backend is down", loader.LBVerdictDROP_FLOW_ENDED, later, begun, dnsDown),
		drop("a later fragment of a flow that is gone", loader.LBVerdictDROP_FLOW_ENDED, later, begun,
			func(w *world) { w.deleteFlow(udp, client, dns) }),
		drop("a later fragment of a flow that is ended", loader.LBVerdictDROP_FLOW_ENDED, ending, answered, sends(firstOf(data)),
			backendDown, sends(segment(back1, client, ack))),
		drop("a later fragment whose source is another's by now", loader.LBVerdictDROP_FLOW_ENDED, later, natted(1, 1), begun,
			func(w *world) { w.deleteFlow(udp, dns1, own) }),
		drop("a later fragment that is too big", loader.LBVerdictDROP_TOO_BIG, whole(laterOf(pad(ask, 8))), narrowed(dns1, 28), begun),
		drop("a fragment of GRE", loader.LBVerdictPASS_FRAGMENT, edit(first, 23, 47)),
	}
}
