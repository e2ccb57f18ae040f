package lbtest

import (
	"fmt"
	"net/netip"

	"fairlead/loader"
)

const (
	p2c   = loader.LBBalanceBALANCE_P2C
	least = loader.LBBalanceBALANCE_LEAST
)

// weighted gives the web service's backends weights.
func weighted(first, second uint32) func(*world) {
	return func(w *world) {
		w.tb.Helper()
		w.backend(2, back1, 1, func(b *loader.Backend) { b.Weight = first })
		w.backend(3, back2, 1, func(b *loader.Backend) { b.Weight, b.Port = second, 0 })
	}
}

// busy lets other clients have so many connections of each backend.
func busy(first, second uint16) func(*world) {
	return func(w *world) {
		w.tb.Helper()
		balanced(loader.LBBalanceBALANCE_ROUND_ROBIN, unchanged)(w)
		for i := range first + second {
			slot := uint64(0)
			if i >= first {
				slot = 1
			}
			turn(slot)(w)
			opens(i + 1)(w)
		}
		turn(0)(w)
	}
}

// anotherOwner gives the row of the first backend, which is as it was, to
// another one, that gets so many connections.
func anotherOwner(connections uint16) func(*world) {
	return func(w *world) {
		w.tb.Helper()
		w.backend(2, back1, 1, func(b *loader.Backend) { b.Gen, b.Weight = 23, 1 })
		for i := range connections {
			turn(0)(w)
			opens(50 + i)(w)
		}
	}
}

// crowdOfDown lets the first slots have backends that are down.
func crowdOfDown(w *world) {
	w.tb.Helper()
	for i := range uint32(7) {
		w.backend(8+i, back1, 1, func(b *loader.Backend) {
			b.State, b.Weight = uint8(loader.LBBackendStateBACKEND_DOWN), 1
		})
		w.put(loader.LBMapSlots, 8+i, 8+i)
	}
}

// leastRows are about ways to choose a backend by connections.
func leastRows() []row {
	chooses := func(how loader.LBBalance, given ...func(*world)) func(*world) {
		return then(append([]func(*world){weighted(1, 1)}, append(given, balanced(how, unchanged))...)...)
	}
	noRoute := func(w *world) { w.route(back1, RouteBlackhole, 0) }
	return []row{
		takes("of equals the one whose turn it is", client, 1, chooses(least), turn(1)),
		takes("the fewest connections", client, 1, chooses(least, busy(1, 0)), turn(0)),
		takes("fewer connections than another", client, 0, chooses(least, busy(2, 3)), turn(1)),
		takes("the fewest connections for its weight", client, 0, chooses(least, weighted(4, 1), busy(1, 0)), turn(1)),
		takes("the heaviest of those without connections", client, 0, chooses(least, weighted(3, 1)), turn(1)),
		takes("a backend without weight is the last", client, 1, chooses(least, weighted(0, 1), busy(0, 3)), turn(0)),
		takes("who has the fewest connections is tried once", client, 1, chooses(least, busy(0, 1), noRoute), turn(0)),
		takes("who is down has no connections", client, 1, chooses(least), crowdOfDown, turn(0)),
		takes("an earlier owner's connections do not count", client, 0, chooses(least, busy(1, 0), anotherOwner(0)), turn(0)),
		takes("the better of two, the first", client, 0, chooses(p2c, busy(1, 2)), random(0, 1)),
		takes("the better of two, the second", client, 1, chooses(p2c, busy(2, 1)), random(0, 1)),
		takes("the same of two", client, 1, chooses(p2c, busy(0, 1)), random(1, 1)),
		takes("of two equals the first", client, 1, chooses(p2c), random(1, 0)),
		takes("of two the better for its weight", client, 0, chooses(p2c, weighted(4, 1), busy(1, 0)), random(1, 0)),
		takes("of two the one that was not tried", client, 1, chooses(p2c, busy(0, 1), noRoute), random(0, 1, 0, 1)),
		takes("of two the one that is not down", client, 1, chooses(p2c), crowdOfDown, turn(0), random(0, 1),
			func(w *world) { w.put(loader.LBMapSlots, uint32(9), uint32(3)) },
			func(w *world) {
				w.service(1, web, tcp, func(s *loader.Service) { s.Slots, s.Balance = 8<<32|2, uint8(p2c) })
			}),
		replied(rst).as("the backend ends a connection", opened),
		{name: "an earlier owner's flow ends", given: then(weighted(1, 1), opened, anotherOwner(1), changed),
			want: loader.LBVerdictDROP_FLOW_ENDED, frame: segment(client, web, rst)},
		replied(ack).as("an earlier owner's flow goes on after a reset",
			then(weighted(1, 1), answered, sends(segment(back1, client, rst)), anotherOwner(1))),
	}
}

