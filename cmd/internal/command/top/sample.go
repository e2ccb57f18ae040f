// Package top shows rates, flows and health of services and backends as they
// change: on the terminal, or as lines for logs and programs.
//
// It only looks. Rates are differences of what the kernel has counted, so no
// agent is needed; a living one adds what it knows of health and rungs, and what
// its proxies have counted. Without root, and from elsewhere, the agent tells all.
package top

import (
	"fmt"
	"strings"
	"time"

	"fairlead/cmd/internal/command/status"
	"fairlead/loader"
	"fairlead/userspace/datapath"
	"fairlead/userspace/model"
	"fairlead/userspace/view"
)

// A Sample is how things stand, and how they went since the one before. Its JSON
// form is stable.
type Sample struct {
	Time time.Time `json:"time"`
	// Seconds is the time that rates are of; 0 if there are none.
	Seconds float64 `json:"seconds"`
	// Switch is off, draining or on; "" if the kernel's part is not there or cannot be
	// read, for which Reason says why.
	Switch string `json:"switch"`
	Reason string `json:"reason"`
	Health string `json:"health"` // who keeps it
	// Held are the flows in the table, closed ones included, of Room.
	Held int    `json:"flows"`
	Room uint32 `json:"flow_table"`
	// Packets are all that XDP saw in a second, by what became of them; nil if
	// that is not known.
	Packets  map[loader.Kind]float64 `json:"packets"`
	Total    Row                     `json:"total"` // of Services
	Services []Service               `json:"services"`
}

// A Service is one service in a Sample.
type Service struct {
	Name     string         `json:"name"`
	Listen   string         `json:"listen"`
	Protocol model.Protocol `json:"protocol"`
	Rung     view.Rung      `json:"rung"`
	Reason   string         `json:"reason"` // for the rung
	Row
	Backends []Backend `json:"backends"`
}

// A Backend is one backend of a Service.
type Backend struct {
	Address string `json:"address"`
	// Pool is the pool with a name that the backend is of; "" if it is the service's own.
	Pool  string `json:"pool,omitempty"`
	State string `json:"state"` // up, suspect, waits, drain or down
	// Note says more of it, such as why the backend waits; "" if there is no more.
	Note string `json:"note,omitempty"`
	// Suspect says why it is that, as far as an agent tells; else nil.
	Suspect *view.Suspicion `json:"suspect,omitempty"`
	// Error says why the last probe failed, as far as an agent tells.
	Error string `json:"error"`
	// Latency is what the agent's proxies have measured; nil if that is nothing.
	Latency *view.Latency `json:"latency,omitempty"`
	Row
}

// A Row is what services and backends have.
type Row struct {
	Live  int    `json:"live_flows"` // that go on, which closed ones do not
	Rates *Rates `json:"rates"`      // nil if they are not known

	counts counts // those of Rates that somebody counts
}

// Rates are in a second: what the kernel forwards, with the packets' headers, and
// what the agent's proxies do, without. The proxies count no packets; of bytes, none of
// HTTP and none of single backends.
type Rates struct {
	Flows          float64 `json:"new_flows"`
	Requests       float64 `json:"requests"` // of HTTP
	ForwardPackets float64 `json:"forward_packets"`
	ForwardBytes   float64 `json:"forward_bytes"`
	ReplyPackets   float64 `json:"reply_packets"`
	ReplyBytes     float64 `json:"reply_bytes"`
}

// A key tells services apart: the address, the first port and the protocol.
type key struct {
	listen   string
	protocol model.Protocol
}

func keyOf(listen string, protocol model.Protocol) key {
	first, _, _ := strings.Cut(listen, "-")
	return key{first, protocol}
}

// A counted thing is a service or, with an address, a backend of it, perhaps of one of
// its pools.
type counted struct {
	service       key
	pool, backend string
}

