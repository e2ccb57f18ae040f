package lbtest

import (
	"net/netip"
	"testing"

	"fairlead/loader"
)

// opened6 has a flow from the client to the web backend, not answered yet,
// answered6 an established one, asked6 one of UDP.
func opened6(w *world) {
	w.tb.Helper()
	w.send(segment6(client6, web6, syn))
}

func answered6(w *world) {
	w.tb.Helper()
	opened6(w)
	w.send(segment6(webBack6, client6, syn|ack), segment6(client6, web6, ack))
}

func asked6(w *world) {
	w.tb.Helper()
	w.send(datagram6(client6, dns6))
}

// down6 lets all backends be down.
func down6(w *world) {
	w.tb.Helper()
	down := func(b *loader.Backend) { b.State = uint8(loader.LBBackendStateBACKEND_DOWN) }
	w.backend(2, webBack6, 1, down)
	w.backend(4, dnsBack6, 2, down)
	changed(w)
}

// flagged6 gives the web service more flags.
func flagged6(flags uint8, edit func(*loader.Service)) func(*world) {
	return func(w *world) {
		w.tb.Helper()
		w.service(1, web6, tcp, func(s *loader.Service) {
			s.Slots, s.SlotsAll = 1, 1
			s.Flags |= flags
			edit(s)
		})
	}
}

// narrowed6 makes the way to an address one for packets of at most so many bytes.
func narrowed6(to netip.AddrPort, longest uint16) func(*world) {
	return func(w *world) {
		w.tb.Helper()
		var r Route
		w.must(w.Maps[lb6MapFibs].Lookup(to.Addr().AsSlice(), &r))
		r.Mtu = longest
		w.must(w.SetRoute(to.Addr(), r))
	}
}

// opens6 is a SYN with extension headers that makes a flow.
func opens6(name string, headers ...header) row {
	in, out := segment6(client6, web6, syn), left6(segment6(client6, webBack6, syn))
	if len(headers) > 0 {
		in, out = extend(in, headers...), extend(out, headers...)
	}
	return row{name: name, want: loader.LBVerdictFORWARD_REDIRECT, frame: in, out: out, egress: uplink,
		counts: made("2", uint64(len(in)-14))}
}

// forwarded6 and replied6 are what the next packet of a flow does when all is well.
func forwarded6(flags uint8) row {
	return row{want: loader.LBVerdictFORWARD_REDIRECT, frame: segment6(client6, web6, flags),
		out: left6(segment6(client6, webBack6, flags)), egress: uplink, counts: counted("2", "forward", 68)}
}

func replied6(flags uint8) row {
	return row{want: loader.LBVerdictFORWARD_TX, frame: segment6(webBack6, client6, flags),
		out: left6(segment6(web6, client6, flags)), counts: counted("2", "reply", 68)}
}

