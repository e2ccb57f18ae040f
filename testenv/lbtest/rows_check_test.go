package lbtest

import (
	"fairlead/loader"
	"fairlead/testenv"
)

// Rows of the maps that the flow's ids no longer name.
func serviceReplaced(w *world) {
	w.tb.Helper()
	w.service(1, web, tcp, func(s *loader.Service) { s.Gen, s.Slots = 171, 2 })
	changed(w)
}

func backendReplaced(w *world) {
	w.tb.Helper()
	w.backend(2, back1, 1, func(b *loader.Backend) { b.Gen = 122 })
	changed(w)
}

func backendDown(w *world) {
	w.tb.Helper()
	w.backend(2, back1, 1, func(b *loader.Backend) { b.State = uint8(loader.LBBackendStateBACKEND_DOWN) })
	changed(w)
}

func dnsDown(w *world) {
	w.tb.Helper()
	w.backend(4, dns1, 2, func(b *loader.Backend) { b.State = uint8(loader.LBBackendStateBACKEND_DOWN) })
	changed(w)
}

// checkRows are packets of flows that are looked at again: rule 2, step 5.
func checkRows() []row {
	return append(append(endRows(), twinRows()...), wayRows()...)
}

// ended is a packet that is answered with a reset, since it has an ACK.
func ended(name string, given func(*world)) row {
	return row{name: name, given: given, want: loader.LBVerdictANSWER_RESET, frame: segment(client, web, ack),
		out: resetTo(client, web, rst, 0x01020305, 0)}
}

// endRows are flows whose service or backend is gone or down.
func endRows() []row {
	other := row{want: loader.LBVerdictDROP_FLOW_ENDED, frame: segment(client, web, rst)}
	return []row{
		ended("the service's row has another owner", then(answered, serviceReplaced)),
		ended("the backend's row has another owner", then(answered, backendReplaced)),
		ended("the backend's row is free", then(answered, func(w *world) {
			w.backend(2, back1, 1, func(b *loader.Backend) { b.State = 0 })
			changed(w)
		})),
		ended("the backend is down", then(answered, backendDown)),
		ended("the backend is down, which is seen within a second", then(answered, backendDown, func(w *world) {
			w.control(func(*loader.Control) {})
			w.at(now + hz)
		})),
		{name: "the backend's side is reset too", given: then(answered, backendDown, sends(segment(client, web, ack))),
			want: loader.LBVerdictANSWER_RESET, frame: segment(back1, client, ack),
			out: resetTo(back1, client, rst, 0x01020305, 0)},
		{name: "a flow that has told both sides is no flow", want: loader.LBVerdictPASS_NO_FLOW,
			given: then(answered, backendDown, sends(segment(client, web, ack))), frame: segment(client, web, ack)},
		forwarded(ack).as("a service may keep flows of a backend that is down", then(answered, func(w *world) {
			w.service(1, web, tcp, func(s *loader.Service) { s.Flags |= uint8(loader.LBServiceFlagSERVICE_KEEP) })
			backendDown(w)
		})),
		forwarded(ack).as("a backend that is down counts as up when the agent is lost", then(answered, backendDown,
			func(w *world) {
				w.control(func(c *loader.Control) { c.Epoch, c.LossAfter, c.Heartbeat = 2, 1e8, 1e8 })
			})),
		reopened().as("a SYN that nobody answered tries another backend", then(opened, backendDown)),
		{name: "a SYN of an answered flow is reset", given: then(answered, backendDown), want: loader.LBVerdictANSWER_RESET,
			frame: segment(client, web, syn), out: resetTo(client, web, rst|ack, 0, 0x01020304+8+1)},
		other.as("a reset does not answer a reset", then(answered, backendDown)),
		other.as("a reset is the end of an ended flow", then(answered, backendDown, func(w *world) {
			w.control(func(c *loader.Control) { c.Epoch, c.ReplyLimit = 2, 0 })
		}, sends(segment(client, web, ack)))),
		{name: "a reset that the limit forbids", want: loader.LBVerdictDROP_REPLY_LIMIT, frame: segment(client, web, ack),
			given: then(answered, backendDown, func(w *world) {
				w.control(func(c *loader.Control) { c.Epoch, c.ReplyLimit = 2, 0 })
			})},
		{name: "a datagram from a backend that is down", given: then(asked, dnsDown),
			want: loader.LBVerdictDROP_FLOW_ENDED, frame: datagram(dns1, client)},
	}
}

