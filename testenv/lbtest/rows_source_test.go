package lbtest

import (
	"net/netip"

	"fairlead/loader"
	"fairlead/testenv"
)

var (
	own  = netip.MustParseAddrPort("10.0.0.9:30000") // the only source of full NAT, mostly
	own2 = netip.MustParseAddrPort("10.0.0.10:30000")
	// shifted is what the client gets if its own port is taken.
	shifted = netip.AddrPortFrom(client.Addr(), 1024+(40000+7919)%64512)
)

// portOf is the client with the k-th of its other ports: rule 3, step 10.2.
func portOf(k int) netip.AddrPort {
	return netip.AddrPortFrom(client.Addr(), uint16(1024+(int(client.Port())+7919*k)%64512))
}

// rivalAt is rival for a flow that leaves for the backend from another source.
func (w *world) rivalAt(src, backend netip.AddrPort, edit func(*entry)) {
	w.tb.Helper()
	w.rival(backend, func(e *entry) {
		e.Flow.Key = flowKey(tcp, backend, src)
		edit(e)
	})
}

func asIs(*entry) {}

// idle is a rival that was silent too long.
func idle(e *entry) { e.Stamp.Seen, e.Flow.Checked = now-tcpOpen-1, now-hz }

// crowdPorts takes all tuples that the client may get towards a backend.
func (w *world) crowdPorts(backend netip.AddrPort) {
	w.tb.Helper()
	w.rival(backend, asIs)
	for k := 1; k <= 8; k++ {
		w.rivalAt(portOf(k), backend, asIs)
	}
}

// shared has two services with one backend, and a flow of the client to the other one.
func shared(w *world) {
	w.tb.Helper()
	w.backend(5, back1, 4, func(*loader.Backend) {})
	w.put(loader.LBMapSlots, uint32(3), uint32(5))
	w.service(4, remote, tcp, func(s *loader.Service) { s.Flags, s.Slots = 0, 3<<32|1 })
	w.send(segment(client, remote, syn))
}

// portRows are clients that get another port: rule 3, step 10.2.
func portRows() []row {
	hello := segment(client, web, syn)
	from := func(src netip.AddrPort) row {
		return row{want: loader.LBVerdictFORWARD_REDIRECT, frame: hello, out: leaving(src, back1, syn), egress: uplink, counts: made("2", 48)}
	}
	taken := func(src netip.AddrPort, edit func(*entry)) func(*world) {
		return func(w *world) {
			w.tb.Helper()
			w.rivalAt(src, back1, edit)
		}
	}
	all := func(but int) func(*world) {
		return func(w *world) {
			w.tb.Helper()
			w.crowdPorts(back1)
			w.deleteFlow(tcp, back1, portOf(but))
		}
	}
	high := netip.AddrPortFrom(client.Addr(), 60000)
	round := from(netip.AddrPortFrom(client.Addr(), 1024+60000+7919-64512))
	round.frame = segment(high, web, syn)
	answer := row{want: loader.LBVerdictFORWARD_TX, frame: segment(back1, shifted, syn|ack), out: toClient(web, syn|ack), counts: counted("2", "reply", 48)}
	theirs := row{want: loader.LBVerdictFORWARD_TX, frame: segment(back1, client, syn|ack), out: toClient(remote, syn|ack), counts: counted("5", "reply", 48)}
	mine := forwarded(ack)
	mine.out = leaving(shifted, back1, ack)
	settled := then(shared, opened, sends(segment(back1, shifted, syn|ack), segment(client, web, ack)))
	robbed := then(shared, opened, func(w *world) {
		w.tb.Helper()
		w.deleteFlow(tcp, back1, shifted)
		w.rivalAt(shifted, back1, asIs)
	})
	return []row{
		from(shifted).as("a client whose tuple is taken gets another port", taken(client, asIs)),
		from(shifted).as("two services share a backend", shared),
		answer.as("an answer to the other port finds the client's", then(shared, opened)),
		theirs.as("an answer to the client's port is the other service's", then(shared, opened)),
		mine.as("a flow with another port goes on", settled),
		mine.as("a check finds nothing wrong with another port", then(settled, changed)),
		from(portOf(2)).as("the other port is taken, too", then(taken(client, asIs), taken(shifted, asIs))),
		from(shifted).as("the other port is a closed flow's", then(taken(client, asIs), taken(shifted, closed))),
		from(shifted).as("the other port is an idle flow's", then(taken(client, asIs), taken(shifted, idle))),
		from(portOf(8)).as("the last port", all(8)),
		round.as("ports go round", taken(high, asIs)),
		{name: "an unanswered flow whose other port is another's by now", given: robbed, want: loader.LBVerdictANSWER_RESET,
			frame: hello, out: resetTo(client, web, rst|ack, 0, 0x01020304+8+1)},
	}
}

