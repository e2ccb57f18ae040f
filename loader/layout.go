package loader

import (
	"math/bits"
	"unsafe"

	"github.com/cilium/ebpf"
)

// Sizes are how many entries the maps hold at least. Maps are made with the
// next power of two, 16 or more, so that a configuration can grow a little
// without new maps; those of slots and backends have room for quick changes, too.
type Sizes struct {
	Listeners uint32 // addresses with ports and protocols that clients connect to
	VIPs      uint32 // addresses of services and backends
	Services  uint32 // rows of services
	Backends  uint32 // rows of backends
	Slots     uint32 // slots of all services, with room to swing
	Clients   uint32 // networks in the lists of clients of all services, and in their zones
	// Flows is the number of flows, see [Maps.FlowRoom]. 0 means the size that
	// the object was compiled with.
	Flows uint32

	// Flows6 is the number of flows of IPv6; 0 means that there is no IPv6, and
	// neither its program nor its maps.
	Flows6 uint32
	// Mixed says that services have backends of the other family; Flows6 is not
	// 0 then, as their flows stand there.
	Mixed bool
	// Affinity is the number of networks of clients that stay with a backend.
	Affinity uint32
	// Listeners, VIPs, Clients and Affinity are of IPv4; these are of IPv6.
	Listeners6, VIPs6, Clients6, Affinity6 uint32
}

// leastEntries is the size of the smallest map.
const leastEntries = 16

// What changes have freed is not used again before no packet reads it any more, some
// ten milliseconds later. Until then a thousand changes a second, each with a table
// of a thousand slots or another backend, find room in these.
const (
	spareSlots    = 96 << 10
	spareBackends = 48
)

// entries rounds n up to a size for a map.
func entries(n uint32) uint32 {
	if n <= leastEntries {
		return leastEntries
	}
	return 1 << min(bits.Len32(n-1), 31)
}

// Value sizes of the maps that only user space uses.
const (
	// NameSize is the longest service name that is kept, in bytes.
	NameSize = 64
	// JournalSize is the longest journal, in bytes of JSON.
	JournalSize = 1 << 20
)

// Maps are the pinned maps of an instance: those of bpf/maps.h, but for drafts,
// which each program has for itself, then those that only user space knows.
//
// Reading is safe for concurrent use. Only package datapath writes.
type Maps struct {
	Control, Listeners, VIPs, Services, Backends, Slots, Turns *ebpf.Map
	BackendCounters, Verdicts, Evictions                       *ebpf.Map
	Flows, Locks, Standby, Devices, Replies, Clients, Sources  *ebpf.Map
	Snat, Syns, Fragments, Holds, Affinity                     *ebpf.Map
	BackendConns, ServiceConns                                 *ebpf.Map
	Events, EventSample, EventCounts                           *ebpf.Map

	// IPv6's own; all of them are nil without it.
	Flows6, Standby6, Listeners6, VIPs6, Clients6, Sources6, Affinity6 *ebpf.Map

	// ServiceBase and BackendBase hold what was counted before, see counters.go.
	ServiceBase, BackendBase *ebpf.Map
	// ServiceNames holds names by row of Services.
	ServiceNames *ebpf.Map
	// Journal has one entry; see [Maps.ReadJournal].
	Journal *ebpf.Map

	control *ControlView
	slots   *SlotsView
}

// A place says where a pinned map belongs.
type place struct {
	name  string // of the pin, and of the map in the object
	field func(*Maps) **ebpf.Map
	// size returns the entries wanted; nil: as in the object.
	size func(Sizes) uint32
	// rows says that the map holds, or is indexed by, rows of the
	// configuration: useless when services or backends are not kept.
	rows bool
	// linked says that user space writes the map in step with other linked
	// ones: when one of them is made anew, so are all.
	linked bool
	// counts says that the map holds what rows have counted. Such maps are
	// filled by carryCounters, and useless without each other.
	counts bool
	// ipv6 says that the map is there only with IPv6.
	ipv6 bool
}

