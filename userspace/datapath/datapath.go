// Package datapath makes the kernel's maps match a model.State.
//
// It is the only writer of service and backend rows. [Writer.Reconcile] takes
// everything that the kernel should hold and writes what differs, make before
// break, so that no packet meets a half-made service; run again it writes
// nothing. The package neither attaches programs (package loader does) nor
// decides who is healthy (package health does).
package datapath

import (
	"errors"
	"net/netip"
	"time"

	"fairlead/loader"
	"fairlead/userspace/model"
)

// Errors that callers can tell apart with [errors.Is].
var (
	// ErrFull says that a map has no room for what is wanted; see [Needs].
	ErrFull = errors.New("map is full")
	// ErrUnknown says that the maps do not hold what was asked about.
	ErrUnknown = errors.New("the maps hold another state")
)

// A Want is everything that the kernel should hold.
type Want struct {
	Services []Service
	// Devices are the interfaces that XDP may send out of, by index.
	Devices map[uint32]Device
	// Sources are what backends of full-NAT services see, by backend. One that
	// is missing here has no source, and gets no new flow.
	Sources map[netip.Addr][]netip.Addr
	Settings
}

// A Device is an interface that XDP may send out of.
type Device struct {
	// TX says that frames may go back out of it by XDP_TX, which is quicker
	// than a redirect, but which a veth's far end may not notice.
	TX bool
}

func (d Device) row() (row loader.Device) {
	if d.TX {
		row.Flags = uint32(loader.LBDeviceFlagDEVICE_TX)
	}
	return row
}

// Settings are what the control map holds of a configuration.
type Settings struct {
	// Idle says how long silent flows are remembered; zero fields are defaults.
	Idle model.Timeouts
	// FullNAT has the range of source ports; what is missing are defaults.
	FullNAT model.FullNAT
	// ReplyLimit is in answers per second and CPU; 0 means the default.
	ReplyLimit int
	// Mixed says that clients of IPv6 get to backends of IPv4, which then see
	// the upper half of the source ports.
	Mixed bool
	// LossAfter is the silence of the agent after which every backend counts
	// as up. 0 means never.
	LossAfter time.Duration
}

// LossAfter is how long an agent may be silent before it counts as lost. It
// shows a sign of life each second.
const LossAfter = 10 * time.Second

// SettingsOf returns the settings of a state.
func SettingsOf(state *model.State) Settings {
	s := Settings{Idle: state.Timeouts, FullNAT: state.FullNAT, ReplyLimit: state.ReplyLimit}
	for i := range state.Services {
		x := &state.Services[i]
		s.Mixed = s.Mixed || x.Mixed() && x.Listen.Addr().Is6()
	}
	if state.OnAgentLoss == model.LossAllUp {
		s.LossAfter = LossAfter
	}
	return s
}

// A Service is a service of the model and what was found out about it.
type Service struct {
	model.Service
	// Proxy leaves new flows to the user-space proxy.
	Proxy bool
	// Local says that the service's address is on this host.
	Local bool
	// Standby says that a proxy of this host takes the clients that bring a SYN
	// cookie back. Without one there are no cookies.
	Standby bool
	// Known says that the maps have the service already. Reconcile does not
	// look at it.
	Known bool
	// Down says which of Backends are down, by index. nil means none.
	Down []bool
	// Shares are how much of its weight each of Backends has by now, by index,
	// of [balance.Whole]. nil means all of it.
	Shares []int
}

// row returns the part of the service's row that says which one it is.
func (s *Service) row() loader.Service {
	return loader.Service{
		Addr: loader.AddressOf(s.Listen.Addr()), Port: be16(s.Listen.Port()), LastPort: be16(s.LastPort), Proto: s.Protocol.Number(),
	}
}

// key returns an address as keys have it: that of a service between families
// stands among those of IPv6.
func (s *Service) key(a netip.Addr) netip.Addr {
	if s.Mixed() {
		return wide(a)
	}
	return a
}

// listeners returns what clients connect to, one for each port.
func (s *Service) listeners() []listener {
	l := make([]listener, 0, int(s.LastPort)-int(s.Listen.Port())+1)
	for port := int(s.Listen.Port()); port <= int(s.LastPort); port++ {
		l = append(l, listener{netip.AddrPortFrom(s.key(s.Listen.Addr()), uint16(port)), s.Protocol.Number()})
	}
	return l
}

// addUses adds what addresses are to the kernel: the service's own and its
// backends', unless only the proxy talks to those.
func (s *Service) addUses(uses map[netip.Addr]uint32) {
	s.eachUse(func(a netip.Addr, use uint32) { uses[a] |= use })
}

// addUsesOf adds what some addresses are.
func (s *Service) addUsesOf(some, uses map[netip.Addr]uint32) {
	s.eachUse(func(a netip.Addr, use uint32) {
		if _, ok := some[a]; ok {
			uses[a] |= use
		}
	})
}

func (s *Service) eachUse(yield func(netip.Addr, uint32)) {
	yield(s.key(s.Listen.Addr()), uint32(loader.LBAddressUseADDRESS_SERVICE))
	if s.UserSpace() {
		return
	}
	for _, b := range s.Backends {
		yield(s.key(b.Address.Addr()), uint32(loader.LBAddressUseADDRESS_BACKEND))
	}
}

func flowTable(state *model.State) uint32 {
	if state.FlowTable == 0 {
		return model.DefaultFlowTable
	}
	return uint32(state.FlowTable)
}
