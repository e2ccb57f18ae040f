package datapath

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
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
	// Service is nil if the packet is to none and of no flow, or its flow's is gone.
	Service *ExplainedService `json:"service"`
	// Nearby are the services of the packet's destination if it is to none of them,
	// but to another port or protocol.
	Nearby []ExplainedService `json:"nearby,omitempty"`
	// Client is nil if everybody may make any number of flows, or the packet has one.
	Client *ExplainedClient `json:"client"`
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
	// Of the packet that is asked about, not of the one that leaves: its TCP flags,
	// nil for UDP, and its length with the IP header.
	Protocol model.Protocol `json:"protocol,omitempty"`
	Flags    []string       `json:"flags,omitempty"`
	Length   int            `json:"length,omitempty"`
}

// An ExplainedService is the one that a packet is for.
type ExplainedService struct {
	Name     string         `json:"name"`
	Listen   string         `json:"listen"`
	Protocol model.Protocol `json:"protocol"`
	Rung     string         `json:"rung"`     // xdp, proxy, or none if no agent runs the proxy
	FullNAT  bool           `json:"full_nat"` // its backends see sources of this host
	// Reason says why it is on the proxy's rung, Serving which backends get new flows
	// of this client, and Zone where this host is: what only an agent knows, ""
	// without one.
	Reason  string        `json:"reason,omitempty"`
	Serving model.Serving `json:"serving,omitempty"`
	Zone    string        `json:"zone,omitempty"`
}

// An ExplainedClient is what a service's lists and limit say of the packet's source.
type ExplainedClient struct {
	// Rule is the longest prefix of the lists that the source is in; nil if it is in
	// none.
	Rule    *netip.Prefix `json:"rule"`
	Allowed bool          `json:"allowed"`
	Limit   *LimitView    `json:"limit"` // for its network; nil if there is none
}

// An ExplainedFlow is the packet's, as it was before.
type ExplainedFlow struct {
	State     string  `json:"state"`
	Direction string  `json:"direction"`     // forward or reply
	Backend   string  `json:"backend"`       // "" if it is gone
	Idle      float64 `json:"idle_seconds"`  // since its last packet
	Limit     float64 `json:"limit_seconds"` // of silence, until it is forgotten
	// Check is "fit", "down" or "gone": what the packet would find out about service
	// and backend; "" if it would not look.
	Check string `json:"check"`
	// Anew says that the packet ends the flow, and may begin a new one.
	Anew bool `json:"anew"`
}

// An Explainer says what would become of packets of one family. It is not safe for
// concurrent use.
type Explainer struct {
	inst *loader.Instance
	dry  *loader.Rehearsal
	rows *rows
}

// NewExplainer returns an explainer for packets of IPv4 or IPv6 that come to an
// instance, which must stay open. The caller closes it. The error wraps
// [loader.ErrProgram] if this version's program is not the one that is attached.
func NewExplainer(inst *loader.Instance, ipv6 bool) (*Explainer, error) {
	dry, err := inst.Rehearse(ipv6)
	if err != nil {
		return nil, err
	}
	return &Explainer{inst: inst, dry: dry}, nil
}

// Close unloads what dry runs need.
func (x *Explainer) Close() { x.dry.Close() }

// patience is how often a packet is asked about while others write what it meets.
const patience = 100

// errMoved says that rows were exchanged between the dry run and what was read.
var errMoved = errors.New("the configuration changes all the time: try again")

// Explain says what would become of a packet that comes in at an interface of the
// instance, by a dry run that changes nothing. It must run on one thread of the
// network namespace that the instance is attached in.
func (x *Explainer) Explain(q loader.Question, at loader.Ingress) (*Explanation, error) {
	for range patience {
		before := x.rows
		a, err := x.dry.Ask(q, at)
		if err != nil {
			return nil, err
		}
		if x.rows, err = read(x.inst.Maps()); err != nil {
			return nil, err
		}
		if before != nil && x.rows.agree(before, &a) {
			return x.explanation(q, at, &a)
		}
	}
	return nil, errMoved
}

// agree reports whether two readings are the same in what a has met.
func (r *rows) agree(before *rows, a *loader.Answer) bool {
	if !told(a, loader.LBToldPartTOLD_FLOW) && !told(a, loader.LBToldPartTOLD_SERVICE) {
		return true
	}
	row := a.Service
	if !r.agreeAbout(before, row) || told(a, loader.LBToldPartTOLD_ZONE) && !r.agreeAbout(before, a.Zone) {
		return false
	}
	for i := range r.backends {
		if (r.backends[i].Service == row || before.backends[i].Service == row) && r.backends[i] != before.backends[i] {
			return false
		}
	}
	return slices.Equal(r.at(a.Run), before.at(a.Run)) && maps.Equal(r.rulesOf(row), before.rulesOf(row))
}

// agreeAbout reports whether two readings have the same row of services.
func (r *rows) agreeAbout(before *rows, row uint32) bool {
	return int(row) < len(r.services) && r.services[row] == before.services[row]
}

