package loader

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
)

// A Rehearsal is the program of one family, loaded once more for dry runs on the
// maps of an instance: rule 14 of docs/datapath.md. Nothing that it shares with
// the instance changes. The caller closes it. It is not safe for concurrent use.
type Rehearsal struct {
	loaded []*ebpf.Collection // with common variables; the first one's program is asked
	prog   *ebpf.Program
}

// An Answer is what a dry run tells of its packet.
type Answer struct {
	Told
	Frame []byte // as the packet would leave, or as it came
}

// A rehearsed is a program that an instance runs.
type rehearsed struct {
	load     func() (*ebpf.CollectionSpec, error)
	name     string
	attached *ebpf.Program
	flows    *ebpf.Map
}

// rehearsed returns the programs that packets of a family may come to, the first one first.
func (i *Instance) rehearsed(ipv6 bool) []rehearsed {
	first := rehearsed{LoadLB, LBProgFairlead, i.prog, i.maps.Flows}
	switch {
	case ipv6 && i.hasIPv6():
		first = rehearsed{LoadLB6, LB6ProgFairlead6, i.prog6, i.maps.Flows6}
	case i.prog46 != nil:
		first.name = LBProgFairleadMixed
		return []rehearsed{first, {LoadLB46, LB46ProgFairlead46, i.prog46, i.maps.Flows6}}
	case i.hasIPv6():
		first.name = LBProgFairleadBoth
	}
	return []rehearsed{first}
}

// Rehearse loads the program of IPv4 or IPv6 for dry runs. The error wraps
// [ErrProgram] if it is not the one that is attached.
func (i *Instance) Rehearse(ipv6 bool) (*Rehearsal, error) {
	// What is only counted is counted apart.
	shared := *i.maps
	shared.Verdicts, shared.Evictions, shared.BackendCounters = nil, nil, nil
	b := &build{maps: &shared}
	r := &Rehearsal{}
	for _, p := range i.rehearsed(ipv6) {
		loaded, err := b.loadDry(p)
		if err != nil {
			r.Close()
			return nil, err
		}
		r.loaded = append(r.loaded, loaded)
		b.variables = loaded.Maps[".bss"]
	}
	r.prog = r.loaded[0].Programs[i.rehearsed(ipv6)[0].name]
	if len(r.loaded) > 1 {
		if err := r.loaded[0].Maps[LBMapFamilies].Put(uint32(1), r.loaded[1].Programs[LB46ProgFairlead46]); err != nil {
			r.Close()
			return nil, fmt.Errorf("hand over: %w", err)
		}
	}
	return r, nil
}

// loadDry loads a program for dry runs, if it is the one that is attached.
func (b *build) loadDry(p rehearsed) (*ebpf.Collection, error) {
	object, err := p.load()
	if err != nil {
		return nil, err
	}
	if err := object.Variables[LBVarDryRun].Set(true); err != nil {
		return nil, fmt.Errorf("ask for dry runs: %w", err)
	}
	loaded, err := b.loadProgram(object, p.name, p.flows)
	if err != nil {
		return nil, fmt.Errorf("load program: %w", err)
	}
	// Constants are no instructions: what the kernel makes the tag of is the same
	// text, dry or not, for the same version only.
	same, err := b.sameProgram(loaded.Programs[p.name], p.attached)
	switch {
	case err != nil:
		err = fmt.Errorf("compare programs: %w", err)
	case !same:
		err = ErrProgram
	default:
		return loaded, nil
	}
	loaded.Close()
	return nil, err
}

// Close unloads the programs.
func (r *Rehearsal) Close() {
	for _, c := range r.loaded {
		c.Close()
	}
}

// Ask runs a packet dry, as if it came in from at.
func (r *Rehearsal) Ask(q Question, at Ingress) (Answer, error) {
	frame := q.frame(at.MAC, at.Neighbour)
	run := ebpf.RunOptions{
		Data: frame, DataOut: make([]byte, len(frame)+256), // room for the headers of an answer
		Context: struct{ Data, DataEnd, DataMeta, Ingress, Queue, Egress uint32 }{DataEnd: uint32(len(frame)), Ingress: uint32(at.Index)},
	}
	if _, err := r.prog.Run(&run); err != nil {
		return Answer{}, fmt.Errorf("run the program dry: %w", err)
	}
	a := Answer{Frame: run.DataOut}
	if err := r.loaded[0].Variables[LBVarTold].Get(&a.Told); err != nil {
		return a, fmt.Errorf("read what was told: %w", err)
	}
	return a, nil
}

// An Ingress is where a packet comes in, and from which neighbour.
type Ingress struct {
	Interface      string
	Index          int
	MAC, Neighbour net.HardwareAddr
}

// unknownNeighbour stands for one whose address the host does not know.
var unknownNeighbour = net.HardwareAddr{2, 0, 0, 0, 0, 1}

// Ingress returns where packets of client come in: by the interface of that name
// or, if it is "", by the one that the route to the client leads out of. The error
// wraps [ErrNotAttached] if that is not attached, and [ErrProgram] if it runs
// another program than the pinned one.
func (i *Instance) Ingress(name string, client netip.Addr) (Ingress, error) {
	at := Ingress{Neighbour: unknownNeighbour}
	var next net.IP
	var dev netlink.Link
	var err error
	why := ""
	if name != "" {
		dev, err = findDevice(name)
	} else {
		dev, next, err = towards(client)
		why = fmt.Sprintf(", where the route to %s leads (or say --interface)", client)
	}
	if err != nil {
		return at, err
	}
	at.Interface, at.Index, at.MAC = dev.Attrs().Name, dev.Attrs().Index, dev.Attrs().HardwareAddr
	if err := i.runsOn(at); err != nil {
		return at, fmt.Errorf("ask at interface %s%s: %w", at.Interface, why, err)
	}
	if next == nil {
		next = client.AsSlice()
	}
	neighbours, err := netlink.NeighList(at.Index, netlink.FAMILY_ALL)
	if err != nil {
		return at, fmt.Errorf("list neighbours of %s: %w", at.Interface, err)
	}
	for _, n := range neighbours {
		if n.IP.Equal(next) && len(n.HardwareAddr) == 6 {
			at.Neighbour = n.HardwareAddr
		}
	}
	return at, nil
}

// towards returns the interface and the gateway, if there is one, to an address.
func towards(addr netip.Addr) (netlink.Link, net.IP, error) {
	routes, err := netlink.RouteGet(addr.AsSlice())
	if err == nil && len(routes) == 0 {
		err = errors.New("none")
	}
	if err != nil {
		return nil, nil, fmt.Errorf("%w %s: %w; say where it comes in with --interface", ErrNoRoute, addr, err)
	}
	dev, err := netlink.LinkByIndex(routes[0].LinkIndex)
	if err != nil {
		return nil, nil, fmt.Errorf("find interface to client %s: %w", addr, err)
	}
	return dev, routes[0].Gw, nil
}

// runsOn returns an error unless the pinned program is attached there.
func (i *Instance) runsOn(at Ingress) error {
	links, err := i.Links()
	if err != nil {
		return err
	}
	info, err := i.prog.Info()
	if err != nil {
		return fmt.Errorf("ask for the program: %w", err)
	}
	id, _ := info.ID()
	for _, l := range links {
		if l.Index != at.Index || l.Mode == "" {
			continue
		}
		if l.Program != id {
			return ErrProgram
		}
		return nil
	}
	return ErrNotAttached
}
