package fuzz

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cilium/ebpf"

	"fairlead/loader"
	m "fairlead/testenv/refmodel"
)

func isNotExist(err error) bool { return errors.Is(err, ebpf.ErrKeyNotExist) }

// The kernel keeps addresses and ports as the packet has them.
var raw = binary.NativeEndian

func rawAddr(a m.Addr) uint32 { return raw.Uint32(a[:]) }

func rawPort(port uint16) uint16 {
	return raw.Uint16(be.AppendUint16(nil, port))
}

func addrFrom(v uint32) m.Addr { return m.Addr(raw.AppendUint32(nil, v)) }

func portFrom(v uint16) uint16 { return be.Uint16(raw.AppendUint16(nil, v)) }

func controlOf(c m.Control) loader.LBControl {
	return loader.LBControl{
		Mode: uint32(c.Mode), Era: c.Era, Epoch: c.Epoch, Hz: c.Hz, Idle: c.Idle,
		ReplyLimit: c.ReplyLimit, SnatPort: c.SnatPort, SnatPorts: c.SnatPorts,
		Heartbeat: c.Heartbeat, LossAfter: c.LossAfter, HashA: c.HashA, HashB: c.HashB,
	}
}

func runOf(r m.Run) uint64 { return uint64(r.Offset)<<32 | uint64(r.Length) }

func serviceOf(s m.Service) loader.LBService {
	return loader.LBService{
		Slots: runOf(s.Slots), SlotsAll: runOf(s.SlotsAll), Gen: s.Gen, State: s.State, Flags: s.Flags,
		LimitMask: rawAddr(s.LimitMask), LimitRate: s.LimitRate, LimitBurst: s.LimitBurst,
	}
}

func backendOf(b m.Backend) loader.LBBackend {
	return loader.LBBackend{
		Addr: rawAddr(b.Addr), Port: rawPort(b.Port), State: b.State, Gen: b.Gen, Service: b.Service,
		Sources: b.Sources.Offset<<16 | b.Sources.Length,
	}
}

func prefixOf(p m.Prefix) loader.LBClientPrefix {
	return loader.LBClientPrefix{Len: uint32(32 + p.Len), Service: p.Service, Addr: rawAddr(p.Addr)}
}

func ruleOf(allow bool) uint32 {
	if allow {
		return uint32(loader.LBClientRuleCLIENT_ALLOW)
	}
	return uint32(loader.LBClientRuleCLIENT_DENY)
}

func listenerOf(l m.Listener) loader.LBListener {
	return loader.LBListener{Addr: rawAddr(l.Addr), Port: rawPort(l.Port), Proto: l.Proto}
}

func keyOf(t m.Tuple) loader.LBFlowKey {
	return loader.LBFlowKey{
		Saddr: rawAddr(t.Src), Daddr: rawAddr(t.Dst), Sport: rawPort(t.SPort), Dport: rawPort(t.DPort), Proto: t.Proto,
	}
}

func fragmentOf(k m.FragmentKey) loader.Fragment {
	return loader.Fragment{Saddr: rawAddr(k.Src), Daddr: rawAddr(k.Dst), Id: rawPort(k.ID), Proto: k.Proto}
}

func fateOf(f m.Fate) loader.Fate {
	return loader.Fate{Sport: rawPort(f.SPort), Dport: rawPort(f.DPort), Tick: f.Tick, Verdict: uint32(f.Verdict)}
}

// readFragments reads what is remembered of datagrams.
func readFragments(table *ebpf.Map) (map[m.FragmentKey]m.Fate, error) {
	fates := map[m.FragmentKey]m.Fate{}
	var key loader.Fragment
	var value loader.Fate
	all := table.Iterate()
	for all.Next(&key, &value) {
		k := m.FragmentKey{Src: addrFrom(key.Saddr), Dst: addrFrom(key.Daddr), ID: portFrom(key.Id), Proto: key.Proto}
		fates[k] = m.Fate{SPort: portFrom(value.Sport), DPort: portFrom(value.Dport), Tick: value.Tick, Verdict: m.Verdict(value.Verdict)}
	}
	if err := all.Err(); err != nil {
		return nil, fmt.Errorf("read fragments: %w", err)
	}
	return fates, nil
}

