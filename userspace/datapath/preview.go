package datapath

import (
	"fmt"
	"maps"
	"slices"

	"fairlead/loader"
)

// Changes are what [Writer.Reconcile] would do, for people and programs to read.
// Their JSON form is stable.
type Changes struct {
	// Services are those that come, go or change.
	Services []ServiceChange `json:"services"`
	// Settings are those of the control map.
	Settings []FieldChange `json:"settings"`
	// Devices are the interfaces that XDP may send out of, by index, that come,
	// go or change.
	Devices []DeviceChange `json:"devices"`
	// Flows and Slots are sums over all services, also those that stay as they
	// are.
	Flows FlowShare `json:"flows"`
	Slots SlotShare `json:"slots"`
	// Writes is the number of entries that would be written or deleted.
	Writes int `json:"writes"`
}

// A Change is what becomes of something.
type Change string

// The changes. A zero Change says that there is none.
const (
	Added   Change = "added"
	Removed Change = "removed"
	Changed Change = "changed"
)

// A ServiceChange is what becomes of a service.
type ServiceChange struct {
	Name     string          `json:"name"`
	Listen   string          `json:"listen"`
	Protocol string          `json:"protocol"`
	Change   Change          `json:"change"`
	Fields   []FieldChange   `json:"fields"`   // of one that is changed
	Backends []BackendChange `json:"backends"` // those that come, go or change
	Flows    FlowShare       `json:"flows"`
	Slots    SlotShare       `json:"slots"`
}

// A BackendChange is what becomes of a backend.
type BackendChange struct {
	Address string        `json:"address"`
	Change  Change        `json:"change"`
	Weight  uint32        `json:"weight"` // the new one; that of a removed one
	Fields  []FieldChange `json:"fields"` // of one that is changed
	// Live are the flows that go on with it now.
	Live int `json:"live_flows"`
	// Leaves is how many seconds these may still go on, if the configuration has the
	// backend no more, but the agent lets it drain; else 0.
	Leaves float64 `json:"leaves_within_seconds,omitempty"`
}

// A DeviceChange is what becomes of an interface that XDP may send out of.
type DeviceChange struct {
	Ifindex uint32 `json:"ifindex"`
	Name    string `json:"name"` // "" here, as the maps do not know it
	Change  Change `json:"change"`
}

// A FieldChange is a value that is another one then.
type FieldChange struct {
	Field string `json:"field"`
	From  string `json:"from"`
	To    string `json:"to"`
}

// A FlowShare says what becomes of the flows that go on now.
type FlowShare struct {
	Live int `json:"live"`
	// Ended flows lose their service or their backend. Moved ones do too, but are
	// of UDP, whose next datagram finds another backend.
	Ended int `json:"ended"`
	Moved int `json:"moved"`
}

// A SlotShare says what becomes of the turns of new flows.
type SlotShare struct {
	Slots int `json:"slots"` // in the tables as they are now
	// Moved is how many of them lead to another backend then, or to none. It is
	// fractional where tables differ in length; see [balance.Moved].
	Moved float64 `json:"moved"`
}

// Look returns a writer that must not write: for [Writer.Keep] and
// [Writer.Preview]. Unlike [New] it changes nothing. nil stands for maps that
// are yet to be made.
func Look(m *loader.Maps) (*Writer, error) {
	if m == nil {
		return &Writer{rows: &rows{}}, nil
	}
	r, err := read(m)
	return &Writer{maps: m, rows: r}, err
}

