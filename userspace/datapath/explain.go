package datapath

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"fairlead/loader"
	"fairlead/userspace/model"
)

// An Explanation says what would become of a packet, and why. Its JSON form is
// stable.
type Explanation struct {
	Packet PacketView `json:"packet"` // as it comes in
	// Service is nil if the packet is to none and of no flow.
	Service *ExplainedService `json:"service"`
	// Flow is what is known of the packet's flow, nil if it has none.
	Flow *ExplainedFlow `json:"flow"`
	// ClientZone is the zone that the client is in, as far as the service has slots
	// for it: "" is none of them, nil that this does not matter.
	ClientZone *string `json:"client_zone,omitempty"`
	// Choice is how a backend is chosen for a new flow, nil if none is.
	Choice  *Choice        `json:"choice"`
	Verdict loader.Verdict `json:"-"`
	// VerdictName is Verdict's.
	VerdictName string `json:"verdict"`
	// Out is the packet as it leaves, or the answer; nil if there is neither.
	Out *PacketView `json:"out"`
}

// A PacketView is a packet at an interface.
type PacketView struct {
	Interface      string         `json:"interface"`
	Source         netip.AddrPort `json:"source"` // port 0: ICMP has none
	Destination    netip.AddrPort `json:"destination"`
	TTL            uint8          `json:"ttl"`
	SourceMAC      string         `json:"source_mac"`
	DestinationMAC string         `json:"destination_mac"`
}

// An ExplainedService is the one that a packet is for.
type ExplainedService struct {
	Name     string         `json:"name"`
	Listen   string         `json:"listen"`
	Protocol model.Protocol `json:"protocol"`
	Rung     string         `json:"rung"`
}

// An ExplainedFlow is the packet's, as it was before.
type ExplainedFlow struct {
	State     string  `json:"state"`
	Direction string  `json:"direction"` // forward or reply
	Backend   string  `json:"backend"`
	Idle      float64 `json:"idle_seconds"`  // since its last packet
	Limit     float64 `json:"limit_seconds"` // of silence, until it is forgotten
	// Check is "fit", "down" or "gone": what the packet would find out about service
	// and backend; "" if it would not look.
	Check string `json:"check"`
	// Anew says that the packet ends the flow, and may begin a new one.
	Anew bool `json:"anew"`
}

// A Choice is the search for a backend.
type Choice struct {
	Balance string `json:"balance"`
	// Promise says that the same packet will get the same backend as long as
	// nothing else changes; otherwise another packet may come first.
	Promise bool `json:"promise"`
	Slots   int  `json:"slots"` // length of the slot table
	// AllUp says that backends count as up because the agent is lost.
	AllUp bool    `json:"all_up"`
	Tries []Try   `json:"tries"`
	Rest  []Other `json:"not_chosen"`
}

// A Try is one of those backends that are tried in turn.
type Try struct {
	Slot    *int   `json:"slot"`           // nil: chosen by affinity, or as the least busy of several
	Beside  *int   `json:"beside"`         // the slot that p2c compared it with
	Hash    string `json:"hash,omitempty"` // that led to the slot
	Turn    uint64 `json:"turn,omitempty"` // the same
	Backend string `json:"backend"`        // "" if the slot names none
	Verdict string `json:"verdict"`        // what the packet gets by it
	Tied    bool   `json:"tied,omitempty"` // by affinity
	row     uint32
}

// An Other is a backend that was not chosen.
type Other struct {
	Backend string `json:"backend"`
	Why     string `json:"why"`
}