// natted is a web and a DNS service of full NAT, with so many addresses and ports.
func natted(addrs, ports uint32) func(*world) {
	return func(w *world) {
		w.tb.Helper()
		w.put(loader.LBMapSnat, uint32(3), loader.AddressOf(own.Addr()))
		w.put(loader.LBMapSnat, uint32(4), loader.AddressOf(own2.Addr()))
		w.control(func(c *loader.Control) { c.SnatPort, c.SnatPorts = own.Port(), uint16(ports) })
		flagged(fullNAT, unchanged)(w)
		w.service(2, dns, udp, func(s *loader.Service) {
			s.Slots = 2<<32 | 1
			s.Flags |= fullNAT
		})
		w.backend(2, back1, 1, func(b *loader.Backend) { b.Sources = 3<<16 | addrs })
		w.backend(3, back2, 1, func(b *loader.Backend) { b.Sources, b.Port = 3<<16|addrs, 0 })
		w.backend(4, dns1, 2, func(b *loader.Backend) { b.Sources = 3<<16 | addrs })
	}
}

// drawn is the client's k-th source if there are two addresses with 64 ports.
func drawn(k uint32) netip.AddrPort {
	h := hashOf(flowKey(tcp, client, web))
	y := uint32(h) + uint32(h>>32|1)*k
	addr := []netip.AddrPort{own, own2}[y%2].Addr()
	return netip.AddrPortFrom(addr, uint16(30000+y/2%64))
}

// sourceRows are flows that get a source of our own: rule 3, step 10.2.
func sourceRows() []row {
	hello := segment(client, web, syn)
	from := func(src netip.AddrPort) row {
		return row{want: loader.LBVerdictFORWARD_REDIRECT, frame: hello, out: leaving(src, back1, syn), egress: uplink, counts: made("2", 48)}
	}
	next := row{want: loader.LBVerdictFORWARD_REDIRECT, frame: hello, out: leaving(own, back2, syn), egress: uplink, counts: made("3", 48)}
	none := row{want: loader.LBVerdictDROP_TUPLE_TAKEN, frame: hello}
	one, many := natted(1, 1), natted(2, 64)
	taken := func(src, backend netip.AddrPort, edit func(*entry)) func(*world) {
		return func(w *world) {
			w.tb.Helper()
			w.rivalAt(src, backend, edit)
		}
	}
	busy := func(n uint32) func(*world) {
		return func(w *world) {
			w.tb.Helper()
			for k := range n {
				w.rivalAt(drawn(k), back1, asIs)
			}
		}
	}
	beyond := func(sources uint32) func(*world) {
		return func(w *world) {
			w.tb.Helper()
			w.backend(2, back1, 1, func(b *loader.Backend) { b.Sources = sources })
			w.backend(3, back2, 1, func(b *loader.Backend) { b.Sources, b.Port = sources, 0 })
		}
	}
	return []row{
		from(own).as("full NAT", one),
		{name: "full NAT of a datagram", given: one, want: loader.LBVerdictFORWARD_REDIRECT, frame: datagram(client, dns),
			out: leavingDatagram(own, dns1), egress: uplink, counts: made("4", 36)},
		from(drawn(0)).as("one of many sources", many),
		from(drawn(1)).as("the first source is taken", then(many, busy(1))),
		from(drawn(15)).as("the last source", then(many, busy(15))),
		from(own).as("a closed flow's source is free", then(one, taken(own, back1, closed))),
		from(drawn(1)).as("the source of a flow that has just ended waits while there are others", then(many, taken(drawn(0), back1, closed))),
		from(own).as("an idle flow's source is free", then(one, taken(own, back1, idle))),
		from(own).as("a source towards another backend is free", then(one, taken(own, back2, asIs))),
		from(own).as("the client's own tuple does not matter", then(one, taken(client, back1, asIs))),
		next.as("no source towards the first backend", then(one, taken(own, back1, asIs))),
		none.as("no source towards any backend", then(one, taken(own, back1, asIs), taken(own, back2, asIs))),
		none.as("no addresses", natted(0, 64)),
		none.as("no ports", natted(2, 0)),
		none.as("addresses beyond the end", then(one, beyond(1024<<16|1))),
		forwarded(ack).as("a flow from before full NAT goes on", then(answered, one, changed)),
	}
}