// readRows6 are packets that are not to be read, or hard to: rule 10.1.
func readRows6() []row {
	hello := segment6(client6, web6, syn)
	odd := func(name string, want loader.Verdict, frame []byte) row {
		return row{name: name, want: want, frame: frame}
	}
	with := func(name string, want loader.Verdict, headers ...header) row {
		return odd(name, want, extend(hello, headers...))
	}
	const other, options = loader.LBVerdictPASS_OTHER, loader.LBVerdictPASS_OPTIONS
	const malformed = loader.LBVerdictPASS_MALFORMED
	beyond := extend(hello, destination)
	beyond[55] = 4 // five times as long: behind the packet's end
	return []row{
		{name: "the switch is off", want: loader.LBVerdictPASS_OFF, frame: hello,
			given: func(w *world) { w.control(func(c *loader.Control) { c.Mode = 0 }) }},
		odd("an address of nobody", other, segment6(client6, other6, syn)),
		odd("another protocol to a service's port", other, datagram6(client6, web6)),
		odd("IPv4", other, segment(client, web, syn)),
		odd("a frame that ends in the header", other, hello[:53]),
		odd("IP of another version", other, edit(hello, 14, 0x40)),
		odd("a frame for everybody", other, edit(hello, 0, 0x33)),
		odd("a VLAN tag", loader.LBVerdictPASS_VLAN, tag(hello, 0)),
		odd("a VLAN tag for nobody", other, tag(segment6(client6, other6, syn), 0)),
		odd("a packet one byte longer than its frame", malformed, edit(hello, 19, hello[19]+1)),
		odd("seven bytes after the header", malformed, edit(hello, 19, 7)),
		odd("a TCP header beyond the packet", loader.LBVerdictDROP_MALFORMED, edit(hello, 66, 8<<4)),
		odd("a TCP header beyond the packet, which is extended", loader.LBVerdictDROP_MALFORMED,
			edit(extend(hello, destination), 74, 8<<4)),
		odd("neither TCP nor UDP", other, edit(hello, 20, 59)),
		odd("neighbour discovery", loader.LBVerdictPASS_ICMP, icmp6(client6, web6, 135, make([]byte, 16))),
		with("options for each hop, but not first", malformed, destination, hopByHop),
		with("a routing header with a segment left", options, routing),
		with("seven extension headers", options, hopByHop, destination, routed, atomic, destination, destination, destination),
		with("extension headers that are too long", options, sized(256), destination),
		with("a fragment that is odd for another reason first", options, routing, firstPart),
		odd("an extension header that ends behind the packet", malformed, beyond),
		odd("an extension header that ends in padding", malformed, pad(edit(extend(hello, destination), 18, 0, 7), 8)),
		odd("a fragment for nobody", other, extend(segment6(client6, other6, syn), firstPart)),
	}
}

// openRows6 are packets without a flow.
func openRows6() []row {
	hello := segment6(client6, web6, syn)
	sumless := edit(datagram6(client6, dns6), 60, 0, 0)
	limit := flagged6(limited, func(s *loader.Service) {
		s.LimitMask, s.LimitRate, s.LimitBurst = loader.AddressOf(netip.MustParseAddr("ffff:ffff:ffff:ffff::")), 1, 1
	})
	lists := flagged6(listed, unchanged)
	allowed := func(w *world) {
		p := netip.MustParsePrefix("2001:db8:1::/64")
		w.put(loader.LB6MapClients6, loader.ClientPrefix6{Len: uint32(32 + p.Bits()), Service: 1, Addr: loader.AddressOf(p.Addr())},
			uint32(loader.LBClientRuleCLIENT_ALLOW))
	}
	natted := then(flagged6(fullNAT, unchanged), func(w *world) {
		w.put(loader.LBMapSnat, uint32(3), loader.AddressOf(own6.Addr()))
		w.control(func(c *loader.Control) { c.SnatPort, c.SnatPorts = own6.Port(), 1 })
		w.backend(2, webBack6, 1, func(b *loader.Backend) { b.Sources = 3<<16 | 1 })
	})
	disguised := opens6("a service whose backends see an address of ours")
	disguised.given, disguised.out = natted, left6(segment6(own6, webBack6, syn))
	return []row{
		opens6("a SYN makes a flow"),
		opens6("options for each hop", hopByHop),
		opens6("a routing header that has done its work", routed),
		opens6("a fragment header without fragments", atomic),
		opens6("six extension headers", hopByHop, destination, routed, atomic, destination, destination),
		opens6("extension headers of 256 bytes", sized(248), destination),
		{name: "a datagram makes a flow", want: loader.LBVerdictFORWARD_REDIRECT, frame: datagram6(client6, dns6),
			out: left6(datagram6(client6, dnsBack6)), egress: uplink, counts: made("4", 56)},
		{name: "no UDP checksum stays none", want: loader.LBVerdictFORWARD_REDIRECT, frame: sumless,
			out: left6(edit(datagram6(client6, dnsBack6), 60, 0, 0)), egress: uplink, counts: made("4", 56)},
		disguised,
		{name: "no flow and no SYN", want: loader.LBVerdictPASS_NO_FLOW, frame: segment6(client6, web6, ack)},
		{name: "no flow and no SYN, to an address that is not local", want: loader.LBVerdictDROP_NO_FLOW,
			frame: segment6(client6, remote6, ack)},
		{name: "a SYN while draining", want: loader.LBVerdictPASS_DRAINING, frame: hello, given: draining},
		{name: "a datagram of the standby proxy's", want: loader.LBVerdictPASS_STANDBY, frame: datagram6(client6, dns6),
			given: func(w *world) { w.put(loader.LB6MapStandby6, flowKey6(udp, client6, dns6), uint32(1)) }},
		{name: "a source that is the host's own", want: loader.LBVerdictDROP_SOURCE, frame: hello,
			given: func(w *world) { w.route(client6, RouteNotForwarded, 0) }},
		{name: "a client without a way back", want: loader.LBVerdictDROP_NO_ROUTE, frame: hello,
			given: func(w *world) { w.route(client6, RouteBlackhole, 0) }},
		{name: "no backend's neighbour is known", want: loader.LBVerdictDROP_NO_NEIGHBOUR, frame: hello,
			given: func(w *world) { w.route(webBack6, RouteNoNeighbour, 0) }},
		{name: "a client that no list names", want: loader.LBVerdictDROP_DENIED, frame: segment6(own6, web6, syn),
			given: then(lists, allowed)},
		opens6("").as("a client of a network that is allowed", then(lists, allowed)),
		{name: "a neighbour has spent the network's credit", want: loader.LBVerdictDROP_SOURCE_LIMIT, frame: hello,
			given: then(limit, sends(segment6(neighbour6, web6, syn)))},
	}
}

