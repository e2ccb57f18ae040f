package lbtest

import (
	"encoding/binary"
	"net/netip"

	"fairlead/loader"
	"fairlead/testenv"
)

// jumbo returns a copy of a frame with n zero bytes more payload, right checksums included.
func jumbo(frame []byte, n int) []byte {
	out := pad(frame, n)
	total := binary.BigEndian.Uint16(out[16:]) + uint16(n)
	for at, delta := range map[int]uint16{24: uint16(n), 50: uint16(n)} {
		sum := testenv.Sum(binary.BigEndian.AppendUint16(nil, delta), ^binary.BigEndian.Uint16(out[at:]))
		binary.BigEndian.PutUint16(out[at:], ^sum)
	}
	binary.BigEndian.PutUint16(out[16:], total)
	return out
}

// wrong returns a copy of a TCP frame whose checksum is wrong by always the same.
func wrong(frame []byte) []byte {
	sum := testenv.Sum(frame[50:52], 0x1234)
	return edit(frame, 50, byte(sum>>8), byte(sum))
}

// deadAgents is a datagram of a standby flow that nobody serves any more.
func deadAgents() row {
	return row{name: "a standby flow of an agent that is no more", want: loader.LBVerdictFORWARD_REDIRECT,
		frame: datagram(client, dns),
		given: func(w *world) {
			w.put(loader.LBMapStandby, flowKey(udp, client, dns), uint32(1))
			w.control(func(c *loader.Control) { c.Heartbeat = 1e9 })
			w.must(w.SetMonotonic(11e9 + 1))
		},
		out: testenv.UDPFrame(testenv.FrameSpec{Src: client, Dst: dns1, SrcMAC: testenv.MAC(router),
			TTL: 63, Payload: []byte("fairlead")}),
		egress: uplink, counts: made("4", 36)}
}

// zeroChecksum is about a datagram whose checksum becomes 0 by translation.
func zeroChecksum() row {
	spec := testenv.FrameSpec{Src: client, Dst: dns1, SrcMAC: testenv.MAC(router), TTL: 63, Payload: make([]byte, 2)}
	sum := binary.BigEndian.Uint16(testenv.UDPFrame(spec)[40:])
	spec.Payload = binary.BigEndian.AppendUint16(nil, sum)
	return row{
		name: "a UDP checksum that becomes 0 is sent as 0xffff", want: loader.LBVerdictFORWARD_REDIRECT,
		frame: testenv.UDPFrame(testenv.FrameSpec{Src: client, Dst: dns, Payload: spec.Payload}),
		out:   testenv.UDPFrame(spec), egress: uplink, counts: made("4", 30),
	}
}

// anyRoute makes the client's address with another first byte routable.
func (w *world) anyRoute(first byte) {
	w.tb.Helper()
	a := client.Addr().As4()
	a[0] = first
	w.route(netip.AddrPortFrom(netip.AddrFrom4(a), 0), RouteFound, Ingress)
}

// setBackend sets the state of both backends of the web service.
func setBackend(state loader.LBBackendState) func(*world) {
	return func(w *world) {
		w.tb.Helper()
		w.backend(2, back1, 1, func(b *loader.Backend) { b.State = uint8(state) })
		w.backend(3, back2, 1, func(b *loader.Backend) { b.State, b.Port = uint8(state), 0 })
	}
}

// lost makes the agent one that has been silent for longer than it may.
func (w *world) lost() {
	w.tb.Helper()
	w.control(func(c *loader.Control) { c.LossAfter, c.Heartbeat = 1e8, 1e8 })
}

// rival is a flow of another service that has the reply tuple of backend and client.
func (w *world) rival(backend netip.AddrPort, edit func(*entry)) {
	w.tb.Helper()
	e := entry{
		Flow: loader.Flow{
			Key:   flowKey(tcp, backend, client),
			Saddr: addr32(remote.Addr()), Sport: port16(remote.Port()),
			Daddr: addr32(client.Addr()), Dport: port16(client.Port()),
			Checked: now, Idle: tcpOpen, Epoch: 1, Service: 4, Backend: 2,
		},
		Stamp: loader.LBStamp{Seen: now, Era: 3, Life: life(loader.LBFlowDirDIR_REPLY, loader.LBFlowStateFLOW_ESTABLISHED)},
	}
	edit(&e)
	w.putFlow(e)
}

func closed(e *entry) {
	e.Stamp.Life = life(loader.LBFlowDirDIR_REPLY, loader.LBFlowStateFLOW_CLOSED)
}

// stale is an entry at a key that does not count.
func stale(key loader.FlowKey) entry {
	return entry{loader.Flow{Key: key}, loader.LBStamp{Era: 99}}
}

