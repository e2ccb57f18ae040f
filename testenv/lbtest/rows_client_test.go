package lbtest

import (
	"net/netip"

	"fairlead/loader"
)

const (
	listed  = uint8(loader.LBServiceFlagSERVICE_LISTED)
	limited = uint8(loader.LBServiceFlagSERVICE_LIMITED)
	fullNAT = uint8(loader.LBServiceFlagSERVICE_FULL_NAT)
)

// neighbour is another host of the client's network.
var neighbour = netip.MustParseAddrPort("198.51.100.2:40000")

// flagged gives the web service more flags.
func flagged(flags uint8, edit func(*loader.Service)) func(*world) {
	return func(w *world) {
		w.tb.Helper()
		w.service(1, web, tcp, func(s *loader.Service) {
			s.Slots, s.SlotsAll = 2, 2
			s.Flags |= flags
			edit(s)
		})
	}
}

func unchanged(*loader.Service) {}

// ruled adds to the list of clients of a service.
func ruled(row uint32, network string, rule loader.LBClientRule) func(*world) {
	p := netip.MustParsePrefix(network)
	return func(w *world) {
		w.tb.Helper()
		key := loader.ClientPrefix{Len: uint32(32 + p.Bits()), Service: row, Addr: addr32(p.Addr())}
		w.put(loader.LBMapClients, key, uint32(rule))
	}
}

// clientRows are clients that a service knows by name: rule 3, step 7.
func clientRows() []row {
	const allow, deny = loader.LBClientRuleCLIENT_ALLOW, loader.LBClientRuleCLIENT_DENY
	lists := flagged(listed, unchanged)
	hello := segment(client, web, syn)
	denied := row{want: loader.LBVerdictDROP_DENIED, frame: hello}
	allowed := row{want: loader.LBVerdictFORWARD_REDIRECT, frame: hello, out: toBackend(back1, syn), egress: uplink, counts: made("2", 48)}
	all := ruled(1, "0.0.0.0/0", allow)
	return []row{
		denied.as("a client that no list names", lists),
		denied.as("a client that only another service's list names", then(lists, ruled(2, "0.0.0.0/0", allow))),
		denied.as("a client of another network", then(lists, ruled(1, "198.51.101.0/24", allow))),
		denied.as("a client that is denied", then(lists, all, ruled(1, "198.51.100.0/24", deny))),
		denied.as("a host of a network that is allowed", then(lists, ruled(1, "198.51.100.0/24", allow), ruled(1, "198.51.100.1/32", deny))),
		allowed.as("everybody is allowed", then(lists, all)),
		allowed.as("a host of a network that is denied", then(lists, ruled(1, "198.51.100.0/24", deny), ruled(1, "198.51.100.1/32", allow))),
		allowed.as("a list that does not matter", ruled(1, "0.0.0.0/0", deny)),
		forwarded(ack).as("a flow of a client that is denied by now goes on", then(answered, lists, changed)),
		{name: "a source that nobody may have, though it is allowed", want: loader.LBVerdictDROP_SOURCE,
			frame: edit(hello, 26, 127), given: then(lists, all, func(w *world) { w.anyRoute(127) })},
	}
}

// limitRows are clients that make many flows: rule 3, step 7.
func limitRows() []row {
	limit := func(mask string, rate, burst uint32) func(*world) {
		return flagged(limited, func(s *loader.Service) {
			s.LimitMask, s.LimitRate, s.LimitBurst = loader.AddressOf(netip.MustParseAddr(mask)), rate, burst
		})
	}
	hello, before := segment(client, web, syn), segment(neighbour, web, syn)
	known := func(w *world) {
		w.tb.Helper()
		w.route(neighbour, RouteFound, Ingress)
	}
	over := row{want: loader.LBVerdictDROP_SOURCE_LIMIT, frame: hello}
	// The flow before went to the first backend.
	next := row{want: loader.LBVerdictFORWARD_REDIRECT, frame: hello, out: toBackend(back2, syn), egress: uplink, counts: made("3", 48)}
	host := limit("255.255.255.255", 1, 1)
	net := limit("255.255.255.0", 1, 1)
	other := opens(1)
	return []row{
		over.as("the credit of a host is used up", then(host, other)),
		over.as("the credit of a network is used up", then(known, net, sends(before))),
		over.as("the credit of all is used up", then(known, limit("0.0.0.0", 1, 1), sends(before))),
		next.as("another host has a credit of its own", then(known, host, sends(before))),
		next.as("the credit is for more than one flow", then(limit("255.255.255.255", 0, 2), other)),
		next.as("a flow's worth of credit has come back", then(net, other, waits(now+hz))),
		over.as("a tick is missing", then(net, other, waits(now+hz-1))),
		next.as("credit comes back faster", then(limit("255.255.255.0", 5, 1), other, waits(now+hz/5))),
		over.as("credit does not come back without a rate", then(limit("255.255.255.0", 0, 1), other, waits(now+100*hz))),
		over.as("a credit does not grow beyond its burst", then(host, other, waits(now+10*hz), opens(2))),
		over.as("what was refused does not count", then(host, other, waits(now+hz/2), opens(2), waits(now+hz-1))),
		next.as("what was refused costs nothing", then(host, other, waits(now+hz/2), opens(2), waits(now+hz))),
		over.as("a clock that goes back brings no credit", then(host, other, waits(now-1))),
		forwarded(ack).as("a limit is for new flows", then(host, answered)),
		sentAgain().as("a SYN that is sent again is no new flow", then(host, opened)),
	}
}

// opens lets the client make a flow from a port so far from its own.
func opens(offset uint16) func(*world) {
	return sends(segment(netip.AddrPortFrom(client.Addr(), client.Port()+offset), web, syn))
}