// Explain says what would become of a packet that comes in at an interface of the
// instance, by a dry run that changes nothing. It must run on one thread of the
// network namespace that the instance is attached in.
func Explain(inst *loader.Instance, q loader.Question, at loader.Ingress) (*Explanation, error) {
	r, err := read(inst.Maps())
	if err != nil {
		return nil, err
	}
	dry, err := inst.Rehearse(q.From.Addr().Is6())
	if err != nil {
		return nil, err
	}
	defer dry.Close()
	a, err := dry.Ask(q, at)
	if err != nil {
		return nil, err
	}
	e := &Explanation{
		Verdict: loader.Verdict(a.Verdict), VerdictName: loader.Verdict(a.Verdict).String(),
		Packet: PacketView{at.Interface, q.From, q.To, q.TTL, at.Neighbour.String(), at.MAC.String()},
	}
	if e.Service, err = r.explainedService(&a); err != nil {
		return nil, err
	}
	r.explainFlow(e, &a, inst.Control().Hz())
	e.ClientZone = r.clientZone(&a)
	if told(&a, loader.LBToldPartTOLD_CHOICE) {
		e.Choice = r.choice(&a)
	}
	return e, e.leave(&a, at)
}

func told(a *loader.Answer, part loader.LBToldPart) bool { return a.Parts&uint32(part) != 0 }

// errMoved says that rows were exchanged between the dry run and what was read.
var errMoved = errors.New("the configuration has just changed: try again")

func (r *rows) explainedService(a *loader.Answer) (*ExplainedService, error) {
	if !told(a, loader.LBToldPartTOLD_FLOW) && !told(a, loader.LBToldPartTOLD_SERVICE) {
		return nil, nil
	}
	if int(a.Service) >= len(r.services) {
		return nil, errMoved
	}
	s := &r.services[a.Service]
	v := r.serviceView(s, r.names[a.Service], Counters{})
	return &ExplainedService{v.Name, v.Listen, v.Protocol, v.Rung}, nil
}

// explainFlow tells of the packet's flow.
func (r *rows) explainFlow(e *Explanation, a *loader.Answer, hz uint32) {
	if !told(a, loader.LBToldPartTOLD_FLOW) {
		return
	}
	e.Flow = &ExplainedFlow{
		State: "unknown", Direction: "forward", Backend: r.backendText(a.Backend), Anew: told(a, loader.LBToldPartTOLD_SERVICE),
		Idle: float64(a.Age) / float64(max(1, hz)), Limit: float64(a.Idle) / float64(max(1, hz)),
	}
	if int(a.State) < len(flowStates) {
		e.Flow.State = flowStates[a.State]
	}
	if loader.LBFlowDir(a.Dir) == loader.LBFlowDirDIR_REPLY {
		e.Flow.Direction = "reply"
	}
	if told(a, loader.LBToldPartTOLD_CHECK) {
		e.Flow.Check = [...]string{
			loader.LBFitnessFIT: "fit", loader.LBFitnessDOWN: "down", loader.LBFitnessGONE: "gone",
		}[a.Fitness]
	}
}

// clientZone returns the name of the client's zone.
func (r *rows) clientZone(a *loader.Answer) *string {
	zone := ""
	switch {
	case told(a, loader.LBToldPartTOLD_ZONE) && int(a.Zone) < len(r.names):
		zone = r.names[a.Zone]
	case !told(a, loader.LBToldPartTOLD_CHOICE) || r.services[a.Service].Zones == 0:
		return nil
	}
	return &zone
}

// backendText returns the address of a row, "" if it has none.
func (r *rows) backendText(row uint32) string {
	if int(row) >= len(r.backends) || r.backends[row].State == backendNone {
		return ""
	}
	return addrPortText(r.backends[row].Addr, r.backends[row].Port)
}

func (r *rows) choice(a *loader.Answer) *Choice {
	s := &r.services[a.Service]
	c := &Choice{
		Balance: loader.Balance(s.Balance).String(), Slots: int(uint32(a.Run)), AllUp: a.AllUp != 0, Tries: []Try{}, Rest: []Other{},
		Promise: hashed(s) && s.MaxLoad == 0 && s.Affinity == 0,
	}
	for i := range min(int(a.Tries), len(a.Attempts)) {
		c.Tries = append(c.Tries, r.try(a, i, s))
	}
	for row := range r.backends {
		b := &r.backends[row]
		if b.State != backendNone && b.Service == a.Service && !c.tried(uint32(row)) {
			here := slices.Contains(r.at(a.Run), uint32(row))
			c.Rest = append(c.Rest, Other{r.backendText(uint32(row)), whyNot(b, c.AllUp, here)})
		}
	}
	return c
}