// A reading is what there was at a time.
type reading struct {
	at      time.Time
	status  *status.Status // nil if err is not
	err     error
	counted map[counted]datapath.Counters
	carried carried
}

func newReading(s *status.Status, err error, now time.Time) *reading {
	r := &reading{at: now, status: s, err: err, counted: map[counted]datapath.Counters{}}
	if err != nil {
		return r
	}
	r.carried = carriedOf(s)
	if s.Kernel == nil {
		return r
	}
	r.at = s.Kernel.At
	for i := range s.Kernel.Services {
		v := &s.Kernel.Services[i]
		k := keyOf(v.Listen, v.Protocol)
		r.counted[counted{service: k}] = v.Counters
		for _, b := range v.Backends {
			r.counted[counted{service: k, backend: b.Address}] = b.Counters
		}
	}
	return r
}

// hasKernel reports whether the kernel could be read.
func (r *reading) hasKernel() bool { return r != nil && r.err == nil && r.status.Kernel != nil }

// since returns how things went since before, which may be nil.
func (r *reading) since(before *reading) *Sample {
	s := &Sample{Time: r.at, Services: []Service{}}
	if r.err != nil {
		s.Reason = r.err.Error()
		return s
	}
	if before != nil {
		r.carried.begin(&before.carried)
	}
	s.Health, s.Reason = r.status.Health, r.status.KernelReason
	known := map[key]*view.Service{}
	for i := range r.status.Services {
		v := &r.status.Services[i]
		known[keyOf(v.Listen, v.Protocol)] = v
	}
	if r.carried.since != nil {
		s.Seconds = r.carried.at.Sub(r.carried.since.at).Seconds()
	}
	if r.hasKernel() {
		r.addKernel(s, before, known)
	}
	for i := range r.status.Services { // an agent's that the kernel has not
		v := &r.status.Services[i]
		if known[keyOf(v.Listen, v.Protocol)] != nil {
			s.Services = append(s.Services, r.ofAgent(v))
		}
	}
	for i := range s.Services {
		s.Total.add(s.Services[i].Row)
	}
	return s
}

// addKernel adds what the kernel knows to s, and takes the services that it has
// out of known.
func (r *reading) addKernel(s *Sample, before *reading, known map[key]*view.Service) {
	k := r.status.Kernel
	s.Switch, s.Held, s.Room = k.Mode, k.Flows, k.FlowTable+k.FlowTable6
	if before.hasKernel() {
		s.Seconds = r.at.Sub(before.at).Seconds()
		s.Packets = kinds(k.Verdicts, before.status.Kernel.Verdicts, s.Seconds)
		s.Total.Rates, s.Total.counts = &Rates{}, countsInKernel
	}
	for i := range k.Services {
		v := &k.Services[i]
		id := keyOf(v.Listen, v.Protocol)
		service := Service{Name: v.Name, Listen: v.Listen, Protocol: v.Protocol, Backends: []Backend{}}
		service.Row = r.row(before, counted{service: id}, v.Live, s.Seconds)
		r.carried.addTo(&service.Row, counted{service: id})
		told := map[string]*view.Backend{}
		if a := known[id]; a != nil {
			service.Rung, service.Reason = a.Rung, a.Reason
			for j := range a.Backends {
				told[a.Backends[j].Address] = &a.Backends[j]
			}
			delete(known, id)
		}
		for _, b := range v.Backends {
			is := counted{service: id, backend: b.Address}
			backend := Backend{Address: b.Address, State: b.State, Row: r.row(before, is, b.Live, s.Seconds)}
			if t := told[b.Address]; t != nil {
				backend.tell(r.status, t)
				r.carried.addTo(&backend.Row, is)
			}
			if service.Rung == view.RungProxy && told[b.Address] != nil {
				backend.Live = told[b.Address].Flows
			}
			service.Backends = append(service.Backends, backend)
		}
		s.Services = append(s.Services, service)
	}
}

