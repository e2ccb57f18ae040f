package lbtest

import (
	"net/netip"
	"slices"
	"testing"

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

// strangerRows are fragments that are no flow's, at addresses that only services
// of IPv4 have: they are remembered although they are handed over (12.2).
func strangerRows() []row {
	host := netip.AddrPortFrom(netip.MustParseAddr("203.0.113.11"), 500)
	server, far := netip.MustParseAddrPort("10.0.0.9:2049"), netip.MustParseAddrPort("198.51.100.77:700")
	is := func(a netip.AddrPort, use loader.LBAddressUse) func(*world) {
		return func(w *world) { w.must(w.Maps[loader.LBMapVips].Put(a.Addr().AsSlice(), uint32(use))) }
	}
	rest := func(name string, frame []byte, known func(*world)) row {
		return row{name: name, want: loader.LBVerdictPASS_OTHER, frame: laterOf(frame), given: then(known, sends(firstOf(frame)))}
	}
	return []row{
		rest("the rest of a datagram to a service address, but to no service", datagram(client, host),
			is(host, loader.LBAddressUseADDRESS_SERVICE)),
		rest("the rest of a datagram of a backend to a stranger", datagram(server, far),
			is(server, loader.LBAddressUseADDRESS_BACKEND)),
	}
}

// TestHandedFragmentsAreTold has the rest of a datagram come before its beginning,
// which fairlead hands over.
func TestHandedFragmentsAreTold(t *testing.T) {
	testenv.PinThread(t)
	w := newWorldMixed(t, 0)
	w.reset()
	watched(w)
	host := netip.AddrPortFrom(netip.MustParseAddr("203.0.113.11"), 500)
	w.must(w.Maps[loader.LBMapVips].Put(host.Addr().AsSlice(), uint32(loader.LBAddressUseADDRESS_SERVICE)))
	w.send(laterOf(datagram(client, host)), firstOf(datagram(client, host)))
	if held, told, err := w.Held(); err != nil || held != 1 || told != 1 {
		t.Errorf("held %d, told %d times, %v, want 1 and 1", held, told, err)
	}
}

// TestTriesLeaveNothingBehind has the first try of a client of IPv6, towards a
// backend of IPv4, lose a race for the reply's tuple.
func TestTriesLeaveNothingBehind(t *testing.T) {
	testenv.PinThread(t)
	w := newWorldMixed(t, 0)
	w.reset()
	w.service(1, web6, tcp, func(v *loader.Service) { v.Slots, v.SlotsAll, v.Flags = 10<<32|2, 10<<32|2, v.Flags|fullNAT })
	w.backend(6, webBack6, 1, func(b *loader.Backend) { b.Sources = 4<<16 | 1 })
	w.put(loader.LBMapSlots, uint32(10), uint32(2))
	w.put(loader.LBMapSlots, uint32(11), uint32(6))
	key := flowKey6(tcp, mapped(back1), mapped(own))
	w.must(w.Maps["rivals"].Put(key, struct {
		Flow  loader.Flow6
		Stamp loader.LBStamp
	}{
		loader.Flow6{Key: key, Saddr: key.Saddr, Daddr: key.Daddr, Checked: now, Idle: tcpOpen, Epoch: 1, Service: 4, Backend: 4},
		loader.LBStamp{Seen: now, Era: 3, Life: life(loader.LBFlowDirDIR_REPLY, loader.LBFlowStateFLOW_ESTABLISHED)},
	}))
	w.send(segment6(client6, web6, syn))
	to := flowKey6(tcp, client6, web6)
	var b loader.LB6Bucket
	w.must(w.Maps[loader.LB6MapFlows6].Lookup(spotOf6(to).first, &b))
	at := slices.IndexFunc(b.Places[:], func(f loader.Flow6) bool { return f.Key == to })
	if at < 0 || b.Places[at].Backend != 6 {
		t.Fatalf("no flow to the second backend in %+v", b.Places)
	}
	if mtu := b.Places[at].FarMtu; mtu != 0 {
		t.Errorf("an MTU of %d in the other family, of a flow that stays in its own", mtu)
	}
}