// sourceRows6 are packets of clients that there are not, and of their neighbours.
func sourceRows6() []row {
	from := func(name, src string) row {
		at := netip.AddrPortFrom(netip.MustParseAddr(src), 40000)
		return row{name: name, want: loader.LBVerdictDROP_SOURCE, frame: segment6(at, web6, syn),
			given: func(w *world) { w.route(at, RouteFound, Ingress) }}
	}
	near := func(name, src string) row {
		r := from(name, src)
		at := netip.AddrPortFrom(netip.MustParseAddr(src), 40000)
		r.want, r.out, r.egress = loader.LBVerdictFORWARD_REDIRECT, left6(segment6(at, webBack6, syn)), uplink
		r.counts = made("2", 68)
		return r
	}
	return []row{
		from("the address of nobody", "::"), from("loopback", "::1"), from("a link-local source", "fe80::1"),
		from("the last link-local source", "febf::1"), from("a multicast source", "ff02::1"),
		from("an IPv4 address", "::ffff:198.51.100.1"),
		near("a source next to loopback", "::2"), near("a source behind the link-local ones", "fec0::1"),
		near("a source next to IPv4's", "::fffe:c633:6401"),
	}
}

// knownRows6 are packets of flows, and answers.
func knownRows6() []row {
	long := extend(segment6(client6, web6, ack), destination)
	none := func(w *world) { w.service(2, dns6, udp, func(*loader.Service) {}) }
	ask := datagram6(client6, dns6)
	narrow := then(answered6, narrowed6(webBack6, 67), changed)
	ended := row{name: "a flow whose backend is down", given: then(answered6, down6), want: loader.LBVerdictANSWER_RESET,
		frame: segment6(client6, web6, ack), out: reset6(client6, web6, rst, 0x01020305, 0)}
	data := segment6(client6, web6, ack)
	return []row{
		forwarded6(ack).as("a packet of a flow is forwarded", answered6),
		forwarded6(syn).telling(loader.LBTroubleTROUBLE_UNANSWERED).as("a SYN that is sent again makes no new flow", opened6),
		replied6(syn|ack).as("a reply goes back as from the service", opened6),
		replied6(ack).as("so do the next ones", answered6),
		forwarded6(fin|ack).as("an entry stands where its hash says", placed6),
		{name: "an extended packet of a flow", given: answered6, want: loader.LBVerdictFORWARD_REDIRECT, frame: long,
			out:    left6(extend(segment6(client6, webBack6, ack), destination)),
			egress: uplink, counts: counted("2", "forward", 76)},
		{name: "a datagram's answer goes back", given: asked6, want: loader.LBVerdictFORWARD_TX,
			frame: datagram6(dnsBack6, client6), out: left6(datagram6(dns6, client6)), counts: counted("4", "reply", 56)},
		{name: "another live flow has the reply's tuple", given: then(answered6, robbed6), want: loader.LBVerdictANSWER_RESET,
			frame: data, out: reset6(client6, web6, rst, 0x01020305, 0)},
		ended,
		{name: "an extended packet is reset without its extensions", given: then(answered6, down6),
			want: loader.LBVerdictANSWER_RESET, frame: long, out: ended.out},
		{name: "a datagram from a backend that is down", given: then(asked6, down6),
			want: loader.LBVerdictDROP_FLOW_ENDED, frame: datagram6(dnsBack6, client6)},
		{name: "a SYN for a service whose backend is down", given: down6, want: loader.LBVerdictANSWER_RESET,
			frame: segment6(client6, web6, syn), out: reset6(client6, web6, rst|ack, 0, 0x01020304+8+1)},
		{name: "a datagram for a service without slots", given: none, want: loader.LBVerdictANSWER_UNREACHABLE,
			frame: ask, out: answer6(ask, 1, 4, 0)},
		{name: "an extended datagram for a service without slots", given: none, want: loader.LBVerdictDROP_NO_BACKEND,
			frame: extend(ask, destination)},
		forwarded6(ack).as("a packet as long as its way out allows", then(narrowed6(webBack6, 68), answered6)),
		{name: "a packet that is too big is answered", given: narrow, want: loader.LBVerdictANSWER_TOO_BIG,
			frame: data, out: answer6(data, 2, 0, 67)},
		{name: "an extended packet that is too big", given: narrow, want: loader.LBVerdictDROP_TOO_BIG, frame: long},
		{name: "a packet that is too big after the last answer of this second", given: then(narrow, sends(data, data)),
			want: loader.LBVerdictDROP_TOO_BIG, frame: data},
	}
}

