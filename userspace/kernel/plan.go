package kernel

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"

	"fairlead/loader"
	"fairlead/userspace/datapath"
	"fairlead/userspace/host"
	"fairlead/userspace/model"
)

// A Plan is what would change if a state were applied: by the living agent at
// its next reload, else by [Attach]. Its JSON form is stable.
type Plan struct {
	Dir string `json:"dir"`
	// Attached says that there is something to change; else all of it is new.
	Attached bool `json:"attached"`
	// AgentPID is the process of a living agent, 0 if there is none.
	AgentPID   int               `json:"agent_pid,omitempty"`
	Interfaces []InterfaceChange `json:"interfaces"`
	Addresses  []AddressChange   `json:"addresses"`
	// Maps are those that are made, or replaced by larger ones.
	Maps []MapChange `json:"maps"`
	datapath.Changes
}

// An InterfaceChange is an interface that gets the program, or loses it.
type InterfaceChange struct {
	Name   string          `json:"name"`
	Change datapath.Change `json:"change"`
}

// An AddressChange is a service address that is put on the host, taken off it or
// moved to another interface.
type AddressChange struct {
	Address   netip.Addr      `json:"address"`
	Interface string          `json:"interface"` // "" for one that is taken off
	Change    datapath.Change `json:"change"`
}

// A MapChange is a map that is made or grows.
type MapChange struct {
	Name string `json:"name"`
	From uint32 `json:"from"` // entries; 0 for one that is made
	To   uint32 `json:"to"`
}

// Empty reports whether nothing would change.
func (p *Plan) Empty() bool {
	return p.Attached && len(p.Interfaces)+len(p.Addresses)+len(p.Maps)+p.Writes == 0
}

// Told is what a living agent tells of the backends of a service, by index.
type Told struct {
	// Down says who is down; nil: as the maps have it. Shares are as in [Options].
	Down   func(*model.Service) []bool
	Shares func(*model.Service) []int
}

// Foresee returns what would change if state were applied to what is pinned in
// dir. It changes nothing, and makes the same plan as what applies it. What may
// stand against the state on this host is not looked at. Without a living agent
// told does not count. Errors wrap those of [loader.Open], [ErrNoInterfaces] and [datapath.ErrFull].
func Foresee(ctx context.Context, dir string, state *model.State, told Told) (*Plan, error) {
	if len(state.Interfaces) == 0 {
		return nil, ErrNoInterfaces
	}
	lock, err := loader.NewSharedLock(ctx, dir)
	if err != nil {
		return nil, err
	}
	defer lock.Unlock()
	f := foresight{k: &Kernel{interfaces: map[string]bool{}}, state: state}
	if f.plan.AgentPID, _, f.k.opts.Agent, err = loader.AgentRunning(dir); err != nil {
		return nil, err
	}
	f.k.opts.Standby = func(*model.Service) bool { return f.k.opts.Agent }
	if f.k.opts.Agent {
		f.k.opts.Down, f.k.opts.Shares = told.Down, told.Shares
	}
	f.k.inst, err = loader.Open(dir)
	f.plan.Attached = err == nil
	if err != nil && !errors.Is(err, loader.ErrNotAttached) {
		return nil, err
	}
	defer f.k.Close()
	if err := f.look(); err != nil {
		return nil, err
	}
	return &f.plan, nil
}

// A foresight is a plan in the making.
type foresight struct {
	k       *Kernel // inst is nil if nothing is attached
	state   *model.State
	journal loader.Journal
	plan    Plan
}

func (f *foresight) look() (err error) {
	var maps *loader.Maps
	if f.plan.Attached {
		maps, f.plan.Dir = f.k.Maps(), f.k.inst.Dir()
		if f.journal, err = maps.ReadJournal(); err != nil {
			return err
		}
	}
	if f.k.writer, err = datapath.Look(maps); err != nil {
		return err
	}
	if f.k.opts.Agent { // which lets backends drain
		state := *f.state
		state.Services = slices.Clone(state.Services)
		KeepLeaving(&state, f.k.writer.Backends())
		f.state = &state
	}
	if err := f.lookAtInterfaces(); err != nil {
		return err
	}
	local, err := f.addresses()
	if err != nil {
		return err
	}
	grown, err := loader.PlanMaps(f.k.inst, datapath.Needs(f.k.writer, f.state))
	if err != nil {
		return err
	}
	f.plan.Maps = []MapChange{}
	for _, g := range grown {
		f.plan.Maps = append(f.plan.Maps, MapChange{g.Map, g.From, g.To})
	}
	want, _, err := f.k.wanted(f.state, f.k.opts.Down)
	if err != nil {
		return err
	}
	for i := range want.Services {
		s := &want.Services[i]
		if is, changes := local[s.Listen.Addr()]; changes {
			s.Local = is
		}
	}
	changes, err := f.k.writer.Preview(want, grown)
	if err != nil {
		return err
	}
	f.plan.Changes = *changes
	for i := range changes.Devices {
		if d, err := net.InterfaceByIndex(int(changes.Devices[i].Ifindex)); err == nil { // else it is gone
			changes.Devices[i].Name = d.Name
		}
	}
	return nil
}

// lookAtInterfaces finds out which interfaces are to be attached, and which are
// not any more: an agent takes out what its configuration does not name.
func (f *foresight) lookAtInterfaces() error {
	if f.plan.Attached {
		if err := f.k.findInterfaces(); err != nil {
			return err
		}
	} else {
		f.k.native = f.state.XDP != model.XDPGeneric
	}
	f.plan.Interfaces = []InterfaceChange{}
	have := f.k.Interfaces()
	for _, name := range f.state.Interfaces {
		if !f.k.interfaces[name] {
			f.k.interfaces[name] = true
			f.plan.Interfaces = append(f.plan.Interfaces, InterfaceChange{name, datapath.Added})
		}
	}
	for _, name := range have {
		if f.k.opts.Agent && !slices.Contains(f.state.Interfaces, name) {
			delete(f.k.interfaces, name)
			f.plan.Interfaces = append(f.plan.Interfaces, InterfaceChange{name, datapath.Removed})
		}
	}
	return nil
}

// addresses finds out which addresses come, go or move, and whether they are on
// the host then.
func (f *foresight) addresses() (local map[netip.Addr]bool, err error) {
	look, err := host.LookAtAddresses()
	if err != nil {
		return nil, err
	}
	keep, over, err := planAddresses(look, f.state, f.journal.Addresses, nil)
	if err != nil {
		return nil, err
	}
	f.plan.Addresses, local = []AddressChange{}, map[netip.Addr]bool{}
	for _, a := range keep {
		addr := a.Prefix.Addr()
		local[addr] = true
		c := AddressChange{addr, a.Interface, ""}
		is, err := look.IsLocal(addr)
		switch {
		case err != nil:
			return nil, err
		case !is:
			c.Change = datapath.Added
		case !slices.Contains(f.journal.Addresses, a):
			c.Change = datapath.Changed
		default:
			continue
		}
		f.plan.Addresses = append(f.plan.Addresses, c)
	}
	slices.SortFunc(over, netip.Addr.Compare)
	for _, addr := range over {
		local[addr] = false
		f.plan.Addresses = append(f.plan.Addresses, AddressChange{addr, "", datapath.Removed})
	}
	return local, nil
}
