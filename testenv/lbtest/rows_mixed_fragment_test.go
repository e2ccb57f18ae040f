package lbtest

import (
	"fairlead/loader"
	"fairlead/testenv"
)

// shortID is the id that a fragment of IPv6 with fragmentID has in IPv4, and
// longID what becomes of it in IPv6 again.
const (
	shortID = fragmentID & 0xffff
	longID  = uint32(shortID)
)

// first46 and later46 are fragments of IPv6 that were some of IPv4.
func first46(frame []byte) []byte { return testenv.Fragment6(frame, longID, 0, udpFirst) }
func later46(frame []byte) []byte { return testenv.Fragment6(frame, longID, udpFirst, 0) }

// onItsWay is a packet of a flow that leaves to a backend.
func onItsWay(name, backend string, frame, out []byte, given ...func(*world)) row {
	return row{name: name, given: then(given...), want: loader.LBVerdictFORWARD_REDIRECT, frame: frame, out: out,
		egress: uplink, counts: counted(backend, "forward", uint64(len(frame)-14))}
}

// back is one that leaves to a client.
func back(name, backend string, frame, out []byte, given ...func(*world)) row {
	return row{name: name, given: then(given...), want: loader.LBVerdictFORWARD_TX, frame: frame, out: out,
		counts: counted(backend, "reply", uint64(len(frame)-14))}
}

// newEra makes no flow count.
func newEra(w *world) {
	w.tb.Helper()
	w.control(func(c *loader.Control) { c.Era++ })
}

// fragmentRows64 are fragments of clients of IPv6 and of their backends: rule 13.4.
func fragmentRows64() []row {
	ask, asked := datagram6(client6, dns6), leavingDatagram(own, dns1)
	first, later := first6(ask), later6(ask)
	left, leftLater := in4(firstOf(asked), shortID), in4(laterOf(asked), shortID)
	answer, answered := datagram(dns1, own), left6(datagram6(dns6, client6))
	begins, follows := in4(firstOf(answer), shortID), in4(laterOf(answer), shortID)
	segment64 := segment6(client6, web6, ack)
	long := long6(client6, dns6, 100)
	hidden := extend(ask, firstPart, destination)
	begun := sends(first)
	return []row{
		asks64("the first fragment of a datagram of IPv6", first, left),
		onItsWay("the rest of a datagram of IPv6", "3", later, leftLater, begun),
		onItsWay("the middle of a datagram of IPv6", "3", testenv.Fragment6(long, fragmentID, 8, 56),
			in4(testenv.Fragment(fromUs(long4(own, dns1, 100)), 8, 56), shortID), begun),
		held("the rest of a datagram of IPv6 before its first fragment", later),
		asks64("extension headers before that of a fragment are left behind", extend(first, hopByHop), left),
		onItsWay("the same of a later fragment", "3", extend(later, destination), leftLater, begun),
		{name: "extension headers in a datagram that comes in fragments", want: loader.LBVerdictDROP_FAMILY, frame: hidden, counts: flow("3")},
		{name: "the rest of a datagram with extension headers", want: loader.LBVerdictDROP_FRAGMENT, given: sends(hidden), frame: later},
		onItsWay("the first fragment of a segment of IPv6", "2", first6(segment64), in4(firstOf(leaving(own, back1, ack)), shortID),
			opened64, sends(segment(back1, own, syn|ack))),
		back("the first fragment of an answer of IPv4", "3", begins, first46(answered), sends(ask)),
		back("the rest of an answer of IPv4", "3", follows, later46(answered), sends(ask, begins)),
		held("the rest of an answer of IPv4 before its first fragment", follows, sends(ask)),
		{name: "a first fragment that is too big for IPv4", want: loader.LBVerdictDROP_TOO_BIG, given: narrowedMixed(mapped(dns1), 119),
			frame: testenv.Fragment6(long, fragmentID, 0, 104), counts: flow("3")},
		{name: "a later fragment that is too big for IPv4", want: loader.LBVerdictDROP_TOO_BIG, given: then(narrowedMixed(mapped(dns1), 119), begun),
			frame: later6(long)},
		onItsWay("a later fragment that just fits", "3", later6(long), in4(laterOf(fromUs(long4(own, dns1, 100))), shortID),
			narrowedMixed(mapped(dns1), 120), begun),
		{name: "a later fragment of IPv6 whose flow does not count", want: loader.LBVerdictDROP_FLOW_ENDED, frame: later, given: then(begun, newEra)},
	}
}

// fragmentRows46 are those of clients of IPv4.
func fragmentRows46() []row {
	ask, asked := in4(datagram(client, dns), shortID), left6(datagram6(own6, dnsBack6))
	first, later := firstOf(ask), laterOf(ask)
	answer, answered := datagram6(dnsBack6, own6), leavingDatagram(dns, client)
	begins, follows := first6(answer), later6(answer)
	sumless := firstOf(unsummed(ask))
	long := in4(long4(client, dns, 2000), shortID)
	wide := left6(long6(own6, dnsBack6, 2000))
	big := testenv.Fragment(long, 0, 1360)
	fixed := whole(big)
	fixed[20] = 0x60
	sum(fixed, 24, fixed[14:34])
	begun := sends(first)
	narrow := narrowedMixed(dnsBack6, 1400)
	return []row{
		asks46("the first fragment of a datagram of IPv4", first, first46(asked)),
		onItsWay("the rest of a datagram of IPv4", "5", later, later46(asked), begun),
		onItsWay("the middle of a datagram of IPv4", "5", testenv.Fragment(long, 8, 56), testenv.Fragment6(wide, longID, 8, 56), begun),
		held("the rest of a datagram of IPv4 before its first fragment", later),
		back("the first fragment of an answer of IPv6", "5", begins, in4(firstOf(answered), shortID), sends(ask)),
		back("the rest of an answer of IPv6", "5", follows, in4(laterOf(answered), shortID), sends(ask, begins)),
		{name: "the first fragment of a datagram without a checksum", want: loader.LBVerdictDROP_FAMILY, frame: sumless, counts: flow("5")},
		{name: "the rest of a datagram without a checksum", want: loader.LBVerdictDROP_FRAGMENT, frame: later, given: sends(sumless)},
		{name: "a first fragment that may be cut up is too big for IPv6", want: loader.LBVerdictDROP_TOO_BIG, given: narrow, frame: big, counts: flow("5")},
		{name: "a first fragment that is too big for IPv6", want: loader.LBVerdictANSWER_TOO_BIG, given: narrow, frame: fixed,
			out: unreachable(fixed, 4, 1372), counts: flow("5")},
		{name: "a later fragment that is too big for IPv6", want: loader.LBVerdictDROP_TOO_BIG, given: then(narrow, begun),
			frame: testenv.Fragment(long, 8, 8+1360)},
		onItsWay("a later fragment of IPv4 that just fits", "5", testenv.Fragment(long, 8, 8+1352), testenv.Fragment6(wide, longID, 8, 8+1352), narrow, begun),
		{name: "a later fragment of IPv4 whose flow does not count", want: loader.LBVerdictDROP_FLOW_ENDED, frame: later, given: then(begun, newEra)},
	}
}
