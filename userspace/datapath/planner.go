package datapath

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"fairlead/loader"
	"fairlead/userspace/model"
)

// A planner makes a plan. Rows that it takes are marked in its fields, so that
// no two owners get the same one.
type planner struct {
	have     *rows
	limbo    freed // what is free, but nobody gets yet
	numbers  zoneNumbers
	plan     plan
	byID     map[loader.Service]uint32
	backends map[uint32][]uint32 // rows of backends, by row of service
	nextSvc  uint32              // no row below is free
	nextBack uint32
	space    []span
	sources  sources
	given    []given // slot tables of the service that is planned
	keepSvc  map[uint32]bool
	keepBack map[uint32]bool
}

// makePlan returns the writes that turn have into want. It changes nothing.
// The error wraps [ErrFull] if a map has too little room.
func makePlan(have *rows, want *Want) (*plan, error) {
	p := newPlanner(have)
	p.index()
	p.begin(want)
	p.numbers = have.numbersOf(want.Services)
	listeners := map[listener]uint32{}
	vips := map[netip.Addr]uint32{}
	clients := map[network]uint32(networksOf(want.Services, p.numbers))
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
	p.plan.listeners = diff(have.listeners, listeners)
	p.plan.vips = diff(have.vips, vips)
	p.plan.devices = diff(have.devices, want.devices())
	p.clients(clients)
	p.plan.snat = p.sources.runs
	p.end()
	return &p.plan, nil
}

// devices returns the rows of the wanted devices.
func (w *Want) devices() map[uint32]loader.Device {
	rows := map[uint32]loader.Device{}
	for index, d := range w.Devices {
		rows[index] = d.row()
	}
	return rows
}

func newPlanner(have *rows) *planner {
	return &planner{
		have: have, numbers: zoneNumbers{}, byID: map[loader.Service]uint32{}, backends: map[uint32][]uint32{},
		keepSvc: map[uint32]bool{}, keepBack: map[uint32]bool{},
	}
}

// begin finds the room that a plan for want may use.
func (p *planner) begin(want *Want) {
	p.limbo = p.have.limbo.all()
	p.space, p.sources = freeSpans(p.have, p.limbo.slots), newSources(p.have, p.limbo.snat)
	p.sources.want = want.Sources
}

// index notes which rows every service of the maps has.
func (p *planner) index() {
	for i := range p.have.services {
		if s := &p.have.services[i]; s.State != serviceNone {
			p.byID[identity(s)] = uint32(i)
		}
	}
	for i := range p.have.backends {
		if b := &p.have.backends[i]; b.State != backendNone {
			p.backends[b.Service] = append(p.backends[b.Service], uint32(i))
		}
	}
}

// identity is what a service keeps its row, counters and flows by: its address,
// first port and protocol, which no other can have. Its zones have numbers.
func identity(s *loader.Service) loader.Service {
	return loader.Service{Addr: s.Addr, Port: s.Port, Proto: s.Proto, Zone: s.Zone}
}

// find returns the row that the maps have for a service.
func (p *planner) find(s *Service) (id uint32, known bool) {
	row := s.row()
	id, known = p.byID[identity(&row)]
	return id, known
}

// freeService and freeBackend return a row that nobody has, nor will get.
func (p *planner) freeService() (uint32, error) {
	for ; int(p.nextSvc) < len(p.have.services); p.nextSvc++ {
		if p.have.services[p.nextSvc].State == serviceNone && !p.limbo.services[p.nextSvc] {
			p.nextSvc++
			return p.nextSvc - 1, nil
		}
	}
	return 0, fmt.Errorf("services: %w", ErrFull)
}

func (p *planner) freeBackend() (uint32, error) {
	for ; int(p.nextBack) < len(p.have.backends); p.nextBack++ {
		if p.have.backends[p.nextBack].State == backendNone && !p.limbo.backends[p.nextBack] {
			p.nextBack++
			return p.nextBack - 1, nil
		}
	}
	return 0, fmt.Errorf("backends: %w", ErrFull)
}

// service plans one service and returns its row.
func (p *planner) service(s *Service) (uint32, error) {
	row := s.row()
	id, known, err := p.claim(&row)
	if err != nil {
		return 0, err
	}
	row.State, row.Flags = state(s), flags(s)
	setLimit(&row, s.Clients.Limit)
	row.CookieAbove = uint32(s.CookieAbove)
	s.setChoice(&row)
	duties := s.duties()
	backends, err := p.backendRows(s, id, known, &duties)
	if err != nil {
		return 0, err
	}
	row.Weights, row.WeightsAll = sum(duties.now, len(backends)), sum(duties.allUp, len(backends))
	tables := s.tables(&duties)
	p.given = p.given[:0]
	if err := p.slotTables(&row, backends, tables[0]); err != nil {
		return 0, err
	}
	zones, err := p.zones(s, &row, backends, tables)
	if err != nil {
		return 0, err
	}
	rows := []named{{id, row, s.Name}}
	if have := &p.have.services[id]; s.Proxy || have.State == serviceXDP && (have.Flags^row.Flags)&serviceFullNAT != 0 {
		rows = append(rows, zones...) // which may name backends that it cannot send to as it was
	} else {
		rows = append(zones, rows...)
	}
	for _, r := range rows {
		p.put(r)
	}
	p.plan.planned = append(p.plan.planned, planned{s.clone(), id, backends})
	return id, nil
}