// ofAgent returns a service of which only the agent knows.
func (r *reading) ofAgent(v *view.Service) Service {
	s := Service{Name: v.Name, Listen: v.Listen, Protocol: v.Protocol, Rung: v.Rung, Reason: v.Reason, Backends: []Backend{}}
	id := keyOf(v.Listen, v.Protocol)
	r.carried.addTo(&s.Row, counted{service: id})
	for _, b := range v.Backends {
		backend := Backend{Address: b.Address, Pool: b.Pool, Row: Row{Live: b.Flows}}
		backend.tell(r.status, &b)
		r.carried.addTo(&backend.Row, counted{id, b.Pool, b.Address})
		s.Backends = append(s.Backends, backend)
	}
	return s
}

// name tells b from others of its service: pools may share an address.
func (b *Backend) name() string {
	if b.Pool == "" {
		return b.Address
	}
	return b.Pool + "/" + b.Address
}

// tell adds what a status tells of b.
func (b *Backend) tell(of *status.Status, v *view.Backend) {
	b.Error, b.Latency = v.LastError, v.Latency
	b.State, b.Note = of.Standing(v)
	if b.Note == b.State {
		b.Note = ""
	}
	if b.State == "suspect" {
		b.Suspect = v.Suspect
	}
}

// why returns what there is to say of b, as far as it is known; times are of zone.
func (b *Backend) why(zone *time.Location) string {
	if b.Suspect != nil {
		return fmt.Sprintf("since %s: %s", b.Suspect.Since.In(zone).Format(time.TimeOnly), b.Suspect)
	}
	return strings.TrimPrefix(strings.TrimSuffix(b.Note+": "+b.Error, ": "), ": ")
}

// row returns what became of something in some seconds. What was not there
// before, or has counted less since, began at zero.
func (r *reading) row(before *reading, what counted, live *int, seconds float64) Row {
	row := Row{}
	if live != nil {
		row.Live = *live
	}
	if seconds <= 0 {
		return row
	}
	now, was := r.counted[what], before.counted[what]
	if now.Flows < was.Flows || now.ForwardPackets < was.ForwardPackets || now.ForwardBytes < was.ForwardBytes ||
		now.ReplyPackets < was.ReplyPackets || now.ReplyBytes < was.ReplyBytes {
		was = datapath.Counters{}
	}
	rate := func(now, was uint64) float64 { return float64(now-was) / seconds }
	row.counts = countsInKernel
	row.Rates = &Rates{
		Flows: rate(now.Flows, was.Flows), ForwardPackets: rate(now.ForwardPackets, was.ForwardPackets), ForwardBytes: rate(now.ForwardBytes, was.ForwardBytes),
		ReplyPackets: rate(now.ReplyPackets, was.ReplyPackets), ReplyBytes: rate(now.ReplyBytes, was.ReplyBytes),
	}
	return row
}

// add adds o to r.
func (r *Row) add(o Row) {
	r.Live += o.Live
	if o.Rates == nil {
		return
	}
	if r.Rates == nil {
		r.Rates = &Rates{}
	}
	r.counts |= o.counts
	r.Rates.Flows += o.Rates.Flows
	r.Rates.Requests += o.Rates.Requests
	r.Rates.ForwardPackets += o.Rates.ForwardPackets
	r.Rates.ForwardBytes += o.Rates.ForwardBytes
	r.Rates.ReplyPackets += o.Rates.ReplyPackets
	r.Rates.ReplyBytes += o.Rates.ReplyBytes
}

// kinds returns the rates of packets by what became of them.
func kinds(now, was map[string]uint64, seconds float64) map[loader.Kind]float64 {
	rates := map[loader.Kind]float64{}
	for i := range loader.Verdicts {
		n, w := now[i.String()], was[i.String()]
		if n < w {
			w = 0
		}
		rates[i.Kind()] += float64(n-w) / seconds
	}
	return rates
}