// placed6 has an entry in the first bucket of its key, and no twin.
func placed6(w *world) {
	w.tb.Helper()
	answered6(w)
	var f loader.Flow6
	table, err := loader.OpenFlowTable(w.Maps[loader.LB6MapFlows6])
	w.must(err)
	table.Each(func(e loader.Entry) bool {
		if e.Key == flowKey6(tcp, client6, web6) {
			f = e.Flow6
		}
		return true
	})
	w.must(table.Close())
	for at := range uint32(buckets) {
		w.put(loader.LB6MapFlows6, at, &loader.LB6Bucket{})
	}
	w.putFlow6(f, loader.Stamp{Seen: now, Era: 3, Life: life(0, loader.LBFlowStateFLOW_ESTABLISHED)})
}

// robbed6 gives the key of the twin to a flow of another service address, which
// has half of it in common.
func robbed6(w *world) {
	w.tb.Helper()
	w.putFlow6(loader.Flow6{
		Key: flowKey6(tcp, webBack6, client6), Idle: tcpOpen, Checked: now, Epoch: 1, Service: 4, Backend: 2,
		Saddr: loader.AddressOf(remote6.Addr()), Sport: port16(remote6.Port()),
		Daddr: loader.AddressOf(client6.Addr()), Dport: port16(client6.Port()),
	}, loader.Stamp{Seen: now, Era: 3, Life: life(1, loader.LBFlowStateFLOW_ESTABLISHED)})
	changed(w)
}