// claim finds the row that the maps have for a service or a zone, or takes a
// free one, and fills in what stays as it is there.
func (p *planner) claim(row *loader.Service) (id uint32, known bool, err error) {
	if id, known = p.byID[identity(row)]; known {
		have := &p.have.services[id]
		row.Gen, row.Slots, row.SlotsAll = have.Gen, have.Slots, have.SlotsAll
	} else {
		if id, err = p.freeService(); err != nil {
			return 0, false, err
		}
		row.Gen = p.have.services[id].Gen + 1
		p.plan.freshServices = append(p.plan.freshServices, id)
	}
	p.keepSvc[id] = true
	return id, known, nil
}

// A named row is one of services, of a service or a zone.
type named struct {
	id   uint32
	row  loader.Service
	name string
}

// put plans to write a row of services and its name.
func (p *planner) put(n named) {
	if n.row != p.have.services[n.id] {
		p.plan.services = append(p.plan.services, put[loader.Service]{n.id, n.row})
	}
	if n.name != p.have.names[n.id] {
		p.plan.names = append(p.plan.names, put[string]{n.id, n.name})
	}
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
func (p *planner) backendRows(s *Service, service uint32, known bool, d *duties) ([]uint32, error) {
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
			var err error
			if id, err = p.freeBackend(); err != nil {
				return nil, err
			}
			row.Gen = p.have.backends[id].Gen + 1
			p.plan.freshBackends = append(p.plan.freshBackends, id)
		}
		row.State, row.Service, row.Weight = backendUp, service, d.weight(i)
		if d.now.Down(i) {
			row.State = backendDown
		}
		if d.now.Unsure(i) {
			row.Flags = uint8(loader.LBBackendFlagBACKEND_UNSURE)
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

// slotTables plans the two slot tables of a row, in free space unless one of the
// present ones already says what is wanted.
func (p *planner) slotTables(row *loader.Service, backends []uint32, t tables) error {
	old := [2]uint64{row.Slots, row.SlotsAll}
	var err error
	if row.Slots, err = p.table(old, rowsOf(t.up, backends)); err != nil {
		return err
	}
	if row.SlotsAll = row.Slots; slices.Equal(t.up, t.all) {
		return nil
	}
	row.SlotsAll, err = p.table(old, rowsOf(t.all, backends))
	return err
}

// A given slot table is one that a row of the service has got already.
type given struct {
	table uint64
	rows  []uint32
}

func rowsOf(idx, backends []uint32) []uint32 {
	r := make([]uint32, len(idx))
	for i, n := range idx {
		r[i] = backends[n]
	}
	return r
}

// table returns where rows stand in the slots map: in one of the old tables, in
// one that was given already, or in free space.
func (p *planner) table(old [2]uint64, rows []uint32) (uint64, error) {
	if len(rows) == 0 {
		return 0, nil
	}
	for _, g := range p.given {
		if slices.Equal(g.rows, rows) {
			return g.table, nil
		}
	}
	for _, t := range old {
		if slices.Equal(p.have.at(t), rows) {
			p.given = append(p.given, given{t, rows})
			return t, nil
		}
	}
	at, ok := cut(p.space, uint32(len(rows)))
	if !ok {
		return 0, fmt.Errorf("slots: %w", ErrFull)
	}
	p.plan.slots = append(p.plan.slots, run[uint32]{at, rows})
	t := uint64(at)<<32 | uint64(len(rows))
	p.given = append(p.given, given{t, rows})
	return t, nil
}

// at returns the slots of a table; nil if it does not lie in the map.
func (r *rows) at(table uint64) []uint32 {
	s := tableSpan(table)
	if s.n == 0 || uint64(s.at)+uint64(s.n) > uint64(len(r.slots)) {
		return nil
	}
	return r.slots[s.at : s.at+s.n]
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
		p.endBackend(uint32(i))
	}
}

// endBackend plans the end of a backend's row if nobody wants it.
func (p *planner) endBackend(row uint32) {
	if b := p.have.backends[row]; b.State != backendNone && !p.keepBack[row] {
		p.plan.endBackends = append(p.plan.endBackends, put[loader.Backend]{row, loader.Backend{Gen: b.Gen, Service: b.Service}})
	}
}