// places is the layout of the pin directory: every map, in the order in which
// they are made.
var places = []place{
	{name: LBMapControl, field: func(m *Maps) **ebpf.Map { return &m.Control }},
	{name: LBMapListeners, field: func(m *Maps) **ebpf.Map { return &m.Listeners }, size: Sizes.listeners, rows: true, linked: true},
	{name: LBMapVips, field: func(m *Maps) **ebpf.Map { return &m.VIPs }, size: Sizes.vips, rows: true, linked: true},
	{name: LBMapServices, field: func(m *Maps) **ebpf.Map { return &m.Services }, size: Sizes.services, rows: true, linked: true},
	{name: LBMapBackends, field: func(m *Maps) **ebpf.Map { return &m.Backends }, size: Sizes.backends, rows: true, linked: true},
	{name: LBMapSlots, field: func(m *Maps) **ebpf.Map { return &m.Slots }, size: Sizes.slots, rows: true, linked: true},
	{name: LBMapTurns, field: func(m *Maps) **ebpf.Map { return &m.Turns }, size: Sizes.services, rows: true},
	{name: LBMapSyns, field: func(m *Maps) **ebpf.Map { return &m.Syns }, size: Sizes.services, rows: true},
	{name: LBMapBackendCounters, field: func(m *Maps) **ebpf.Map { return &m.BackendCounters }, size: Sizes.backends, rows: true, linked: true, counts: true},
	{name: LBMapBackendConns, field: func(m *Maps) **ebpf.Map { return &m.BackendConns }, size: Sizes.backends, rows: true},
	{name: LBMapServiceConns, field: func(m *Maps) **ebpf.Map { return &m.ServiceConns }, size: Sizes.services, rows: true},
	{name: LBMapVerdicts, field: func(m *Maps) **ebpf.Map { return &m.Verdicts }},
	{name: LBMapEvictions, field: func(m *Maps) **ebpf.Map { return &m.Evictions }},
	{name: LBMapFlows, field: func(m *Maps) **ebpf.Map { return &m.Flows }, size: Sizes.flows, rows: true},
	{name: LBMapLocks, field: func(m *Maps) **ebpf.Map { return &m.Locks }},
	{name: LBMapStandby, field: func(m *Maps) **ebpf.Map { return &m.Standby }},
	{name: LBMapDevices, field: func(m *Maps) **ebpf.Map { return &m.Devices }},
	{name: LBMapReplies, field: func(m *Maps) **ebpf.Map { return &m.Replies }},
	{name: LBMapClients, field: func(m *Maps) **ebpf.Map { return &m.Clients }, size: Sizes.clients, rows: true, linked: true},
	{name: LBMapSources, field: func(m *Maps) **ebpf.Map { return &m.Sources }, rows: true},
	{name: LBMapSnat, field: func(m *Maps) **ebpf.Map { return &m.Snat }, rows: true, linked: true},
	{name: LBMapAffinity, field: func(m *Maps) **ebpf.Map { return &m.Affinity }, size: Sizes.affinity, rows: true},
	{name: LBMapFragments, field: func(m *Maps) **ebpf.Map { return &m.Fragments }},
	{name: LBMapHolds, field: func(m *Maps) **ebpf.Map { return &m.Holds }},
	{name: LBMapEvents, field: func(m *Maps) **ebpf.Map { return &m.Events }},
	{name: LBMapEventSample, field: func(m *Maps) **ebpf.Map { return &m.EventSample }},
	{name: LBMapEventCounts, field: func(m *Maps) **ebpf.Map { return &m.EventCounts }},
	{name: LB6MapListeners6, field: func(m *Maps) **ebpf.Map { return &m.Listeners6 }, size: Sizes.listeners6, rows: true, linked: true, ipv6: true},
	{name: LB6MapVips6, field: func(m *Maps) **ebpf.Map { return &m.VIPs6 }, size: Sizes.vips6, rows: true, linked: true, ipv6: true},
	{name: LB6MapFlows6, field: func(m *Maps) **ebpf.Map { return &m.Flows6 }, size: Sizes.flows6, rows: true, ipv6: true},
	{name: LB6MapStandby6, field: func(m *Maps) **ebpf.Map { return &m.Standby6 }, ipv6: true},
	{name: LB6MapClients6, field: func(m *Maps) **ebpf.Map { return &m.Clients6 }, size: Sizes.clients6, rows: true, linked: true, ipv6: true},
	{name: LB6MapSources6, field: func(m *Maps) **ebpf.Map { return &m.Sources6 }, rows: true, ipv6: true},
	{name: LB6MapAffinity6, field: func(m *Maps) **ebpf.Map { return &m.Affinity6 }, size: Sizes.affinity6, rows: true, ipv6: true},
	{name: mapServiceBase, field: func(m *Maps) **ebpf.Map { return &m.ServiceBase }, size: Sizes.services, rows: true, linked: true, counts: true},
	{name: mapBackendBase, field: func(m *Maps) **ebpf.Map { return &m.BackendBase }, size: Sizes.backends, rows: true, linked: true, counts: true},
	{name: mapServiceNames, field: func(m *Maps) **ebpf.Map { return &m.ServiceNames }, size: Sizes.services, rows: true, linked: true},
	{name: mapJournal, field: func(m *Maps) **ebpf.Map { return &m.Journal }},
}