// tryRows are about the choice of a backend: rule 3, steps 9 to 11.
func tryRows() []row {
	hello := segment(client, web, syn)
	second := row{want: loader.LBVerdictFORWARD_REDIRECT, frame: hello, out: toBackend(back2, syn),
		egress: uplink, counts: made("3", 48)}
	first := row{want: loader.LBVerdictFORWARD_REDIRECT, frame: hello, out: toBackend(back1, syn),
		egress: uplink, counts: made("2", 48)}
	tries := []row{
		second.as("tuples that are all taken let the next backend serve", func(w *world) { w.crowdPorts(back1) }),
		second.as("a route that fails lets the next backend serve", func(w *world) { w.route(back1, RouteBlackhole, 0) }),
		second.as("a backend that is down is stepped over", func(w *world) {
			w.backend(2, back1, 1, func(b *loader.Backend) { b.State = uint8(loader.LBBackendStateBACKEND_DOWN) })
		}),
		second.as("a backend of IPv6 is stepped over", func(w *world) {
			w.backend(2, back1, 1, func(b *loader.Backend) { b.Addr = loader.AddressOf(webBack6.Addr()) })
		}),
		second.as("another service's backend is stepped over", func(w *world) { w.backend(2, back1, 9, func(*loader.Backend) {}) }),
		second.as("a slot without a backend is stepped over", func(w *world) { w.put(loader.LBMapSlots, uint32(0), uint32(slotUnset)) }),
		second.as("a twin that another CPU takes lets the next backend serve", func(w *world) {
			w.put(lbMapRivals, flowKey(tcp, back1, client), stale(flowKey(tcp, back1, client)))
		}),
		first.as("a closed flow's tuple is free", func(w *world) {
			w.rival(back1, closed)
		}),
		first.as("an idle flow's tuple is free", func(w *world) {
			w.rival(back1, func(e *entry) { e.Stamp.Seen, e.Flow.Checked = now-tcpOpen-1, now-hz })
		}),
		first.as("the turn goes round at the end of the run", func(w *world) {
			w.put(loader.LBMapSlots, uint32(2), uint32(3)) // not in the run, but it would do
			w.put(loader.LBMapTurns, uint32(1), uint64(2))
		}),
		first.as("all count as up when the agent is lost", func(w *world) {
			setBackend(loader.LBBackendStateBACKEND_DOWN)(w)
			w.service(1, web, tcp, func(s *loader.Service) { s.SlotsAll = 2 })
			w.lost()
		}),
		first.as("an entry of another era is replaced", func(w *world) {
			w.send(hello)
			w.control(func(c *loader.Control) { c.Era = 4 })
			w.put(loader.LBMapTurns, uint32(1), uint64(0))
		}),
		first.as("an entry that was silent too long is replaced", func(w *world) {
			w.send(hello)
			w.at(now + tcpNew + 1)
			w.put(loader.LBMapTurns, uint32(1), uint64(0))
		}),
	}
	return append(tries, failRows(hello)...)
}

// failRows are tries that all fail.
func failRows(hello []byte) []row {
	both := func(result int32, ifindex uint32) func(*world) {
		return func(w *world) {
			w.tb.Helper()
			w.route(back1, result, ifindex)
			w.route(back2, result, ifindex)
		}
	}
	winner := loader.Flow{
		Saddr: addr32(client.Addr()), Sport: port16(client.Port()),
		Key:   flowKey(tcp, client, web),
		Daddr: addr32(back2.Addr()), Dport: port16(back2.Port()),
		Idle: tcpNew, Checked: now, Epoch: 1, Service: 1, Backend: 3, L4Delta: 0xffff, IpDelta: 0xffff,
		Hop: loader.Hop{Ifindex: uplink, Mtu: mtu, Dmac: [6]uint8(testenv.MAC(back2.Addr())), Smac: [6]uint8(testenv.MAC(router))},
	}
	asWinner := toBackend(back2, syn) // but for the checksums, which the winner's deltas leave alone
	copy(asWinner[24:26], hello[24:26])
	copy(asWinner[50:52], hello[50:52])
	return []row{
		{name: "another CPU's flow is followed", want: loader.LBVerdictFORWARD_REDIRECT, frame: hello,
			given: func(w *world) {
				w.put(lbMapRivals, flowKey(tcp, client, web), entry{winner, loader.LBStamp{Seen: now, Era: 3}})
			},
			out: asWinner, egress: uplink, counts: counted("3", "forward", 48)},
		{name: "another CPU's entry does not count", want: loader.LBVerdictDROP_TABLE_FULL, frame: hello,
			given: func(w *world) {
				w.put(lbMapRivals, flowKey(tcp, client, web), stale(flowKey(tcp, client, web)))
			}},
		{name: "every backend's tuple is taken", want: loader.LBVerdictDROP_TUPLE_TAKEN, frame: hello,
			given: func(w *world) {
				w.crowdPorts(back1)
				w.crowdPorts(back2)
			}},
		{name: "no backend's neighbour is known", want: loader.LBVerdictDROP_NO_NEIGHBOUR, frame: hello,
			given: both(RouteNoNeighbour, 0)},
		{name: "no backend has a route", want: loader.LBVerdictDROP_NO_ROUTE, frame: hello,
			given: both(RouteBlackhole, 0)},
		{name: "every backend is behind a device that XDP cannot use", want: loader.LBVerdictDROP_DEVICE, frame: hello,
			given: both(RouteFound, 77)},
	}
}

// as returns a copy of r with a name and a world of its own.
func (r row) as(name string, given func(*world)) row {
	r.name, r.given = name, given
	return r
}
