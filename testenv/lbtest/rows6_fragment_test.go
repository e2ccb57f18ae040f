package lbtest

import (
	"fairlead/loader"
	"fairlead/testenv"
)

const fragmentID = 0x01020304

// first6 and later6 cut a datagram or segment up behind its UDP or TCP header.
func first6(frame []byte) []byte {
	if frame[20] == tcp {
		return testenv.Fragment6(frame, fragmentID, 0, tcpFirst)
	}
	return testenv.Fragment6(frame, fragmentID, 0, udpFirst)
}

func later6(frame []byte) []byte {
	if frame[20] == tcp {
		return testenv.Fragment6(frame, fragmentID, tcpFirst, 0)
	}
	return testenv.Fragment6(frame, fragmentID, udpFirst, 0)
}

// fragmentRows6 are datagrams in fragments: rules 10.1 and 12.
func fragmentRows6() []row {
	ask, answer, data := datagram6(client6, dns6), datagram6(dnsBack6, client6), segment6(client6, web6, ack)
	asked, sent := left6(datagram6(client6, dnsBack6)), left6(segment6(client6, webBack6, ack))
	there := func(name string, frame, out []byte, given ...func(*world)) row {
		return row{name: name, given: then(given...), want: loader.LBVerdictFORWARD_REDIRECT, frame: frame, out: out,
			egress: uplink, counts: counted("4", "forward", uint64(len(frame)-14))}
	}
	first, later := first6(ask), later6(ask)
	begun := sends(first)
	opens := there("the first fragment of a datagram makes a flow", first, first6(asked))
	opens.counts = made("4", 56)
	around := func(whole []byte) []byte {
		return extend(testenv.Fragment6(extend(whole, destination, routed), fragmentID, 0, 24), hopByHop)
	}
	segments := there("the first fragment of a segment", first6(data), first6(sent), answered6)
	segments.counts = counted("2", "forward", uint64(len(first6(data))-14))
	rest := there("a later fragment of a segment", later6(data), later6(sent), answered6, sends(first6(data)))
	rest.counts = counted("2", "forward", uint64(len(later6(data))-14))
	back := there("a later fragment of an answer", later6(answer), left6(later6(datagram6(dns6, client6))), asked6, sends(first6(answer)))
	back.want, back.egress, back.counts = loader.LBVerdictFORWARD_TX, 0, counted("4", "reply", 56)
	return []row{
		opens, segments, rest, back,
		there("extension headers before and behind a fragment header", around(ask), around(asked), asked6),
		there("a later fragment", later, later6(asked), begun),
		there("a later fragment that says that options follow", edit(later, 54, 60), edit(later6(asked), 54, 60), begun),
		there("a later fragment behind options for each hop", extend(later, hopByHop), extend(later6(asked), hopByHop), begun),
		there("the first fragment comes last", first, first6(asked), asked6, watched, sends(later)).told(),
		held("a fragment before its first", later),
		held("a fragment of an answer before its first", later6(answer), asked6),
		held("a fragment whose id differs in its lower half", edit(later, 61, 5), begun),
		held("a fragment whose id differs in its upper half", edit(later, 58, 5), begun),
	}
}

// strayRows6 are fragments that are not forwarded.
func strayRows6() []row {
	const malformed = loader.LBVerdictPASS_MALFORMED
	ask, data := datagram6(client6, dns6), segment6(client6, web6, ack)
	first, later := first6(ask), later6(ask)
	begun := sends(first)
	is := func(name string, want loader.Verdict, frame []byte, given ...func(*world)) row {
		return row{name: name, given: then(given...), want: want, frame: frame}
	}
	options := extend(ask, sized(24))
	tiny := testenv.Fragment6(options, fragmentID, 0, 16)
	return []row{
		is("a fragment before its first, and nobody to hold it", loader.LBVerdictDROP_FRAGMENT, later),
		is("a later fragment for nobody", loader.LBVerdictPASS_OTHER, later6(segment6(client6, other6, syn))),
		is("a fragment of ICMPv6", loader.LBVerdictPASS_FRAGMENT, edit(later, 54, 58), begun),
		is("ICMPv6 behind a routing header in a first fragment", loader.LBVerdictPASS_FRAGMENT, extend(icmp6(client6, web6, 128, nil), firstPart, routed)),
		is("a fragment of a fragment", loader.LBVerdictPASS_FRAGMENT, extend(data, firstPart, destination, firstPart), answered6),
		is("a TCP header in two fragments", loader.LBVerdictDROP_MALFORMED, testenv.Fragment6(data, fragmentID, 0, 16), answered6),
		is("the rest of a TCP header in two fragments", loader.LBVerdictDROP_FRAGMENT, testenv.Fragment6(data, fragmentID, 16, 0), answered6,
			sends(testenv.Fragment6(data, fragmentID, 0, 16))),
		is("an extension header in two fragments", malformed, tiny),
		is("the rest of an extension header in two fragments", malformed, testenv.Fragment6(options, fragmentID, 16, 0), sends(tiny)),
		is("a later fragment whose hop limit is used up", loader.LBVerdictDROP_TTL, edit(later, 21, 1), begun),
		is("a later fragment whose backend is down", loader.LBVerdictDROP_FLOW_ENDED, later, begun, down6),
		is("a first fragment that is too big", loader.LBVerdictDROP_TOO_BIG, first6(data),
			answered6, narrowed6(webBack6, 71), changed),
		is("a later fragment that is too big", loader.LBVerdictDROP_TOO_BIG, testenv.Fragment6(extend(ask, destination), fragmentID, 8, 0),
			narrowed6(dnsBack6, 56), begun),
	}
}
