package datapath

import (
	"fmt"
	"net/netip"
	"time"

	"fairlead/loader"
	"fairlead/userspace/model"
)

// A View is what the kernel holds, for people and programs to read. Its JSON
// form is stable.
type View struct {
	Services []ServiceView     `json:"services"`
	Verdicts map[string]uint64 `json:"verdicts"` // packets by verdict; none is left out
	// Evictions are the entries that the flow table gave up for others, by kind;
	// none is left out.
	Evictions map[string]uint64 `json:"evictions"`
	// Held are the flows in the flow table, closed ones included, if they were
	// counted.
	Held int `json:"-"`
	// Fill is how full the maps are that hold services.
	Fill []Fill `json:"-"`
	// At is when the counters were read.
	At time.Time `json:"-"`
}

// A ServiceView is one service.
type ServiceView struct {
	Name     string         `json:"name"`
	Listen   string         `json:"listen"` // address:port or address:first-last
	Protocol model.Protocol `json:"protocol"`
	Rung     string         `json:"rung"`  // xdp or proxy
	Local    bool           `json:"local"` // the address is on this host
	OnDown   string         `json:"on_down"`
	FullNAT  bool           `json:"full_nat"` // backends see sources of this host
	Clients  *ClientsView   `json:"clients"`  // nil: everybody
	// SYNCookies are nil for a service without.
	SYNCookies *SYNCookiesView `json:"syn_cookies,omitempty"`
	// Balance is how the kernel chooses a backend.
	Balance string `json:"balance"`
	Slots   int    `json:"slots"` // length of its slot table
	// ClientZones are the zones whose clients have slot tables of their own.
	ClientZones []ZoneView `json:"client_zones,omitempty"`
	// Live are the flows that go on now, which closed ones do not; nil if nobody
	// has counted them.
	Live     *int          `json:"live_flows,omitempty"`
	Backends []BackendView `json:"backends"`
	// Connections are flows in the kernel's table that are not over.
	Connections uint32 `json:"connections"`
	Counters
}

// A SYNCookiesView says when SYNs are answered with cookies.
type SYNCookiesView struct {
	Above uint32 `json:"above"` // SYNs per second
	// Standby says that the kernel and a proxy take who brings one back; else there
	// are none.
	Standby bool `json:"standby"`
}

// A BackendView is one backend of a service.
type BackendView struct {
	Address string `json:"address"` // address:port; port * is the client's
	State   string `json:"state"`   // up, down or drain
	Weight  uint32 `json:"weight"`
	Slots   int    `json:"slots"` // how often it stands in the slot table
	// Live are the flows that go on now; nil if nobody has counted them.
	Live *int `json:"live_flows,omitempty"`
	// Sources are what it sees of a full-NAT service's clients.
	Sources     []netip.Addr `json:"sources,omitempty"`
	Connections uint32       `json:"connections"` // as its service's
	Counters
}

// Counters are sums over all CPUs since the service or backend was added.
type Counters struct {
	Flows          uint64 `json:"flows"` // made
	ForwardPackets uint64 `json:"forward_packets"`
	ForwardBytes   uint64 `json:"forward_bytes"` // IP total lengths
	ReplyPackets   uint64 `json:"reply_packets"`
	ReplyBytes     uint64 `json:"reply_bytes"`
	// Of TCP: SYNs that clients sent again since the backend had not answered, those
	// that it answered with a reset, and its resets of established flows.
	Troubles
}

// Read returns what maps hold. Rows and counters are read one after the other,
// so a view of a running instance is not of one instant.
func Read(maps *loader.Maps) (*View, error) {
	r, err := read(maps)
	if err != nil {
		return nil, err
	}
	return r.view(maps, nil)
}

// ReadLive is [Read], and counts the flows too, which takes some 200 ms for each
// million that there is room for.
func ReadLive(maps *loader.Maps) (*View, error) {
	r, err := read(maps)
	if err != nil {
		return nil, err
	}
	held, live, err := r.liveFlows(maps)
	if err != nil {
		return nil, err
	}
	v, err := r.view(maps, live)
	if err == nil {
		v.Held = held
	}
	return v, err
}