// errorRows6 are ICMPv6 packets: rule 10.7.
func errorRows6() []row {
	here, fore := segment6(web6, client6, ack)[14:], segment6(webBack6, client6, ack)[14:]
	there, back := segment6(client6, webBack6, ack)[14:], segment6(client6, web6, ack)[14:]
	short, told := icmp6(hop6, web6, 2, here[:48]), left6(icmp6(hop6, webBack6, 2, fore[:48]))
	service := func(name string, frame, out []byte) row {
		return row{name: name, given: answered6, want: loader.LBVerdictFORWARD_REDIRECT, frame: frame, out: out,
			egress: uplink, counts: counted("2", "forward", uint64(len(frame)-14))}
	}
	of := func(name string, kind byte) row {
		return service(name, icmp6(hop6, web6, kind, here), left6(icmp6(hop6, webBack6, kind, fore)))
	}
	passes := func(name string, frame []byte) row {
		return row{name: name, given: answered6, want: loader.LBVerdictPASS_ICMP, frame: frame}
	}
	ask, asks := datagram6(client6, dnsBack6)[14:], datagram6(client6, dns6)[14:]
	return []row{
		service("a backend learns that its segment was too big", short, told),
		of("the client is unreachable", 1), of("a quoted TCP header has its checksum", 2),
		of("a packet's time is exceeded", 3), of("a parameter of a packet has a problem", 4),
		{name: "a client learns of its segment, and not from whom", given: answered6, want: loader.LBVerdictFORWARD_TX,
			frame: icmp6(hop6, client6, 3, there), out: left6(icmp6(web6, client6, 3, back)), counts: counted("2", "reply", 116)},
		{name: "a port of the backend that nobody listens on", given: asked6, want: loader.LBVerdictFORWARD_TX,
			frame: icmp6(dnsBack6, client6, 1, ask), out: left6(icmp6(dns6, client6, 1, asks)), counts: counted("4", "reply", 104)},
		{name: "an error whose hop limit is used up", given: answered6, want: loader.LBVerdictDROP_TTL, frame: edit(short, 21, 1)},
		{name: "an error about a flow whose backend is down", given: then(answered6, down6),
			want: loader.LBVerdictDROP_FLOW_ENDED, frame: short},
		{name: "an error about a packet that nobody has sent", want: loader.LBVerdictDROP_ICMP, frame: short},
		{name: "an error about a connection of the host's own", want: loader.LBVerdictPASS_ICMP, frame: short,
			given: func(w *world) { w.put(lb6MapConnections, flowKey6(tcp, client6, web6), uint32(0)) }},
		passes("ping", icmp6(client6, web6, 128, here)),
		passes("an error that quotes a byte too few", icmp6(hop6, web6, 2, here[:47])),
		passes("an error behind an extension header", extend(short, destination)),
		passes("an error that quotes an extension header", icmp6(hop6, web6, 2, edit(here[:48], 6, 60))),
		service("a first fragment was too big", icmp6(hop6, web6, 2, first6(segment6(web6, client6, ack))[14:70]),
			left6(icmp6(hop6, webBack6, 2, first6(segment6(webBack6, client6, ack))[14:70]))),
		service("a quoted first fragment has its checksum", icmp6(hop6, web6, 2, first6(segment6(web6, client6, ack))[14:]),
			left6(icmp6(hop6, webBack6, 2, first6(segment6(webBack6, client6, ack))[14:]))),
		passes("an error that quotes a byte too few of a first fragment", icmp6(hop6, web6, 2, first6(segment6(web6, client6, ack))[14:69])),
		passes("an error that quotes a later fragment", icmp6(hop6, web6, 2, edit(first6(segment6(web6, client6, ack))[14:], 43, 8))),
		passes("an error that quotes IPv4", icmp6(hop6, web6, 2, edit(here[:48], 0, 0x45))),
		passes("an error that goes to another than it quotes", icmp6(hop6, remote6, 2, here[:48])),
	}
}

func rows6() []row {
	var all []row
	for _, table := range [][]row{readRows6(), openRows6(), sourceRows6(), knownRows6(), errorRows6(), fragmentRows6(), strayRows6(), floodRows6(), lateRows6(), hostRows6(), zoneRows6()} {
		all = append(all, table...)
	}
	return all
}

func TestEachPacketOfIPv6HasItsEffect(t *testing.T) { checkEach(t, newWorld6(t, 0), rows6()) }

func TestEachFaultOfIPv6IsFound(t *testing.T) {
	findEach(t, newWorld6(t, Faults6[0].N), Faults6, rows6())
}

// floodRows6 are SYNs of a flood that is answered with cookies: rule 10.9.
func floodRows6() []row {
	flooded := func(w *world) {
		w.tb.Helper()
		w.must(w.SetCookies(true))
		flagged6(cookies, func(s *loader.Service) { s.CookieAbove = 1 })(w)
		counts(0, 5)(w)
	}
	return []row{
		{name: "a SYN of a flood with options for its destination", given: flooded, want: loader.LBVerdictDROP_COOKIE,
			frame: extend(segment6(client6, web6, syn), destination)},
	}
}