// twinRows are flows whose twin is missing or another's.
func twinRows() []row {
	taken := func(w *world) {
		answered(w)
		w.rival(back1, func(*entry) {})
		changed(w)
	}
	return []row{
		replied(ack).as("a missing twin is made again", then(answered, func(w *world) {
			w.deleteFlow(tcp, back1, client)
			changed(w)
		}, sends(segment(client, web, ack)))),
		forwarded(ack).as("the reply makes a missing forward entry again", then(answered, func(w *world) {
			w.deleteFlow(tcp, client, web)
			changed(w)
		}, sends(segment(back1, client, ack)))),
		forwarded(ack).as("traffic in one direction keeps the other alive", then(answered,
			waits(now+tcpOpen-1), sends(segment(back1, client, ack)), waits(now+tcpOpen+1000))),
		ended("another live flow has the reply's tuple", taken),
		{name: "a reset of a flow that lost its tuple", given: taken, want: loader.LBVerdictDROP_FLOW_ENDED,
			frame: segment(client, web, rst)},
		replied(ack).as("a closed flow gives the reply's tuple back", then(answered, func(w *world) {
			w.rival(back1, closed)
			changed(w)
		}, sends(segment(client, web, ack)))),
	}
}

// wayRows are flows whose way out is looked up again.
func wayRows() []row {
	moved := forwarded(ack)
	moved.out = edit(moved.out, 0, 2, 2, 2, 2, 2, 2)
	lastWay := replied(ack)
	return []row{
		moved.as("the next hop has moved", then(answered, func(w *world) {
			r := Route{Result: RouteFound, Ifindex: uplink, Mtu: mtu, Dmac: [6]uint8{2, 2, 2, 2, 2, 2}}
			copy(r.Smac[:], testenv.MAC(router))
			w.must(w.SetRoute(back1.Addr(), r))
			changed(w)
		})),
		forwarded(ack).as("the next hop is not known for the moment", then(answered, func(w *world) {
			w.route(back1, RouteNoNeighbour, 0)
			changed(w)
		})),
		lastWay.as("a reply takes its last way when there is none", then(answered, func(w *world) {
			w.route(client, RouteBlackhole, 0)
			changed(w)
		})),
		{name: "the route has gone", want: loader.LBVerdictDROP_NO_ROUTE, frame: segment(client, web, ack),
			given: then(answered, func(w *world) {
				w.route(back1, RouteBlackhole, 0)
				changed(w)
			})},
		{name: "the route goes out of a device that XDP cannot use", want: loader.LBVerdictDROP_DEVICE,
			frame: segment(client, web, ack), given: then(answered, func(w *world) {
				w.route(back1, RouteFound, 77)
				changed(w)
			})},
	}
}

// answerRows are packets that nobody can serve: rule 5.
func answerRows() []row {
	none := func(w *world) {
		w.service(1, web, tcp, func(*loader.Service) {})
		w.service(2, dns, udp, func(*loader.Service) {})
	}
	hello := segment(client, web, syn)
	ask := datagram(client, dns)
	answered := resetTo(client, web, rst|ack, 0, 0x01020304+8+1)
	spent := then(none, sends(hello, hello))
	return []row{
		{name: "a SYN for a service without slots", given: none, want: loader.LBVerdictANSWER_RESET,
			frame: hello, out: answered},
		{name: "padding is no payload", given: none, want: loader.LBVerdictANSWER_RESET,
			frame: pad(hello, 6), out: answered},
		{name: "a SYN when every backend is down", given: setBackend(loader.LBBackendStateBACKEND_DOWN),
			want: loader.LBVerdictANSWER_RESET, frame: hello, out: answered},
		{name: "a datagram for a service without slots", given: none, want: loader.LBVerdictANSWER_UNREACHABLE,
			frame: ask, out: unreachable(ask, 3, 0)},
		{name: "a SYN after the last answer of this second", given: spent, want: loader.LBVerdictDROP_NO_BACKEND,
			frame: hello},
		{name: "a datagram after the last answer of this second", given: spent, want: loader.LBVerdictDROP_NO_BACKEND,
			frame: ask},
		{name: "a SYN in the next second", given: then(spent, waits(now+hz)), want: loader.LBVerdictANSWER_RESET,
			frame: hello, out: answered},
	}
}