// view adds what was counted to rows. live are the flows that go on, by row of
// backends; nil if nobody has counted them.
func (r *rows) view(maps *loader.Maps, live []int) (*View, error) {
	at := time.Now()
	services, err := maps.ReadCounters(loader.TableServices)
	if err != nil {
		return nil, err
	}
	backends, err := maps.ReadCounters(loader.TableBackends)
	if err != nil {
		return nil, err
	}
	verdicts, err := maps.ReadVerdicts()
	if err != nil {
		return nil, err
	}
	connections, err := readConnections(maps)
	if err != nil {
		return nil, err
	}
	evictions, err := maps.ReadEvictions()
	if err != nil {
		return nil, err
	}
	v := &View{Services: []ServiceView{}, Verdicts: map[string]uint64{}, Evictions: map[string]uint64{}, Fill: r.fills(maps), At: at}
	for i := range loader.Verdicts {
		v.Verdicts[i.String()] = verdicts[i]
	}
	for i := range loader.Evictions {
		v.Evictions[i.String()] = evictions[i]
	}
	clients, homes := r.clientViews(), r.homes()
	place := make([]int, len(r.services)) // index in v.Services + 1
	for i := range r.services {
		if s := &r.services[i]; s.State != serviceNone && s.State != serviceZone {
			v.Services = append(v.Services, r.serviceView(s, r.names[i], counters(services[i])))
			place[i] = len(v.Services)
			v.Services[place[i]-1].Clients = clients[uint32(i)]
			v.Services[place[i]-1].ClientZones = r.zoneViews(s, homes)
			v.Services[place[i]-1].Connections = connections.services[i].Of(s.Gen)
			if live != nil {
				v.Services[place[i]-1].Live = new(int)
			}
		}
	}
	for i := range r.backends {
		b := &r.backends[i]
		if b.State == backendNone || int(b.Service) >= len(place) || place[b.Service] == 0 {
			continue
		}
		s := &v.Services[place[b.Service]-1]
		s.Backends = append(s.Backends, r.backendView(uint32(i), counters(backends[i])))
		s.Backends[len(s.Backends)-1].Connections = connections.backends[i].Of(b.Gen)
		if live != nil {
			s.Backends[len(s.Backends)-1].Live = &live[i]
			*s.Live += live[i]
		}
	}
	return v, nil
}

// connections are those of rows.
type connections struct{ services, backends []loader.Connections }

func readConnections(maps *loader.Maps) (c connections, err error) {
	if c.services, err = loader.ReadArray[loader.Connections](maps.ServiceConns); err == nil {
		c.backends, err = loader.ReadArray[loader.Connections](maps.BackendConns)
	}
	if err != nil {
		return c, fmt.Errorf("read connections: %w", err)
	}
	return c, nil
}

func counters(c loader.Counters) Counters {
	const forward, reply = loader.LBFlowDirDIR_FORWARD, loader.LBFlowDirDIR_REPLY
	return Counters{
		Flows:          c.Flows,
		ForwardPackets: c.Packets[forward], ForwardBytes: c.Bytes[forward],
		ReplyPackets: c.Packets[reply], ReplyBytes: c.Bytes[reply],
		Troubles: troublesOf(c),
	}
}

func (r *rows) serviceView(s *loader.Service, name string, c Counters) ServiceView {
	v := ServiceView{
		Name: name, Listen: listenText(s), Protocol: protocolOf(s.Proto), Rung: "xdp",
		Local: s.Flags&serviceLocal != 0, OnDown: string(model.DownReset), FullNAT: s.Flags&serviceFullNAT != 0,
		Balance: loader.Balance(s.Balance).String(), Slots: len(r.at(s.Slots)), Backends: []BackendView{}, Counters: c,
	}
	if s.CookieAbove != 0 {
		v.SYNCookies = &SYNCookiesView{Above: s.CookieAbove, Standby: s.Flags&serviceCookies != 0}
	}
	if s.State == serviceProxy {
		v.Rung = "proxy"
	}
	if s.Flags&serviceKeep != 0 {
		v.OnDown = string(model.DownKeep)
	}
	return v
}

func (r *rows) backendView(row uint32, c Counters) BackendView {
	b := &r.backends[row]
	v := BackendView{Address: addrPortText(b.Addr, b.Port), Weight: b.Weight, State: "up", Sources: addrsOf(r.sourcesAt(b.Sources)), Counters: c}
	switch {
	case b.State == backendDown:
		v.State = "down"
	case b.Weight == 0:
		v.State = "drain"
	}
	for _, slot := range r.at(r.services[b.Service].Slots) {
		if slot == row {
			v.Slots++
		}
	}
	return v
}

func listenText(s *loader.Service) string {
	text := addrPortText(s.Addr, s.Port)
	if s.LastPort != s.Port {
		text += fmt.Sprintf("-%d", be16(s.LastPort))
	}
	return text
}

func addrPortText(addr loader.Address, port uint16) string {
	return model.Backend{Address: at6(addr, port)}.String()
}

func protocolOf(number uint8) model.Protocol {
	for _, p := range []model.Protocol{model.TCP, model.UDP} {
		if p.Number() == number {
			return p
		}
	}
	return model.Protocol(fmt.Sprint(number))
}
