package lbtest

import (
	"net/netip"

	"fairlead/loader"
	"fairlead/testenv"
)

// narrowed makes the way to an address one for packets of at most so many bytes.
func narrowed(to netip.AddrPort, longest uint16) func(*world) {
	return func(w *world) {
		w.tb.Helper()
		var r Route
		w.must(w.Maps[lbMapFibs].Lookup(to.Addr().As4(), &r))
		r.Mtu = longest
		w.must(w.SetRoute(to.Addr(), r))
	}
}

// whole returns a copy of a frame that is not to be fragmented.
func whole(frame []byte) []byte {
	out := edit(frame, 20, 0x40)
	sum(out, 24, out[14:34])
	return out
}

// sum writes the checksum of part, which it is a word of, into a frame.
func sum(frame []byte, at int, part []byte) {
	frame[at], frame[at+1] = 0, 0
	s := ^testenv.Sum(part, 0)
	frame[at], frame[at+1] = byte(s>>8), byte(s)
}

// unreachable is the ICMP error with this code that quotes a packet.
func unreachable(frame []byte, code byte, longest uint16) []byte {
	out := make([]byte, 0, 70)
	out = append(append(append(out, frame[6:12]...), frame[0:6]...), 8, 0)
	out = append(out, 0x45, 0, 0, 56, 0, 0, 0x40, 0, 64, 1, 0, 0)
	out = append(append(out, frame[30:34]...), frame[26:30]...)
	out = append(append(out, 3, code, 0, 0, 0, 0, byte(longest>>8), byte(longest)), frame[14:42]...)
	sum(out, 24, out[14:34])
	sum(out, 36, out[34:])
	return out
}

// bigRows are packets around the MTU of their way out: rule 4. Those of the
// tables are 48 bytes long.
func bigRows() []row {
	data, answer := whole(segment(client, web, ack)), whole(segment(back1, client, ack))
	long := whole(jumbo(data, 400))
	narrow := then(narrowed(back1, 47), answered)
	told := row{want: loader.LBVerdictANSWER_TOO_BIG, frame: data, out: unreachable(data, 4, 47)}
	cameBy := testenv.MAC(web.Addr())
	return []row{
		forwarded(ack).as("a packet as long as its way out allows", then(narrowed(back1, 48), answered)),
		told.as("a packet that is too big is answered", narrow),
		{name: "an MTU of two bytes", given: then(narrowed(back1, 300), answered), want: loader.LBVerdictANSWER_TOO_BIG,
			frame: long, out: unreachable(long, 4, 300)},
		told.as("a check finds that the way out has become narrower", then(answered, narrowed(back1, 47), changed)),
		forwarded(ack).as("an entry keeps its MTU until the next check", then(answered, narrowed(back1, 47))),
		{name: "a packet that is too big, and may be fragmented", given: narrow, want: loader.LBVerdictDROP_TOO_BIG,
			frame: segment(client, web, ack)},
		{name: "a packet that is too big after the last answer of this second", given: then(narrow, sends(data, data)),
			want: loader.LBVerdictDROP_TOO_BIG, frame: data},
		{name: "a packet to the client that is too big", given: then(narrowed(client, 47), answered),
			want: loader.LBVerdictANSWER_TOO_BIG, frame: answer, out: unreachable(answer, 4, 47)},
		{name: "a SYN that is too big makes a flow", given: narrowed(back1, 47), want: loader.LBVerdictANSWER_TOO_BIG,
			frame: whole(segment(client, web, syn)), out: unreachable(whole(segment(client, web, syn)), 4, 47),
			counts: map[string]uint64{"backend 2 flows": 1}},
		{name: "a datagram that is too big makes a flow", given: narrowed(dns1, 35), want: loader.LBVerdictDROP_TOO_BIG,
			frame: datagram(client, dns), counts: map[string]uint64{"backend 4 flows": 1}},
		{name: "an MTU that is not known", given: narrowed(back1, 0), want: loader.LBVerdictFORWARD_REDIRECT,
			frame: jumbo(segment(client, web, syn), 8000), out: jumbo(toBackend(back1, syn), 8000), egress: uplink,
			counts: made("2", 48+8000)},
		{name: "the way that a packet came has no known MTU", want: loader.LBVerdictFORWARD_TX,
			given: then(func(w *world) { w.route(client, RouteNoNeighbour, 0) }, opened),
			frame: jumbo(segment(back1, client, ack), 8000), out: edit(jumbo(toClient(web, ack), 8000), 6, cameBy...),
			counts: counted("2", "reply", 48+8000)},
	}
}
