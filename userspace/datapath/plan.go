package datapath

import (
	"net/netip"

	"fairlead/loader"
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
	limbo     limbo // what was theirs
}

// Shorter names of what bpf/types.h calls them.
const (
	serviceNone    = uint8(loader.LBServiceStateSERVICE_NONE)
	serviceXDP     = uint8(loader.LBServiceStateSERVICE_XDP)
	serviceProxy   = uint8(loader.LBServiceStateSERVICE_PROXY)
	serviceZone    = uint8(loader.LBServiceStateSERVICE_ZONE)
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

	// planned are the services as the maps have them then: of all those that are
	// wanted or, if which is not nil, of those with these indexes.
	planned []planned
	which   []int
}

// A planned service is one as a plan leaves it in the maps.
type planned struct {
	Service
	row      uint32
	backends []uint32 // rows of its backends, by index
}

func (p *plan) empty() bool { return p.writes() == 0 }

// writes counts the map entries that the plan writes or deletes.
func (p *plan) writes() int {
	return len(p.snat) + len(p.backends) + len(p.slots) + len(p.names) + len(p.services) + len(p.late) +
		len(p.staleClients) + p.clients.len() + p.devices.len() + p.listeners.len() + p.vips.len() + len(p.endServices) + len(p.endBackends)
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
