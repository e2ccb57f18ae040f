package datapath

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"fairlead/loader"
	"fairlead/userspace/model"
)

// rows is what the maps hold.
type rows struct {
	services  []loader.Service
	names     []string // by row of services
	backends  []loader.Backend
	listeners map[listener]uint32
	vips      map[netip.Addr]uint32
	slots     []uint32
	snat      []loader.Address
	devices   map[uint32]loader.Device
	clients   map[network]uint32
}

// Shorter names of what bpf/types.h calls them.
const (
	serviceNone    = uint8(loader.LBServiceStateSERVICE_NONE)
	serviceXDP     = uint8(loader.LBServiceStateSERVICE_XDP)
	serviceProxy   = uint8(loader.LBServiceStateSERVICE_PROXY)
	serviceLocal   = uint8(loader.LBServiceFlagSERVICE_LOCAL)
	serviceKeep    = uint8(loader.LBServiceFlagSERVICE_KEEP)
	serviceListed  = uint8(loader.LBServiceFlagSERVICE_LISTED)
	serviceLimited = uint8(loader.LBServiceFlagSERVICE_LIMITED)
	serviceFullNAT = uint8(loader.LBServiceFlagSERVICE_FULL_NAT)
	serviceCookies = uint8(loader.LBServiceFlagSERVICE_COOKIES)
	backendNone    = uint8(loader.LBBackendStateBACKEND_NONE)
	backendUp      = uint8(loader.LBBackendStateBACKEND_UP)
	backendDown    = uint8(loader.LBBackendStateBACKEND_DOWN)
)

// A put is a row to write.
type put[T any] struct {
	row   uint32
	value T
}

// A run is a stretch of the slots map, which has rows of backends, or of the snat
// map.
type run[T any] struct {
	at   uint32
	rows []T
}

// A plan is the writes that turn what the maps hold into what is wanted, in
// the order of its fields: first what nobody refers to yet, last what nobody
// refers to any more.
type plan struct {
	freshServices []uint32 // rows whose counters start at zero
	freshBackends []uint32
	snat          []run[loader.Address]
	backends      []put[loader.Backend]
	slots         []run[uint32]
	names         []put[string]
	staleClients  []network
	clients       changes[network, uint32]    // deletes come last
	vips          changes[netip.Addr, uint32] // deletes come last
	services      []put[loader.Service]
	late          []put[loader.Backend] // turn down, so that no slot names them any more, or need no sources any more
	devices       changes[uint32, loader.Device]
	listeners     changes[listener, uint32]
	endServices   []put[loader.Service]
	endBackends   []put[loader.Backend]
}

func (p *plan) empty() bool { return p.writes() == 0 }

// writes counts the map entries that the plan writes or deletes.
func (p *plan) writes() int {
	return len(p.snat) + len(p.backends) + len(p.slots) + len(p.names) + len(p.services) + len(p.late) +
		len(p.staleClients) + p.clients.len() + p.devices.len() + p.listeners.len() + p.vips.len() + len(p.endServices) + len(p.endBackends)
}

// breaks reports whether the plan frees rows, slots or sources that packets on
// their way through the program may still be reading.
func (p *plan) breaks() bool {
	return len(p.backends)+len(p.services)+len(p.late)+len(p.endServices)+len(p.endBackends) > 0
}

// changes turn one hash map into another.
type changes[K comparable, V comparable] struct {
	put map[K]V
	del []K
}

func (c *changes[K, V]) len() int { return len(c.put) + len(c.del) }

// diff returns the changes that turn have into want.
func diff[K comparable, V comparable](have, want map[K]V) changes[K, V] {
	c := changes[K, V]{put: map[K]V{}}
	for k, v := range want {
		if old, ok := have[k]; !ok || old != v {
			c.put[k] = v
		}
	}
	for k := range have {
		if _, ok := want[k]; !ok {
			c.del = append(c.del, k)
		}
	}
	return c
}

// identity is what a service keeps its row, counters and flows by: its address,
// first port and protocol, which no other can have.
func identity(s *loader.Service) loader.Service {
	return loader.Service{Addr: s.Addr, Port: s.Port, Proto: s.Proto}
}

// find returns the row that the maps have for a service.
func (p *planner) find(s *Service) (id uint32, known bool) {
	row := s.row()
	id, known = p.byID[identity(&row)]
	return id, known
}