// noSlot says that no slot was looked at: NO_SLOT of bpf/told.h.
const noSlot = ^uint32(0)

func hashed(s *loader.Service) bool {
	b := loader.Balance(s.Balance)
	return b == loader.LBBalanceBALANCE_HASH || b == loader.LBBalanceBALANCE_SOURCE_HASH
}

func (r *rows) try(a *loader.Answer, i int, s *loader.Service) Try {
	at := a.Attempts[i]
	t := Try{Backend: r.backendText(at.Backend), Verdict: loader.Verdict(at.Verdict).String(), row: at.Backend, Tied: at.Slot == noSlot}
	index := func(slot uint32) *int {
		if slot == noSlot {
			return nil
		}
		n := int(slot - uint32(a.Run>>32))
		return &n
	}
	switch balance := loader.Balance(s.Balance); {
	case t.Tied || balance == loader.LBBalanceBALANCE_LEAST:
		return t
	case hashed(s) && s.MaxLoad != 0 && (int(at.Slot) >= len(r.slots) || r.slots[at.Slot] != at.Backend):
		return t // the best of some slots, none of which had room
	case hashed(s):
		t.Hash = fmt.Sprintf("%#016x", at.Number)
	case balance == loader.LBBalanceBALANCE_P2C:
		t.Beside = index(at.Other)
	case balance == loader.LBBalanceBALANCE_ROUND_ROBIN:
		t.Turn = at.Number
	}
	t.Slot = index(at.Slot)
	return t
}

func (c *Choice) tried(row uint32) bool {
	for _, t := range c.Tries {
		if t.row == row {
			return true
		}
	}
	return false
}

// whyNot says why a backend that no try took was not chosen; here says that it has
// slots of those that the client chooses from.
func whyNot(b *loader.Backend, allUp, here bool) string {
	switch {
	case b.State == backendDown && !allUp:
		return "down"
	case b.Weight == 0:
		return "draining"
	case !here:
		return "not for the client's zone"
	}
	return "not chosen"
}

// leave reads the packet as it leaves.
func (e *Explanation) leave(a *loader.Answer, at loader.Ingress) error {
	kind := e.Verdict.Kind()
	if kind != loader.KindForward && kind != loader.KindAnswer {
		return nil
	}
	f := a.Frame
	out := PacketView{Interface: at.Interface, DestinationMAC: net.HardwareAddr(f[:6]).String(), SourceMAC: net.HardwareAddr(f[6:12]).String()}
	if a.Egress != 0 {
		i, err := net.InterfaceByIndex(int(a.Egress))
		if err != nil {
			return fmt.Errorf("find interface %d: %w", a.Egress, err)
		}
		out.Interface = i.Name
	}
	out.read(f[14:])
	e.Out = &out
	return nil
}

// read reads addresses, ports and TTL of an IP packet that the datapath has written.
func (p *PacketView) read(ip []byte) {
	from, to, proto, l4 := ip[12:16], ip[16:20], ip[9], ip[20:]
	p.TTL = ip[8]
	if ip[0]>>4 == 6 {
		from, to, proto, l4 = ip[8:24], ip[24:40], ip[6], ip[40:]
		p.TTL = ip[7]
	}
	src, _ := netip.AddrFromSlice(from)
	dst, _ := netip.AddrFromSlice(to)
	var ports [2]uint16
	if proto == model.TCP.Number() || proto == model.UDP.Number() {
		ports = [2]uint16{binary.BigEndian.Uint16(l4), binary.BigEndian.Uint16(l4[2:])}
	}
	p.Source, p.Destination = netip.AddrPortFrom(src, ports[0]), netip.AddrPortFrom(dst, ports[1])
}