// Names of the maps that only user space uses.
const (
	mapServiceBase  = "service_base"
	mapBackendBase  = "backend_base"
	mapServiceNames = "service_names"
	mapJournal      = "journal"
)

func (s Sizes) listeners() uint32  { return entries(s.Listeners) }
func (s Sizes) vips() uint32       { return entries(s.VIPs) }
func (s Sizes) services() uint32   { return entries(s.Services) }
func (s Sizes) backends() uint32   { return entries(s.Backends + spareBackends) }
func (s Sizes) slots() uint32      { return entries(s.Slots + spareSlots) }
func (s Sizes) flows() uint32      { return buckets(s.Flows) }
func (s Sizes) listeners6() uint32 { return entries(s.Listeners6) }
func (s Sizes) vips6() uint32      { return entries(s.VIPs6) }
func (s Sizes) flows6() uint32     { return buckets(s.Flows6) }
func (s Sizes) affinity() uint32   { return entries(s.Affinity) }
func (s Sizes) affinity6() uint32  { return entries(s.Affinity6) }

// clients leaves one entry free: before 6.13 a trie that is full refuses a new
// value for a key that it has, too.
func (s Sizes) clients() uint32  { return entries(s.Clients + 1) }
func (s Sizes) clients6() uint32 { return entries(s.Clients6 + 1) }

// buckets returns how many buckets so many flows need; 0 for none.
func buckets(flows uint32) uint32 {
	if flows == 0 {
		return 0
	}
	return entries((flows-1)/bucketFlows + 1)
}

// objects are what is loaded.
type objects struct {
	ipv4 *ebpf.CollectionSpec
	ipv6 *ebpf.CollectionSpec // nil without IPv6
	// mixed is nil without services between families; its maps are of ipv6.
	mixed *ebpf.CollectionSpec
}

// entrance returns the program that frames come to first.
func (o objects) entrance() string {
	switch {
	case o.mixed != nil:
		return LBProgFairleadMixed
	case o.ipv6 != nil:
		return LBProgFairleadBoth
	}
	return LBProgFairlead
}

// readObjects reads them from ipv4 and, if wanted, from ipv6.
func readObjects(ipv4, ipv6 func() (*ebpf.CollectionSpec, error), wanted bool) (o objects, err error) {
	if o.ipv4, err = ipv4(); err == nil && wanted {
		o.ipv6, err = ipv6()
	}
	return o, err
}

// mapSpecs returns the specifications of all places that there are, by name,
// sized for s. Those of an object are its own, so that programs load against
// them.
func mapSpecs(o objects, s Sizes) map[string]*ebpf.MapSpec {
	specs := map[string]*ebpf.MapSpec{
		mapServiceBase:  array(mapServiceBase, uint32(unsafe.Sizeof(serviceBase{}))),
		mapBackendBase:  array(mapBackendBase, o.ipv4.Maps[LBMapBackendCounters].ValueSize),
		mapServiceNames: array(mapServiceNames, NameSize),
		mapJournal:      array(mapJournal, JournalSize),
	}
	for _, p := range places {
		object := o.ipv4
		if p.ipv6 {
			if object = o.ipv6; object == nil {
				continue
			}
		}
		if object.Maps[p.name] != nil {
			specs[p.name] = object.Maps[p.name]
		}
		if p.size != nil && p.size(s) != 0 {
			specs[p.name].MaxEntries = p.size(s)
		}
	}
	return specs
}

func array(name string, valueSize uint32) *ebpf.MapSpec {
	return &ebpf.MapSpec{Name: name, Type: ebpf.Array, KeySize: 4, ValueSize: valueSize, MaxEntries: 1}
}
