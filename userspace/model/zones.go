package model

import (
	"maps"
	"net/netip"
	"slices"
)

// MaxClientZones is how many zones clients may be in: ZONES_MAX of bpf/types.h.
const MaxClientZones = 32

// ClientZones say in which zones networks of clients are. They do not change; nil
// says that no client is in any.
type ClientZones struct {
	// Networks are prefixes of either family, without bits beyond their length,
	// with the zones of their clients, at most [MaxClientZones]. Of those that a
	// client is in, the longest decides.
	Networks map[netip.Prefix]string
	names    []string // in order
	lengths  []int    // of prefixes, the longest first
}

// NewClientZones returns what these networks say.
func NewClientZones(networks map[netip.Prefix]string) *ClientZones {
	z := &ClientZones{Networks: networks, names: slices.Compact(slices.Sorted(maps.Values(networks)))}
	for p := range networks {
		z.lengths = append(z.lengths, p.Bits())
	}
	slices.Sort(z.lengths)
	z.lengths = slices.Compact(z.lengths)
	slices.Reverse(z.lengths)
	return z
}

// Names returns the names of the zones, in order.
func (z *ClientZones) Names() []string {
	if z == nil {
		return nil
	}
	return z.names
}

// Number returns the number of the zone with a name, from 1 in the order of
// Names.
func (z *ClientZones) Number(name string) int {
	i, _ := slices.BinarySearch(z.names, name)
	return i + 1
}

// Find returns the number of the zone that a client is in, or 0.
func (z *ClientZones) Find(client netip.Addr) int {
	if z == nil {
		return 0
	}
	client = client.Unmap()
	for _, bits := range z.lengths {
		p, err := client.Prefix(bits)
		if err != nil {
			continue // no IPv4 address has so many
		}
		if name, ok := z.Networks[p]; ok {
			return z.Number(name)
		}
	}
	return 0
}

// Equal reports whether z and y say the same.
func (z *ClientZones) Equal(y *ClientZones) bool {
	return z == y || z != nil && y != nil && maps.Equal(z.Networks, y.Networks)
}