// flowOf is an entry with the deltas that its translation needs.
func flowOf(f m.Flow) loader.LBFlow {
	l4, ip := m.Delta(f.Key, f.Leave)
	return loader.LBFlow{
		Key:   keyOf(f.Key),
		Saddr: rawAddr(f.Leave.Src), Daddr: rawAddr(f.Leave.Dst), Sport: rawPort(f.Leave.SPort), Dport: rawPort(f.Leave.DPort),
		Hop:     loader.LBHop{Dmac: f.Hop.DMAC, Smac: f.Hop.SMAC, Ifindex: f.Hop.Ifindex, Flags: uint16(f.Hop.Flags), Mtu: f.Hop.MTU},
		Checked: f.Checked, Idle: f.Idle, Epoch: f.Epoch,
		Service: f.Service, ServiceGen: f.ServiceGen, Backend: f.Backend, BackendGen: f.BackendGen,
		L4Delta: rawPort(l4), IpDelta: rawPort(ip), Answer: f.Answer,
	}
}

// rival is struct rival of bpf/test/race.h.
type rival struct {
	Flow  loader.LBFlow
	Stamp loader.LBStamp
}

// rivalOf is an entry with what its stamp says of it, but for the tag.
func rivalOf(f m.Flow) rival {
	return rival{
		Flow:  flowOf(f),
		Stamp: loader.LBStamp{Seen: f.Seen, Era: uint8(f.Era), Life: lifeOf(f)},
	}
}

// lifeOf is a stamp's life.
func lifeOf(f m.Flow) uint8 {
	life := f.Dir | f.Fins<<1 | f.State<<3
	if f.Key.Proto == m.UDP {
		life |= 0x40 // LIFE_UDP
	}
	return life
}

// flowFrom is the entry as the model has it. Fault tells what the model does
// not know and is wrong: padding, or a delta.
func flowFrom(s loader.LBStamp, f loader.LBFlow) (flow m.Flow, fault string) {
	k := f.Key
	flow = m.Flow{
		Key:   m.Tuple{Src: addrFrom(k.Saddr), Dst: addrFrom(k.Daddr), SPort: portFrom(k.Sport), DPort: portFrom(k.Dport), Proto: k.Proto},
		Leave: m.Tuple{Src: addrFrom(f.Saddr), Dst: addrFrom(f.Daddr), SPort: portFrom(f.Sport), DPort: portFrom(f.Dport), Proto: k.Proto},
		Hop:   m.Hop{DMAC: f.Hop.Dmac, SMAC: f.Hop.Smac, Ifindex: f.Hop.Ifindex, Flags: uint32(f.Hop.Flags), MTU: f.Hop.Mtu},
		Seen:  s.Seen, Checked: f.Checked, Idle: f.Idle, Epoch: f.Epoch, Era: uint32(s.Era),
		Service: f.Service, ServiceGen: f.ServiceGen, Backend: f.Backend, BackendGen: f.BackendGen,
		Dir: s.Life & 1, Fins: s.Life >> 1 & 3, State: s.Life >> 3 & 7, Answer: f.Answer,
	}
	l4, ip := m.Delta(flow.Key, flow.Leave)
	// 0 and 0xffff are the same number in one's complement.
	if portFrom(f.L4Delta)%0xffff != l4%0xffff || portFrom(f.IpDelta)%0xffff != ip%0xffff {
		fault = fmt.Sprintf("deltas of %v are %#04x and %#04x, want %#04x and %#04x", flow.Key, portFrom(f.L4Delta), portFrom(f.IpDelta), l4, ip)
	}
	if f.Pad != [7]uint8{} || k.Pad != [3]uint8{} {
		fault = fmt.Sprintf("padding of %v is not zero", flow.Key)
	}
	if s.Life != lifeOf(flow) {
		fault = fmt.Sprintf("life of %v is %#02x, want %#02x", flow.Key, s.Life, lifeOf(flow))
	}
	return flow, fault
}
