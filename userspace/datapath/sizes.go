package datapath

import (
	"maps"

	"fairlead/loader"
	"fairlead/userspace/model"
)

// Needs returns the sizes of maps that hold what is there now beside what
// state wants, so that one can be made before the other is broken. What is
// there and wanted counts once; have may be nil.
func Needs(have *Writer, state *model.State) loader.Sizes {
	t := taken{
		services: map[loader.Service]bool{}, backends: map[owned]bool{},
		listeners: map[loader.Listener]bool{}, vips: map[uint32]uint32{}, clients: map[listed]bool{},
	}
	if have != nil {
		t.addRows(have.rows)
	}
	slots := 0
	for i := range state.Services {
		s := Service{Service: state.Services[i]}
		_, all := s.slots()
		slots += 4 * len(all) // up and all, old and new
		t.addService(&s)
	}
	return loader.Sizes{
		Services: uint32(len(t.services)), Backends: uint32(len(t.backends)),
		Listeners: uint32(len(t.listeners)), VIPs: uint32(len(t.vips)),
		Slots: uint32(slots), Clients: uint32(len(t.clients)), Flows: flowTable(state),
	}
}

// taken is what has, or will have, an entry in the maps.
type taken struct {
	services  map[loader.Service]bool // by identity
	backends  map[owned]bool
	listeners map[loader.Listener]bool
	vips      map[uint32]uint32
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
	network loader.ClientPrefix // of row 0
}

func (t *taken) addService(s *Service) {
	row := s.row()
	id := identity(&row)
	t.services[id] = true
	for _, b := range s.Backends {
		t.backends[owned{id, loader.Backend{Addr: be32(b.Address.Addr()), Port: be16(b.Address.Port())}}] = true
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
		row := network.Service
		if int(row) < len(r.services) && r.services[row].State != serviceNone { // else it goes first
			network.Service = 0
			t.clients[listed{identity(&r.services[row]), network}] = true
		}
	}
	maps.Copy(t.vips, r.vips)
}