// homeless has lost the reply entry of the disguised flow, and there is no place for it.
func homeless(w *world) {
	w.tb.Helper()
	w.deleteFlow(tcp, back1, own)
	s := spotOf(flowKey(tcp, back1, own))
	w.crowd(s.first, state(loader.LBFlowStateFLOW_ESTABLISHED, 0))
	w.crowd(s.second, state(loader.LBFlowStateFLOW_ESTABLISHED, 0))
}

// disguisedRows are flows that have a source of our own: rules 2 and 9.
func disguisedRows() []row {
	one := natted(1, 1)
	settled := then(one, opened, sends(segment(back1, own, syn|ack), segment(client, web, ack)))
	rob := func(w *world) {
		w.tb.Helper()
		w.deleteFlow(tcp, back1, own)
		w.rivalAt(own, back1, asIs)
	}
	again, goes, answer := forwarded(syn), forwarded(ack), replied(syn|ack)
	again.out, goes.out = leaving(own, back1, syn), leaving(own, back1, ack)
	answer.frame = segment(back1, own, syn|ack)
	lost := row{want: loader.LBVerdictANSWER_RESET, frame: segment(client, web, syn),
		out: resetTo(client, web, rst|ack, 0, 0x01020304+8+1)}
	there, back := left(own, back1), left(client, web)
	here, fore := left(web, client), left(back1, own)
	return []row{
		again.telling(loader.LBTroubleTROUBLE_UNANSWERED).as("a SYN that is sent again leaves with the same source", then(one, opened)),
		answer.as("an answer to a source of ours goes to the client", then(one, opened)),
		goes.as("a disguised flow goes on", settled),
		goes.as("a check finds nothing wrong with a disguise", then(settled, changed)),
		goes.as("a disguised flow outlives its source", then(settled, func(w *world) { w.put(loader.LBMapSnat, uint32(3), loader.Address{}) }, changed)),
		{name: "a datagram's answer to a source of ours", given: then(one, asked), want: loader.LBVerdictFORWARD_TX,
			frame: datagram(dns1, own), out: leavingDatagram(dns, client), counts: counted("4", "reply", 36)},
		lost.as("an unanswered flow whose source is another's by now", then(one, opened, rob)),
		{name: "a datagram whose source is another's by now", given: then(one, asked, func(w *world) {
			w.deleteFlow(udp, dns1, own)
			w.rivalAt(own, dns1, func(e *entry) { e.Flow.Key.Proto = udp })
		}), want: loader.LBVerdictDROP_FLOW_ENDED, frame: datagram(client, dns)},
		{name: "a reset of a flow whose source is another's by now", given: then(settled, sends(segment(client, web, rst)), rob),
			want: loader.LBVerdictDROP_FLOW_ENDED, frame: segment(client, web, rst)},
		answer.as("an unanswered flow takes its source back", then(one, opened, func(w *world) {
			w.deleteFlow(tcp, back1, own)
		}, opened)),
		{name: "an answered flow whose source finds no place", given: then(one, opened, sends(segment(back1, own, syn|ack)), homeless),
			want: loader.LBVerdictDROP_TABLE_FULL, frame: segment(client, web, ack)},
		{name: "an error about a source that is another's by now", given: then(settled, rob), want: loader.LBVerdictDROP_FLOW_ENDED,
			frame: tellService(here)},
		{name: "a client learns of its segment, and not from a source of ours", given: settled, want: loader.LBVerdictFORWARD_TX,
			frame: icmp(testenv.FrameSpec{Src: hop, Dst: own}, unreach, there[:28]), out: toldClient(back[:28]),
			counts: counted("2", "reply", 56)},
		{name: "all of a disguised segment is quoted", given: settled, want: loader.LBVerdictFORWARD_TX,
			frame: icmp(testenv.FrameSpec{Src: back1, Dst: own}, unreach, there), out: toldClient(back), counts: counted("2", "reply", 76)},
		{name: "a backend learns of a segment to a disguised client", given: settled, want: loader.LBVerdictFORWARD_REDIRECT,
			frame: tellService(here), out: toldBackend(back1, fore), egress: uplink, counts: counted("2", "forward", 76)},
	}
}