// A planner makes a plan. Rows that it takes are marked in its fields, so that
// no two owners get the same one.
type planner struct {
	have     *rows
	plan     plan
	byID     map[loader.Service]uint32
	backends map[uint32][]uint32 // rows of backends, by row of service
	freeSvc  []uint32
	freeBack []uint32
	space    []span
	sources  sources
	keepSvc  map[uint32]bool
	keepBack map[uint32]bool
}

// makePlan returns the writes that turn have into want. It changes nothing.
// The error wraps [ErrFull] if a map has too little room.
func makePlan(have *rows, want *Want) (*plan, error) {
	p := newPlanner(have)
	p.sources.want = want.Sources
	listeners := map[listener]uint32{}
	vips := map[netip.Addr]uint32{}
	clients := map[network]uint32{}
	for i := range want.Services {
		s := &want.Services[i]
		row, err := p.service(s)
		if err != nil {
			return nil, fmt.Errorf("service %s: %w", s.Name, err)
		}
		for _, l := range s.listeners() {
			listeners[l] = row
		}
		s.addUses(vips)
		maps.Copy(clients, s.clients(row))
	}
	devices := map[uint32]loader.Device{}
	for index, d := range want.Devices {
		devices[index] = d.row()
	}
	p.plan.listeners = diff(have.listeners, listeners)
	p.plan.vips = diff(have.vips, vips)
	p.plan.devices = diff(have.devices, devices)
	p.clients(clients)
	p.plan.snat = p.sources.runs
	p.end()
	return &p.plan, nil
}

func newPlanner(have *rows) *planner {
	p := &planner{
		have: have, byID: map[loader.Service]uint32{}, backends: map[uint32][]uint32{},
		space: freeSpans(have), sources: newSources(have), keepSvc: map[uint32]bool{}, keepBack: map[uint32]bool{},
	}
	for i := range have.services {
		if s := &have.services[i]; s.State == serviceNone {
			p.freeSvc = append(p.freeSvc, uint32(i))
		} else {
			p.byID[identity(s)] = uint32(i)
		}
	}
	for i := range have.backends {
		if b := &have.backends[i]; b.State == backendNone {
			p.freeBack = append(p.freeBack, uint32(i))
		} else {
			p.backends[b.Service] = append(p.backends[b.Service], uint32(i))
		}
	}
	return p
}

// service plans one service and returns its row.
func (p *planner) service(s *Service) (uint32, error) {
	row := s.row()
	id, known := p.find(s)
	if known {
		row.Gen, row.Slots, row.SlotsAll = p.have.services[id].Gen, p.have.services[id].Slots, p.have.services[id].SlotsAll
	} else {
		if len(p.freeSvc) == 0 {
			return 0, fmt.Errorf("services: %w", ErrFull)
		}
		id, p.freeSvc = p.freeSvc[0], p.freeSvc[1:]
		row.Gen = p.have.services[id].Gen + 1
		p.plan.freshServices = append(p.plan.freshServices, id)
	}
	p.keepSvc[id] = true
	row.State, row.Flags = state(s), flags(s)
	setLimit(&row, s.Clients.Limit)
	row.CookieAbove = uint32(s.CookieAbove)
	backends, err := p.backendRows(s, id, known)
	if err != nil {
		return 0, err
	}
	if err := p.slotTables(s, &row, backends); err != nil {
		return 0, err
	}
	if row != p.have.services[id] {
		p.plan.services = append(p.plan.services, put[loader.Service]{id, row})
	}
	if s.Name != p.have.names[id] {
		p.plan.names = append(p.plan.names, put[string]{id, s.Name})
	}
	return id, nil
}

func state(s *Service) uint8 {
	if s.Proxy {
		return serviceProxy
	}
	return serviceXDP
}

func flags(s *Service) (f uint8) {
	if s.Local {
		f |= serviceLocal
	}
	if s.OnDown == model.DownKeep {
		f |= serviceKeep
	}
	if s.Clients.Listed() {
		f |= serviceListed
	}
	if s.Clients.Limit.Rate > 0 {
		f |= serviceLimited
	}
	if s.Forward == model.ForwardFullNAT {
		f |= serviceFullNAT
	}
	if s.CookieAbove > 0 && s.Standby {
		f |= serviceCookies
	}
	return f
}

