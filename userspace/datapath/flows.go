package datapath

import (
	"fmt"
	"net/netip"

	"fairlead/loader"
	"fairlead/userspace/model"
)

// A FlowView is one live flow, as its forward entry has it.
type FlowView struct {
	Service  string         `json:"service"`
	Protocol model.Protocol `json:"protocol"`
	Client   netip.AddrPort `json:"client"`
	Virtual  netip.AddrPort `json:"virtual"` // what the client connected to
	Backend  netip.AddrPort `json:"backend"`
	State    string         `json:"state"`
	// Idle is the time since the flow's last packet, Left the time until it
	// is forgotten; in seconds.
	Idle float64 `json:"idle_seconds"`
	Left float64 `json:"left_seconds"`
}

// flowStates are the names of enum flow_state.
var flowStates = [...]string{
	loader.LBFlowStateFLOW_NEW: "new", loader.LBFlowStateFLOW_ANSWERED: "answered",
	loader.LBFlowStateFLOW_ESTABLISHED: "established", loader.LBFlowStateFLOW_FIN: "fin",
	loader.LBFlowStateFLOW_CLOSED: "closed", loader.LBFlowStateFLOW_RESET: "reset",
	loader.LBFlowStateFLOW_ABORTED_FORWARD: "aborted", loader.LBFlowStateFLOW_ABORTED_REPLY: "aborted",
}

// A moment is what tells entries that count from those that do not.
type moment struct{ now, era, epoch, hz uint32 }

func present(maps *loader.Maps) (moment, error) {
	now, err := Now()
	c := maps.ControlView()
	return moment{now, c.Era(), c.Epoch(), c.Hz()}, err
}

// age returns the ticks since a tick. One that is ahead is now: reading a large
// table takes seconds, in which its flows have packets.
func (m moment) age(tick uint32) uint32 {
	return uint32(max(0, int32(m.now-tick)))
}

// expired reports whether the datapath treats e as absent.
func (m moment) expired(e *loader.Entry) bool {
	due := e.Epoch != m.epoch || m.age(e.Checked) >= m.hz
	return uint32(e.Era) != m.era || due && m.age(e.Seen) > e.Idle
}

// forward reports whether e is the forward entry of its flow.
func forward(e *loader.Entry) bool { return e.Dir() == loader.LBFlowDirDIR_FORWARD }

// eachEntry calls f with every entry of the flow table, and with what time it
// is, until f returns false.
func eachEntry(maps *loader.Maps, f func(*loader.FlowTable, *loader.Entry, moment) bool) error {
	at, err := present(maps)
	if err != nil {
		return err
	}
	table, err := maps.FlowTable()
	if err != nil {
		return err
	}
	table.Each(func(e loader.Entry) bool { return f(table, &e, at) })
	return table.Close()
}

// Flows calls f with every live flow until f returns false. Entries that come
// or go meanwhile may be missed.
func Flows(maps *loader.Maps, f func(FlowView) bool) error {
	r, err := read(maps)
	if err != nil {
		return err
	}
	return eachEntry(maps, func(_ *loader.FlowTable, e *loader.Entry, at moment) bool {
		if !forward(e) || at.expired(e) || r.gone(e) {
			return true
		}
		v := flowView(e)
		v.Service = r.names[e.Service]
		age, hz := at.age(e.Seen), float64(max(1, at.hz))
		v.Idle = float64(age) / hz
		v.Left = float64(e.Idle-min(age, e.Idle)) / hz
		return f(v)
	})
}

func flowView(f *loader.Entry) FlowView {
	return FlowView{
		Protocol: protocolOf(f.Key.Proto), State: stateName(f.State()),
		Client:  at6(f.Key.Saddr, f.Key.Sport),
		Virtual: at6(f.Key.Daddr, f.Key.Dport),
		Backend: at6(f.Daddr, f.Dport),
	}
}

func stateName(state loader.LBFlowState) string {
	if int(state) >= len(flowStates) {
		return "unknown"
	}
	return flowStates[state]
}

// gone reports whether the service or backend of f exists no more.
func (r *rows) gone(f *loader.Entry) bool {
	if int(f.Service) >= len(r.services) || int(f.Backend) >= len(r.backends) {
		return true
	}
	s, b := &r.services[f.Service], &r.backends[f.Backend]
	return s.State == serviceNone || s.Gen != f.ServiceGen ||
		b.State == backendNone || b.Gen != f.BackendGen || b.Service != f.Service
}

// Collected is what [Collect] has found.
type Collected struct {
	Live  int // flows that go on, which closed ones do not
	Held  int // entries that stay in the table, two of a flow
	Freed int // entries that do not
}

// Collect frees the places of entries that count as absent. The datapath is right
// without it: it treats them as absent.
func Collect(maps *loader.Maps) (c Collected, err error) {
	err = eachEntry(maps, func(t *loader.FlowTable, e *loader.Entry, at moment) bool {
		at.era = maps.ControlView().Era() // read after the entry: one of a newer era is not dead
		switch {
		case at.expired(e) && (uint32(e.Era) != at.era || at.age(e.Seen)-e.Idle >= at.hz): // not at its edge
			if t.Free(*e) {
				c.Freed++
				return true
			}
		case forward(e) && !e.Over():
			c.Live++
		}
		c.Held++
		return true
	})
	if err != nil {
		return c, fmt.Errorf("collect flows: %w", err)
	}
	return c, nil
}

// liveFlows returns how many flows the table holds, and how many of them go on,
// by row of backends.
func (r *rows) liveFlows(maps *loader.Maps) (held int, live []int, err error) {
	live = make([]int, len(r.backends))
	err = eachEntry(maps, func(_ *loader.FlowTable, e *loader.Entry, at moment) bool {
		if forward(e) && !at.expired(e) {
			held++
			if !e.Over() && !r.gone(e) {
				live[e.Backend]++
			}
		}
		return true
	})
	return held, live, err
}
