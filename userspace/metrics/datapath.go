package metrics

import (
	"cmp"
	"maps"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
)

// A Datapath is what the kernel counts. Its sums go on when an agent ends.
type Datapath struct {
	Packets   []Packets
	Evictions map[string]uint64 // entries of the flow table that made room, by kind
	Events    []Events
	Fill      []Fill
	Services  []Traffic
	Backends  []Traffic // of services, by their addresses
}

// Packets are those that had one verdict.
type Packets struct {
	Action, Reason string
	Count          uint64
}

// Events are what the kernel has told of flows, begin or end, or had no room for.
type Events struct {
	Event         string
	Written, Lost uint64
}

// A Fill is how many entries of a map are in use.
type Fill struct {
	Map        string
	Used, Size uint64
}

// A Traffic is what the kernel has forwarded for a service or one of its backends.
type Traffic struct {
	Service, Protocol, Backend string    // Backend is empty for a service
	Flows                      uint64    // made
	Packets, Bytes             [2]uint64 // of clients, and of backends; IP lengths
	Connections                uint64    // that are not over
	// SYNs that came again, those that were answered with a reset, and resets of
	// established flows.
	Unanswered, Refused, Resets uint64
}

// directions are what is counted in pairs.
var directions = [2]string{"forward", "reply"}

// A trafficDescs is how a Traffic is told.
type trafficDescs struct{ flows, connections, packets, bytes, troubles *prometheus.Desc }

func newTrafficDescs(of string, labels []string) trafficDescs {
	both := append(labels[:len(labels):len(labels)], "direction")
	return trafficDescs{
		flows:       desc("xdp_"+of+"_flows_total", "Flows that XDP has made.", labels...),
		connections: desc("xdp_"+of+"_connections", "Flows in the kernel's table that are not over.", labels...),
		packets:     desc("xdp_"+of+"_packets_total", "Packets that XDP has forwarded: forward to backends, reply to clients.", both...),
		bytes:       desc("xdp_"+of+"_bytes_total", "IP lengths of the packets that XDP has forwarded.", both...),
		troubles: desc("xdp_"+of+"_troubles_total", "Signs of backends that fail: SYNs that clients sent again, SYNs that were refused, resets of established flows.",
			append(labels[:len(labels):len(labels)], "sign")...),
	}
}

var (
	packets   = desc("xdp_packets_total", "Packets that XDP has seen, by what it did with them, and why.", "action", "reason")
	evictions = desc("xdp_evictions_total", "Entries of the flow table that made room for others, by kind.", "kind")
	events    = desc("xdp_flow_events_total", "Events of flows for the flow log, by what became of them: lost ones found no room.", "event", "result")
	mapUsed   = desc("xdp_map_entries", "Entries of a map that are in use; those of flows as of the last ten seconds.", "map")
	mapSize   = desc("xdp_map_size", "Entries that a map has room for.", "map")

	xdpServices = newTrafficDescs("service", []string{"service", "protocol"})
	xdpBackends = newTrafficDescs("backend", []string{"service", "protocol", "backend"})
)

func (d *Datapath) collect(out chan<- prometheus.Metric) {
	for _, p := range d.Packets {
		count(out, packets, p.Count, p.Action, p.Reason)
	}
	for _, kind := range slices.Sorted(maps.Keys(d.Evictions)) {
		count(out, evictions, d.Evictions[kind], kind)
	}
	for _, e := range d.Events {
		count(out, events, e.Written, e.Event, "written")
		count(out, events, e.Lost, e.Event, "lost")
	}
	for _, f := range d.Fill {
		gauge(out, mapUsed, float64(f.Used), f.Map)
		gauge(out, mapSize, float64(f.Size), f.Map)
	}
	for _, t := range merged(d.Services) {
		xdpServices.collect(out, &t, t.Service, t.Protocol)
	}
	for _, t := range merged(d.Backends) {
		xdpBackends.collect(out, &t, t.Service, t.Protocol, t.Backend)
	}
}

// merged returns one for all that have the same labels: while a service gets other
// ports, the kernel may have two of its name, and Prometheus would take neither.
func merged(all []Traffic) []Traffic {
	all = slices.Clone(all)
	slices.SortStableFunc(all, func(a, b Traffic) int {
		return cmp.Or(cmp.Compare(a.Service, b.Service), cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Backend, b.Backend))
	})
	n := 0
	for i := range all {
		t, last := &all[i], &all[max(n-1, 0)]
		if n > 0 && last.Service == t.Service && last.Protocol == t.Protocol && last.Backend == t.Backend {
			last.add(t)
			continue
		}
		all[n] = *t
		n++
	}
	return all[:n]
}

func (t *Traffic) add(o *Traffic) {
	t.Flows += o.Flows
	t.Connections += o.Connections
	for i := range directions {
		t.Packets[i] += o.Packets[i]
		t.Bytes[i] += o.Bytes[i]
	}
	t.Unanswered += o.Unanswered
	t.Refused += o.Refused
	t.Resets += o.Resets
}

func (d *trafficDescs) collect(out chan<- prometheus.Metric, t *Traffic, of ...string) {
	count(out, d.flows, t.Flows, of...)
	gauge(out, d.connections, float64(t.Connections), of...)
	countBoth(out, d.packets, t.Packets, of...)
	countBoth(out, d.bytes, t.Bytes, of...)
	count(out, d.troubles, t.Unanswered, append(of[:len(of):len(of)], "unanswered")...)
	count(out, d.troubles, t.Refused, append(of[:len(of):len(of)], "refused")...)
	count(out, d.troubles, t.Resets, append(of[:len(of):len(of)], "reset")...)
}

// countBoth tells what is counted for each direction.
func countBoth(out chan<- prometheus.Metric, d *prometheus.Desc, n [2]uint64, of ...string) {
	for i, direction := range directions {
		count(out, d, n[i], append(of[:len(of):len(of)], direction)...)
	}
}