// backendRows plans the backends of a service and returns their rows.
func (p *planner) backendRows(s *Service, service uint32, known bool) ([]uint32, error) {
	have := map[loader.Backend]uint32{}
	if known {
		for _, row := range p.backends[service] {
			b := &p.have.backends[row]
			have[loader.Backend{Addr: b.Addr, Port: b.Port}] = row
		}
	}
	ids := make([]uint32, len(s.Backends))
	for i, b := range s.Backends {
		row := loader.Backend{Addr: loader.AddressOf(b.Address.Addr()), Port: be16(b.Address.Port())}
		id, ok := have[row]
		if ok {
			row.Gen = p.have.backends[id].Gen
		} else {
			if len(p.freeBack) == 0 {
				return nil, fmt.Errorf("backends: %w", ErrFull)
			}
			id, p.freeBack = p.freeBack[0], p.freeBack[1:]
			row.Gen = p.have.backends[id].Gen + 1
			p.plan.freshBackends = append(p.plan.freshBackends, id)
		}
		row.State, row.Service, row.Weight = backendUp, service, uint32(b.Weight)
		if s.isDown(i) {
			row.State = backendDown
		}
		if s.Forward == model.ForwardFullNAT {
			var err error
			if row.Sources, err = p.sources.of(b.Address.Addr(), p.have.backends[id].Sources); err != nil {
				return nil, err
			}
		}
		ids[i] = id
		p.keepBack[id] = true
		p.backend(id, row, ok)
	}
	return ids, nil
}

// backend plans to write the row of a backend, known or new.
func (p *planner) backend(id uint32, row loader.Backend, known bool) {
	have, early := p.have.backends[id], row
	if known && row.Sources == 0 {
		early.Sources = have.Sources // its service may use full NAT until it is written
	}
	if known && row.State == backendDown {
		early = have
	}
	if early != have {
		p.plan.backends = append(p.plan.backends, put[loader.Backend]{id, early})
	}
	if row != early {
		p.plan.late = append(p.plan.late, put[loader.Backend]{id, row})
	}
}

// slotTables plans the two slot tables of a service, in free space unless one
// of the present ones already says what is wanted.
func (p *planner) slotTables(s *Service, row *loader.Service, backends []uint32) error {
	old := [2]uint64{row.Slots, row.SlotsAll}
	upIdx, allIdx := s.slots()
	var err error
	if row.Slots, err = p.table(old, rowsOf(upIdx, backends)); err != nil {
		return err
	}
	if row.SlotsAll = row.Slots; slices.Equal(upIdx, allIdx) {
		return nil
	}
	row.SlotsAll, err = p.table(old, rowsOf(allIdx, backends))
	return err
}

func rowsOf(idx, backends []uint32) []uint32 {
	r := make([]uint32, len(idx))
	for i, n := range idx {
		r[i] = backends[n]
	}
	return r
}

// table returns where rows stand in the slots map: in one of the old tables, or
// in free space.
func (p *planner) table(old [2]uint64, rows []uint32) (uint64, error) {
	if len(rows) == 0 {
		return 0, nil
	}
	for _, t := range old {
		if slices.Equal(p.have.at(t), rows) {
			return t, nil
		}
	}
	at, ok := cut(p.space, uint32(len(rows)))
	if !ok {
		return 0, fmt.Errorf("slots: %w", ErrFull)
	}
	p.plan.slots = append(p.plan.slots, run[uint32]{at, rows})
	return uint64(at)<<32 | uint64(len(rows)), nil
}

// at returns the slots of a table; nil if it does not lie in the map.
func (r *rows) at(table uint64) []uint32 {
	off, n := table>>32, table&0xffffffff
	if n == 0 || off+n > uint64(len(r.slots)) {
		return nil
	}
	return r.slots[off : off+n]
}

// end plans the end of every row that nobody wants. What a backend counted stays
// its service's.
func (p *planner) end() {
	for i := range p.have.services {
		if s := p.have.services[i]; s.State != serviceNone && !p.keepSvc[uint32(i)] {
			p.plan.endServices = append(p.plan.endServices, put[loader.Service]{uint32(i), loader.Service{Gen: s.Gen}})
		}
	}
	for i := range p.have.backends {
		if b := p.have.backends[i]; b.State != backendNone && !p.keepBack[uint32(i)] {
			p.plan.endBackends = append(p.plan.endBackends, put[loader.Backend]{uint32(i), loader.Backend{Gen: b.Gen, Service: b.Service}})
		}
	}
}
