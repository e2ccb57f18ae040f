package datapath

import "fairlead/loader"

// A Fill is how much of a map is in use.
type Fill struct {
	Map        string
	Used, Size uint32 // entries; those of IPv4 and IPv6 together
}

// fills returns those of the maps whose rows were read.
func (r *rows) fills(m *loader.Maps) []Fill {
	services, backends, slots := uint32(0), uint32(0), uint32(len(r.slots))
	for i := range r.services {
		if r.services[i].State != serviceNone {
			services++
		}
	}
	for i := range r.backends {
		if r.backends[i].State != backendNone {
			backends++
		}
	}
	for _, free := range freeSpans(r, nil) {
		slots -= free.n
	}
	return []Fill{
		{"services", services, uint32(len(r.services))},
		{"backends", backends, uint32(len(r.backends))},
		{"slots", slots, uint32(len(r.slots))},
		{"listeners", uint32(len(r.listeners)), listenersOf(m).size()},
		{"vips", uint32(len(r.vips)), vipsOf(m).size()},
		{"clients", uint32(len(r.clients)), clientsOf(m).size()},
	}
}

// size returns how many entries both families may have.
func (s split[K, F4, F6]) size() (n uint32) {
	if s.four.m != nil {
		n += s.four.m.MaxEntries()
	}
	if s.six.m != nil {
		n += s.six.m.MaxEntries()
	}
	return n
}
