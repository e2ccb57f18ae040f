package datapath

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf"

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
	loader.LBFlowStateFLOW_NEW: "new", loader.LBFlowStateFLOW_ESTABLISHED: "established",
	loader.LBFlowStateFLOW_FIN: "fin", loader.LBFlowStateFLOW_CLOSED: "closed",
	loader.LBFlowStateFLOW_RESET: "reset",
}

// A moment is what tells entries that count from those that do not.
type moment struct{ now, era, hz uint32 }

func present(maps *loader.Maps) (moment, error) {
	now, err := Now()
	return moment{now, maps.ControlView().Era(), maps.ControlView().Hz()}, err
}

// age returns the ticks since f's last packet. Another CPU's clock may be ahead.
func (m moment) age(f *loader.Flow) uint32 {
	if f.Seen-m.now <= m.hz {
		return 0
	}
	return m.now - f.Seen
}

// expired reports whether the datapath treats f as absent.
func (m moment) expired(f *loader.Flow) bool { return f.Era != m.era || m.age(f) > f.Idle }

// Flows calls f with every live flow until f returns false. Entries that come
// or go meanwhile may be missed, or be seen twice.
func Flows(maps *loader.Maps, f func(FlowView) bool) error {
	r, err := read(maps)
	if err != nil {
		return err
	}
	at, err := present(maps)
	if err != nil {
		return err
	}
	hz := float64(max(1, at.hz))
	return maps.ReadFlows(func(k loader.FlowKey, fl loader.Flow) bool {
		if fl.Dir != uint8(loader.LBFlowDirDIR_FORWARD) || at.expired(&fl) || r.gone(&fl) {
			return true
		}
		v := flowView(&k, &fl)
		v.Service = r.names[fl.Service]
		v.Idle = float64(at.age(&fl)) / hz
		v.Left = float64(fl.Idle-at.age(&fl)) / hz
		return f(v)
	})
}

func flowView(k *loader.FlowKey, f *loader.Flow) FlowView {
	v := FlowView{
		Protocol: protocolOf(k.Proto), State: "unknown",
		Client:  netip.AddrPortFrom(addr4(k.Saddr), be16(k.Sport)),
		Virtual: netip.AddrPortFrom(addr4(k.Daddr), be16(k.Dport)),
		Backend: netip.AddrPortFrom(addr4(f.Daddr), be16(f.Dport)),
	}
	if int(f.State) < len(flowStates) {
		v.State = flowStates[f.State]
	}
	return v
}

// gone reports whether the service or backend of f exists no more.
func (r *rows) gone(f *loader.Flow) bool {
	if int(f.Service) >= len(r.services) || int(f.Backend) >= len(r.backends) {
		return true
	}
	s, b := &r.services[f.Service], &r.backends[f.Backend]
	return s.State == serviceNone || s.Gen != f.ServiceGen ||
		b.State == backendNone || b.Gen != f.BackendGen || b.Service != f.Service
}

// Collect deletes the entries of the flow table that count as absent, to free
// their room, and returns how many flows go on, which closed ones do not, and
// how many entries it deleted.
// The datapath is right without it: it treats them as absent.
func Collect(maps *loader.Maps) (live, deleted int, err error) {
	at, err := present(maps)
	if err != nil {
		return 0, 0, err
	}
	dead := func(f *loader.Flow) bool {
		at.era = maps.ControlView().Era()                                      // read after the entry: one of a newer era is not dead
		return at.expired(f) && (f.Era != at.era || at.age(f)-f.Idle >= at.hz) // not at its edge
	}
	rerr := maps.ReadFlows(func(k loader.FlowKey, f loader.Flow) bool {
		if !dead(&f) {
			over := f.State == uint8(loader.LBFlowStateFLOW_CLOSED) || f.State == uint8(loader.LBFlowStateFLOW_RESET)
			if f.Dir == uint8(loader.LBFlowDirDIR_FORWARD) && !over {
				live++
			}
			return true
		}
		var ok bool
		if ok, err = drop(maps.Flows, &k, dead); ok {
			deleted++
		}
		return err == nil
	})
	if err := errors.Join(rerr, err); err != nil {
		return live, deleted, fmt.Errorf("collect flows: %w", err)
	}
	return live, deleted, nil
}

// CountFlows returns how many flows live.
func CountFlows(maps *loader.Maps) (int, error) {
	at, err := present(maps)
	if err != nil {
		return 0, err
	}
	live := 0
	err = maps.ReadFlows(func(_ loader.FlowKey, f loader.Flow) bool {
		if f.Dir == uint8(loader.LBFlowDirDIR_FORWARD) && !at.expired(&f) {
			live++
		}
		return true
	})
	return live, err
}

// drop deletes an entry if it is still dead: its tuple may have been used again
// since the batch was read.
func drop(flows *ebpf.Map, k *loader.FlowKey, dead func(*loader.Flow) bool) (bool, error) {
	var f loader.Flow
	err := flows.Lookup(k, &f)
	if err == nil && dead(&f) {
		err = flows.Delete(k)
		if err == nil {
			return true, nil
		}
	}
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return false, nil
	}
	return false, err
}

// standbyKey is the key of the standby map for a client's datagrams.
func standbyKey(client, virtual netip.AddrPort) loader.FlowKey {
	return loader.FlowKey{
		Saddr: be32(client.Addr().Unmap()), Daddr: be32(virtual.Addr().Unmap()),
		Sport: be16(client.Port()), Dport: be16(virtual.Port()), Proto: model.UDP.Number(),
	}
}

// HoldStandby leaves the datagrams of a client to the user-space proxy, even
// where XDP would make a flow of them, until [ReleaseStandby].
func HoldStandby(maps *loader.Maps, client, virtual netip.AddrPort) error {
	if err := maps.Standby.Put(standbyKey(client, virtual), uint32(1)); err != nil {
		return fmt.Errorf("hold standby flow of %s: %w", client, err)
	}
	return nil
}

// ReleaseStandby ends what [HoldStandby] began. It may not have begun.
func ReleaseStandby(maps *loader.Maps, client, virtual netip.AddrPort) error {
	err := maps.Standby.Delete(standbyKey(client, virtual))
	if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("release standby flow of %s: %w", client, err)
	}
	return nil
}

// ClearStandby forgets the standby flows of an agent that is no more.
func ClearStandby(maps *loader.Maps) error {
	held, err := readHash[loader.FlowKey, uint32](maps.Standby)
	if err != nil {
		return fmt.Errorf("read standby flows: %w", err)
	}
	for k := range held {
		if err := maps.Standby.Delete(&k); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("clear standby flows: %w", err)
		}
	}
	return nil
}
