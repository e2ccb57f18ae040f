package lbtest

import (
	"net/netip"

	"fairlead/loader"
)

// allServices is ALL_SERVICES of bpf/types.h.
const allServices = 1<<32 - 1

// The rows of the web service's zones.
const (
	zoneOne = 5 // has the second backend alone, both while all count as up
	zoneTwo = 6 // has both
)

// zoned gives the web service slots of its own, of the first backend, and those
// of two zones.
func zoned(edit func(*loader.Service)) func(*world) {
	return func(w *world) {
		w.tb.Helper()
		w.service(1, web, tcp, func(s *loader.Service) {
			s.Slots, s.SlotsAll, s.Zones = 0<<32|1, 0<<32|1, zoneOne+1
			edit(s)
		})
		w.zone(zoneOne, loader.Service{Zone: 1, Zones: zoneTwo + 1, Slots: 1<<32 | 1, SlotsAll: 0<<32 | 2})
		w.zone(zoneTwo, loader.Service{Zone: 2, Slots: 0<<32 | 2, SlotsAll: 0<<32 | 2})
	}
}

func (w *world) zone(row uint32, s loader.Service) {
	w.tb.Helper()
	s.Gen, s.State = 70+row, uint8(loader.LBServiceStateSERVICE_ZONE)
	w.put(loader.LBMapServices, row, s)
}

// in says in which zone a network is.
func in(zone uint32, network string) func(*world) {
	return ruled(allServices, network, loader.LBClientRule(zone))
}

// zoneTurn says whose turn it is in a zone.
func zoneTurn(row uint32, n uint64) func(*world) {
	return func(w *world) {
		w.tb.Helper()
		w.put(loader.LBMapTurns, row, n)
	}
}

// circle lets the zones of the web service go round.
func circle(w *world) {
	w.tb.Helper()
	w.zone(zoneTwo, loader.Service{Zone: 2, Zones: zoneOne + 1, Slots: 0<<32 | 2, SlotsAll: 0<<32 | 2})
}

// zoneRows are clients of zones: rule 3, "zones".
func zoneRows() []row {
	const hash = loader.LBBalanceBALANCE_HASH
	zones, net, host := zoned(unchanged), "198.51.100.0/24", "198.51.100.1/32"
	lost := func(w *world) { w.control(func(c *loader.Control) { c.LossAfter = 1 }) }
	empty := func(w *world) { w.zone(zoneOne, loader.Service{Zone: 1}) }
	stays := zoned(func(s *loader.Service) { s.Affinity = 20 })
	hashed := zoned(func(s *loader.Service) { s.Balance = uint8(hash) })
	resumed := takes("a packet from the middle of a flow of a client of a zone", client, 1, hashed, in(1, net))
	resumed.frame, resumed.out = segment(client, web, ack), leaving(client, back2, ack)
	return []row{
		takes("a client of no zone", client, 0, zones, zoneTurn(1, 1)),
		takes("a client of a zone", client, 1, zones, in(1, net)),
		takes("a client of another zone", client, 1, zones, in(2, net), zoneTurn(zoneTwo, 1)),
		takes("each zone has turns of its own", client, 0, zones, in(2, net), zoneTurn(1, 1), zoneTurn(zoneOne, 1)),
		takes("the longest prefix says the zone", client, 0, zones, in(1, net), in(2, host)),
		takes("a host of a zone is in none", client, 0, zones, in(1, net), in(0, host)),
		takes("a neighbour's zone", client, 0, zones, in(1, "198.51.100.2/31")),
		takes("a client of a zone that the service has not", client, 0, zones, in(3, net)),
		takes("a client of a zone that the service has not, whose zones go round", client, 0, zones, circle, in(3, net)),
		takes("a list of clients says no zone", client, 0, zones, ruled(1, net, loader.LBClientRuleCLIENT_ALLOW)),
		takes("a client of a zone at a service without", client, 0, in(1, net)),
		takes("a client of a zone whose backends all count as up", client, 0, zones, in(1, net), lost),
		takes("a client of a zone stays with a backend of another one", client, 0, weighted(1, 1), stays, opens(1), in(1, net)),
		takes("a client of a zone by its hash", client, 1, hashed, in(1, net)),
		resumed,
		{name: "a zone without backends", given: then(zones, empty, in(1, net)), want: loader.LBVerdictANSWER_RESET,
			frame: segment(client, web, syn), out: resetTo(client, web, rst|ack, 0, 0x01020304+9)},
		forwarded(ack).as("a flow stays where it is when its client gets a zone", then(answered, zones, in(1, net), changed)),
	}
}

// zoned6 puts the client of IPv6 into a zone whose service has no slots itself.
func zoned6(network string) func(*world) {
	p := netip.MustParsePrefix(network)
	return func(w *world) {
		w.tb.Helper()
		w.service(1, web6, tcp, func(s *loader.Service) { s.Zones = zoneOne + 1 })
		w.zone(zoneOne, loader.Service{Zone: 1, Slots: 0<<32 | 1})
		key := loader.ClientPrefix6{Len: uint32(32 + p.Bits()), Service: allServices, Addr: loader.AddressOf(p.Addr())}
		w.put(loader.LB6MapClients6, key, uint32(1))
	}
}

// zoneRows6 are clients of zones.
func zoneRows6() []row {
	return []row{
		opens6("").as("a client of a zone", zoned6("2001:db8:1::/48")),
		opens6("").as("a client that is a zone by itself", zoned6("2001:db8:1::7/128")),
		{name: "a neighbour's zone", given: zoned6("2001:db8:1::8/125"), want: loader.LBVerdictANSWER_RESET,
			frame: segment6(client6, web6, syn), out: reset6(client6, web6, rst|ack, 0, 0x01020304+9)},
	}
}