// Preview returns what [Writer.Reconcile] would do if some maps had grown first.
// It makes the same plan, and changes nothing. The error wraps [ErrFull] if a map
// is too small even then.
func (w *Writer) Preview(want *Want, grown []loader.Growth) (*Changes, error) {
	have := w.rows.grow(grown)
	p, err := makePlan(have, want)
	if err != nil {
		return nil, fmt.Errorf("plan maps: %w", err)
	}
	v := preview{have: have, then: have.after(p), plan: p, live: map[uint32]*FlowShare{}}
	c := Changes{Services: []ServiceChange{}, Settings: []FieldChange{}, Devices: p.deviceChanges(have)}
	if w.maps != nil {
		if err := v.flows(w.maps, &c.Flows); err != nil {
			return nil, err
		}
		for _, s := range want.differences(w.maps.ControlView()) {
			c.Settings = append(c.Settings, s.FieldChange)
		}
	}
	c.Writes = p.writes() + len(c.Settings)
	v.backends()
	v.countRules()
	if r := v.rules[everyService]; r.put+r.del > 0 {
		c.Settings = append(c.Settings, r.change("client-zones", "networks"))
	}
	for row := range have.services {
		s := v.service(uint32(row))
		c.Slots.Slots += s.Slots.Slots
		c.Slots.Moved += s.Slots.Moved
		if s.Change != "" {
			c.Services = append(c.Services, s)
		}
	}
	return &c, nil
}

// grow returns rows with the room that larger maps have.
func (r *rows) grow(grown []loader.Growth) *rows {
	g := *r
	for _, m := range grown {
		switch m.Map {
		case loader.LBMapServices:
			g.services = extend(g.services, m.To)
			g.names = extend(g.names, m.To)
		case loader.LBMapBackends:
			g.backends = extend(g.backends, m.To)
		case loader.LBMapSlots:
			g.slots = extend(g.slots, m.To)
		case loader.LBMapSnat:
			g.snat = extend(g.snat, m.To)
		}
	}
	return &g
}

func extend[T any](rows []T, to uint32) []T {
	return append(slices.Clip(rows), make([]T, int(to)-len(rows))...)
}

// after returns what r is once p has been carried out.
func (r *rows) after(p *plan) *rows {
	a := &rows{
		services: slices.Clone(r.services), names: slices.Clone(r.names), backends: slices.Clone(r.backends),
		slots: slices.Clone(r.slots), snat: slices.Clone(r.snat), clients: maps.Collect(maps.All(r.clients)),
		listeners: maps.Collect(maps.All(r.listeners)), vips: maps.Collect(maps.All(r.vips)), devices: maps.Collect(maps.All(r.devices)),
	}
	_ = p.carryOut(a) // rows alone cannot fail
	return a
}

// deviceChanges returns what becomes of devices, by index.
func (p *plan) deviceChanges(have *rows) []DeviceChange {
	all := []DeviceChange{}
	for index := range p.devices.put {
		change := Added
		if _, ok := have.devices[index]; ok {
			change = Changed
		}
		all = append(all, DeviceChange{Ifindex: index, Change: change})
	}
	for _, index := range p.devices.del {
		all = append(all, DeviceChange{Ifindex: index, Change: Removed})
	}
	slices.SortFunc(all, func(a, b DeviceChange) int { return int(a.Ifindex) - int(b.Ifindex) })
	return all
}

// A preview finds the changes between what there is and what is there then.
type preview struct {
	have, then *rows
	plan       *plan
	live       map[uint32]*FlowShare // by row of backends
	of         map[uint32][]uint32   // rows of backends, by row of services
	rules      map[uint32]ruleCount  // by row of services
	drains     map[uint32]float64    // seconds that those who leave have, by row of backends
}

// backends finds out whose the rows of backends are, now or then, and who leaves.
func (v *preview) backends() {
	v.of, v.drains = map[uint32][]uint32{}, map[uint32]float64{}
	for i := range v.plan.planned {
		p := &v.plan.planned[i]
		for b := range p.Backends {
			if p.Backends[b].Leaving {
				v.drains[p.backends[b]] = p.Drain.Seconds()
			}
		}
	}
	for i := range v.then.backends {
		now, then := &v.have.backends[i], &v.then.backends[i]
		switch {
		case then.State != backendNone:
			v.of[then.Service] = append(v.of[then.Service], uint32(i))
		case now.State != backendNone:
			v.of[now.Service] = append(v.of[now.Service], uint32(i))
		}
	}
}