// tiedRows are about clients that stay with their backends.
func tiedRows() []row {
	tied := func(given ...func(*world)) func(*world) {
		stays := balanced(loader.LBBalanceBALANCE_ROUND_ROBIN, func(s *loader.Service) { s.Affinity = 20 })
		return then(append([]func(*world){weighted(1, 1), stays, turn(0), opens(1), turn(1)}, given...)...)
	}
	down := func(w *world) {
		w.backend(2, back1, 1, func(b *loader.Backend) { b.State, b.Weight = uint8(loader.LBBackendStateBACKEND_DOWN), 1 })
	}
	unsure := func(w *world) {
		w.backend(2, back1, 1, func(b *loader.Backend) { b.Flags, b.Weight = uint8(loader.LBBackendFlagBACKEND_UNSURE), 1 })
	}
	noRoute := func(w *world) { w.route(back1, RouteBlackhole, 0) }
	return []row{
		takes("a client stays with its backend", client, 0, tied()),
		takes("so does its neighbour", neighbour, 0, tied()),
		takes("another network has none yet", at(101, 1, 40000), 1, tied()),
		takes("a client stays for a time", client, 0, tied(waits(now+20*hz))),
		takes("a client stays no longer", client, 1, tied(waits(now+20*hz+1))),
		takes("each flow lets it stay again", client, 0, tied(waits(now+15*hz), opens(2), turn(1), waits(now+30*hz))),
		takes("a backend that is down loses its clients", client, 1, tied(down)),
		takes("a backend that is up for other clients' panic loses its clients", client, 1, tied(unsure)),
		takes("a backend that is to have no new flows loses its clients", client, 1, tied(weighted(0, 1))),
		takes("another backend in its row does not get its clients", client, 1, tied(anotherOwner(0))),
		takes("a backend without a route is tried and left", client, 1, tied(noRoute)),
		takes("a service without affinity asks nobody", client, 1, tied(balanced(loader.LBBalanceBALANCE_ROUND_ROBIN, unchanged))),
	}
}

// boundedRows are about consistent hashing with bounded loads.
func boundedRows() []row {
	// A client whose first two slots are of the first backend and of the second one.
	from, h := at(100, 1, 41000), uint64(1)
	for h%2 != 0 || finalize(h+1)%2 != 1 {
		from = netip.AddrPortFrom(from.Addr(), from.Port()+1)
		h = clientHash(0, tcp, from, web)
	}
	bounded := func(name string, slot uint64, maxLoad, weights uint32, given ...func(*world)) row {
		return takes(name, from, slot, append(append([]func(*world){weighted(1, 1)}, given...),
			balanced(loader.LBBalanceBALANCE_HASH, func(s *loader.Service) { s.MaxLoad, s.Weights = maxLoad, weights }))...)
	}
	down := func(w *world) {
		w.backend(3, back2, 1, func(b *loader.Backend) { b.State = uint8(loader.LBBackendStateBACKEND_DOWN) })
	}
	return []row{
		bounded("a backend with room for one more", 0, 100, 2),
		bounded("a backend without room", 1, 100, 2, busy(1, 0)),
		bounded("as much as the bound", 1, 150, 2, busy(3, 0)),
		bounded("room that the next backend has made", 0, 150, 2, busy(2, 2)),
		bounded("more room for more weight", 0, 100, 4, weighted(3, 1), busy(1, 0)),
		bounded("nobody has room, the first has fewest", 0, 1, 2, busy(1, 2)),
		bounded("nobody has room, the second has fewest", 1, 1, 2, busy(2, 1)),
		bounded("who has room is down", 0, 100, 2, busy(1, 0), down),
		bounded("no bound", 0, 0, 2, busy(3, 0)),
	}
}

// connections returns how many each row of backends has by the flow table, and
// each row of services.
func (w *world) connections() (backends, services []loader.LBConnections) {
	w.tb.Helper()
	for _, b := range readAll[loader.Backend](w, loader.LBMapBackends) {
		backends = append(backends, loader.LBConnections{Gen: b.Gen})
	}
	for _, s := range readAll[loader.Service](w, loader.LBMapServices) {
		services = append(services, loader.LBConnections{Gen: s.Gen})
	}
	add := func(rows []loader.LBConnections, row, gen uint32) {
		if int(row) < len(rows) && rows[row].Gen == gen {
			rows[row].Count++
		}
	}
	table, err := loader.OpenFlowTable(w.Own(loader.LBMapFlows))
	w.must(err)
	for e := range table.Each {
		if e.Dir() == loader.LBFlowDirDIR_FORWARD && !e.Over() {
			add(backends, e.Backend, e.BackendGen)
			add(services, e.Service, e.ServiceGen)
		}
	}
	w.must(table.Close())
	return backends, services
}

func readAll[T any](w *world, name string) []T {
	w.tb.Helper()
	all, err := loader.ReadArray[T](w.Maps[name])
	w.must(err)
	return all
}

// eachMiscounted calls f with the rows whose counts are not what the flow table
// says.
func (w *world) eachMiscounted(f func(name string, row uint32, got, want loader.LBConnections)) {
	w.tb.Helper()
	backends, services := w.connections()
	for name, wants := range map[string][]loader.LBConnections{loader.LBMapBackendConns: backends, loader.LBMapServiceConns: services} {
		counts := readAll[loader.LBConnections](w, name)
		for row, want := range wants {
			if got := counts[row]; got != want && (got.Gen == want.Gen || want.Count > 0) {
				f(name, uint32(row), got, want)
			}
		}
	}
}

// settleConnections makes the counts right: the test may have put entries into
// the flow table.
func (w *world) settleConnections() {
	w.tb.Helper()
	w.eachMiscounted(func(name string, row uint32, _, want loader.LBConnections) { w.put(name, row, want) })
}

// miscounted are faults of the counts.
func (w *world) miscounted() map[string]uint64 {
	w.tb.Helper()
	wrong := map[string]uint64{}
	w.eachMiscounted(func(name string, row uint32, got, want loader.LBConnections) {
		wrong[fmt.Sprintf("%s %d has %+v, want %+v", name, row, got, want)] = 1
	})
	return wrong
}
