package datapath

import (
	"maps"
	"net/netip"

	"fairlead/loader"
	"fairlead/userspace/balance"
	"fairlead/userspace/model"
)

// Needs returns the sizes of maps that hold what is there now beside what
// state wants, so that one can be made before the other is broken. What is
// there and wanted counts once; have may be nil. Tables of IPv6 come with the
// first service of it, and stay then.
func Needs(have *Writer, state *model.State) loader.Sizes {
	t := taken{
		services: map[loader.Service]bool{}, backends: map[owned]bool{},
		listeners: map[listener]bool{}, vips: map[netip.Addr]uint32{}, clients: map[listed]bool{},
	}
	six, mixed := false, false
	var stays, stays6 uint32 // networks whose backend is remembered
	rows := &rows{}
	if have != nil {
		rows = have.rows
		six = have.maps != nil && have.maps.Flows6 != nil
	}
	t.addRows(rows)
	services := make([]Service, len(state.Services))
	for i := range services {
		services[i] = Service{Service: state.Services[i]}
	}
	numbers := rows.numbersOf(services)
	slots := 0
	for i := range services {
		s := &services[i]
		slots += 4 * (1 + len(s.ClientZones.Names())) * balance.MostSlots(&s.Service) // up and all, old and new
		t.addService(s, numbers)
		mixed = mixed || s.Mixed()
		is6 := s.Mixed() || s.Listen.Addr().Is6() // where its flows stand
		six = six || is6
		if s.Affinity > 0 && is6 {
			stays6 = affinityNetworks
		} else if s.Affinity > 0 {
			stays = affinityNetworks
		}
	}
	for network := range networksOf(services, numbers) {
		t.clients[listed{network: network}] = true
	}
	sizes := loader.Sizes{
		Services: uint32(len(t.services)), Backends: uint32(len(t.backends)), Slots: uint32(slots), Flows: flowTable(state),
		Affinity: stays, Affinity6: stays6,
	}
	sizes.Listeners, sizes.Listeners6 = byFamily(t.listeners, func(l listener) bool { return l.at.Addr().Is6() })
	sizes.VIPs, sizes.VIPs6 = byFamily(t.vips, netip.Addr.Is6)
	sizes.Clients, sizes.Clients6 = byFamily(t.clients, func(l listed) bool { return l.network.prefix.Addr().Is6() })
	sizes.Mixed = mixed
	if six {
		sizes.Flows6 = sizes.Flows
	}
	return sizes
}

// affinityNetworks is how many networks of clients the kernel remembers the
// backends of, for all services of a family together.
const affinityNetworks = 65536

// byFamily counts the keys of IPv4 and those of IPv6.
func byFamily[K comparable, V any](keys map[K]V, is6 func(K) bool) (four, six uint32) {
	for k := range keys {
		if is6(k) {
			six++
		} else {
			four++
		}
	}
	return four, six
}

// taken is what has, or will have, an entry in the maps.
type taken struct {
	services  map[loader.Service]bool // by identity
	backends  map[owned]bool
	listeners map[listener]bool
	vips      map[netip.Addr]uint32
	clients   map[listed]bool
}

// An owned backend is one of a service.
type owned struct {
	service loader.Service
	backend loader.Backend // address and port only
}

// A listed network is one that a service has a rule for.
type listed struct {
	service loader.Service
	network network // of row 0
}

func (t *taken) addService(s *Service, numbers zoneNumbers) {
	row := s.row()
	id := identity(&row)
	t.services[id] = true
	for _, name := range s.ClientZones.Names() {
		zone := s.zoneRow(numbers[name])
		t.services[identity(&zone)] = true
	}
	for _, b := range s.Backends {
		t.backends[owned{id, loader.Backend{Addr: loader.AddressOf(b.Address.Addr()), Port: be16(b.Address.Port())}}] = true
	}
	for network := range s.clients(0) {
		t.clients[listed{id, network}] = true
	}
	for _, l := range s.listeners() {
		t.listeners[l] = true
	}
	s.addUses(t.vips)
}

func (t *taken) addRows(r *rows) {
	for i := range r.services {
		if r.services[i].State != serviceNone {
			t.services[identity(&r.services[i])] = true
		}
	}
	for i := range r.backends {
		b := &r.backends[i]
		if b.State == backendNone || int(b.Service) >= len(r.services) {
			continue
		}
		t.backends[owned{identity(&r.services[b.Service]), loader.Backend{Addr: b.Addr, Port: b.Port}}] = true
	}
	for l := range r.listeners {
		t.listeners[l] = true
	}
	for network := range r.clients {
		row := network.service
		if row == everyService {
			t.clients[listed{network: network}] = true
		} else if int(row) < len(r.services) && r.services[row].State != serviceNone { // else it goes first
			network.service = 0
			t.clients[listed{identity(&r.services[row]), network}] = true
		}
	}
	maps.Copy(t.vips, r.vips)
}