// flows finds out what becomes of the flows that go on.
func (v *preview) flows(m *loader.Maps, sum *FlowShare) error {
	return eachEntry(m, func(_ *loader.FlowTable, e *loader.Entry, at moment) bool {
		if !forward(e) || at.expired(e) || e.Over() || v.have.gone(e) {
			return true
		}
		b := v.live[e.Backend]
		if b == nil {
			b = &FlowShare{}
			v.live[e.Backend] = b
		}
		for _, share := range []*FlowShare{b, sum} {
			share.Live++
			switch {
			case !v.then.gone(e):
			case v.finds(e):
				share.Moved++
			default:
				share.Ended++
			}
		}
		return true
	})
}

// finds reports whether the next packet of a flow whose backend goes finds
// another one.
func (v *preview) finds(e *loader.Entry) bool {
	s := &v.then.services[e.Service]
	return protocolOf(e.Key.Proto) == "udp" && s.State != serviceNone && s.Gen == e.ServiceGen &&
		(s.State == serviceProxy || len(v.then.at(s.Slots)) > 0)
}

// service returns what becomes of the service in a row.
func (v *preview) service(row uint32) ServiceChange {
	now, then := &v.have.services[row], &v.then.services[row]
	c := ServiceChange{Fields: []FieldChange{}, Backends: []BackendChange{}}
	if now.State == serviceZone || then.State == serviceZone {
		return c // its service's
	}
	c.Slots = v.slots(row)
	shown, name := then, v.then.names[row]
	switch {
	case now.State == serviceNone && then.State == serviceNone:
		return c
	case now.State == serviceNone:
		c.Change = Added
	case then.State == serviceNone:
		c.Change, shown, name = Removed, now, v.have.names[row]
	default:
		c.Fields = v.fields(row)
	}
	c.Name, c.Listen, c.Protocol = name, listenText(shown), string(protocolOf(shown.Proto))
	for _, b := range v.of[row] {
		if live := v.live[b]; live != nil {
			c.Flows.Live += live.Live
			c.Flows.Ended += live.Ended
			c.Flows.Moved += live.Moved
		}
		if change := v.backend(b); change.Change != "" {
			c.Backends = append(c.Backends, change)
		}
	}
	if c.Change == "" && (len(c.Fields) > 0 || len(c.Backends) > 0 || *now != *then) {
		c.Change = Changed
	}
	return c
}

// backend returns what becomes of the backend in a row.
func (v *preview) backend(row uint32) BackendChange {
	now, then := &v.have.backends[row], &v.then.backends[row]
	c := BackendChange{Fields: []FieldChange{}}
	if live := v.live[row]; live != nil {
		c.Live = live.Live
	}
	shown := then
	switch {
	case now.State == backendNone:
		c.Change = Added
	case then.State == backendNone:
		c.Change, shown = Removed, now
	case *now != *then:
		c.Change, c.Fields, c.Leaves = Changed, v.backendFields(row), v.drains[row]
	}
	c.Address, c.Weight = addrPortText(shown.Addr, shown.Port), shown.Weight
	return c
}

// slots returns what becomes of the slots of the service in a row, and of its
// zones.
func (v *preview) slots(row uint32) SlotShare {
	now, then := &v.have.services[row], &v.then.services[row]
	all := v.slotsOf(now, then)
	v.eachZone(now, then, func(_ string, now, then *loader.Service) {
		s := v.slotsOf(now, then)
		all.Slots += s.Slots
		all.Moved += s.Moved
	})
	return all
}

// slotsOf returns what becomes of the slots of one row.
func (v *preview) slotsOf(now, then *loader.Service) SlotShare {
	var before, after []uint32
	if now.State != serviceNone {
		before = v.have.at(now.Slots)
	}
	if then.State != serviceNone {
		after = v.then.at(then.Slots)
	}
	return SlotShare{len(before), movedSlots(now, then, before, after)}
}