// rulesOf returns what the clients map says of the service in a row.
func (r *rows) rulesOf(row uint32) map[network]uint32 {
	rules := map[network]uint32{}
	for k, rule := range r.clients {
		if k.service == row {
			rules[k] = rule
		}
	}
	return rules
}

func (x *Explainer) explanation(q loader.Question, at loader.Ingress, a *loader.Answer) (*Explanation, error) {
	r := x.rows
	verdict := loader.Verdict(a.Verdict)
	e := &Explanation{
		Verdict: verdict, VerdictName: verdict.String(),
		Packet: PacketView{
			Interface: at.Interface, Source: q.From, Destination: q.To, TTL: q.TTL,
			SourceMAC: at.Neighbour.String(), DestinationMAC: at.MAC.String(),
		},
	}
	if !told(a, loader.LBToldPartTOLD_FLOW) && !told(a, loader.LBToldPartTOLD_SERVICE) {
		if verdict == loader.LBVerdictPASS_OTHER {
			e.Nearby = r.nearby(q.To)
		}
		return e, e.leave(a, at)
	}
	r.explainService(e, a)
	r.explainFlow(e, a, x.inst.Control().Hz())
	e.ClientZone = r.clientZone(a)
	if told(a, loader.LBToldPartTOLD_SERVICE) {
		e.Client = r.explainedClient(a.Service, q.From.Addr())
	}
	if told(a, loader.LBToldPartTOLD_CHOICE) || e.lacksBackend() {
		connections, err := readConnections(x.inst.Maps())
		if err != nil {
			return nil, err
		}
		e.Choice = r.choice(a, q, connections.backends)
	}
	return e, e.leave(a, at)
}

// lacksBackend reports whether a packet that may make a flow finds nobody for it.
func (e *Explanation) lacksBackend() bool {
	switch e.Verdict {
	case loader.LBVerdictANSWER_RESET, loader.LBVerdictANSWER_UNREACHABLE, loader.LBVerdictDROP_NO_BACKEND:
		return e.Flow == nil || e.Flow.Anew
	}
	return false
}

func told(a *loader.Answer, part loader.LBToldPart) bool { return a.Parts&uint32(part) != 0 }

func (r *rows) explainedService(row uint32) ExplainedService {
	v := r.serviceView(&r.services[row], r.names[row], Counters{})
	return ExplainedService{Name: v.Name, Listen: v.Listen, Protocol: v.Protocol, Rung: v.Rung, FullNAT: v.FullNAT}
}

// nearby returns the services of an address, first those of the port.
func (r *rows) nearby(to netip.AddrPort) (all []ExplainedService) {
	port := 0
	for i := range r.services {
		s := &r.services[i]
		if s.State == serviceNone || s.State == serviceZone || s.Addr.Addr() != to.Addr() {
			continue
		}
		all = append(all, r.explainedService(uint32(i)))
		if to.Port() >= be16(s.Port) && to.Port() <= be16(s.LastPort) {
			all[port], all[len(all)-1] = all[len(all)-1], all[port]
			port++
		}
	}
	return all
}

// explainedClient returns what the service in a row says of a client.
func (r *rows) explainedClient(row uint32, from netip.Addr) *ExplainedClient {
	s := &r.services[row]
	if s.Flags&(serviceListed|serviceLimited) == 0 {
		return nil
	}
	c := &ExplainedClient{Allowed: s.Flags&serviceListed == 0}
	v := cmp.Or(r.clientViews()[row], &ClientsView{})
	for allowed, prefixes := range map[bool][]netip.Prefix{true: v.Allow, false: v.Deny} {
		for _, p := range prefixes {
			if p.Contains(from) && (c.Rule == nil || p.Bits() > c.Rule.Bits()) {
				c.Rule, c.Allowed = &p, allowed
			}
		}
	}
	c.Limit = v.Limit
	return c
}

// explainService tells of the packet's service, unless that of its flow is gone:
// its row may be another's by now.
func (r *rows) explainService(e *Explanation, a *loader.Answer) {
	if s := &r.services[a.Service]; s.State != serviceNone && s.Gen == a.ServiceGen {
		service := r.explainedService(a.Service)
		e.Service = &service
	}
}

// explainFlow tells of the packet's flow.
func (r *rows) explainFlow(e *Explanation, a *loader.Answer, hz uint32) {
	if !told(a, loader.LBToldPartTOLD_FLOW) {
		return
	}
	e.Flow = &ExplainedFlow{
		State: "unknown", Direction: "forward", Anew: told(a, loader.LBToldPartTOLD_SERVICE),
		Idle: float64(a.Age) / float64(max(1, hz)), Limit: float64(a.Idle) / float64(max(1, hz)),
	}
	if int(a.Backend) < len(r.backends) && r.backends[a.Backend].Gen == a.BackendGen {
		e.Flow.Backend = r.backendText(a.Backend)
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
