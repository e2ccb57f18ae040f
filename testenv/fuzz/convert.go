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

func rawPort(port uint16) uint16 {
	return raw.Uint16(be.AppendUint16(nil, port))
}

func portFrom(v uint16) uint16 { return be.Uint16(raw.AppendUint16(nil, v)) }

func rawWord(v uint32) uint32 { return raw.Uint32(be.AppendUint32(nil, v)) }

func wordFrom(v uint32) uint32 { return be.Uint32(raw.AppendUint32(nil, v)) }

func controlOf(c m.Control) loader.LBControl {
	return loader.LBControl{
		Mode: uint32(c.Mode), Era: c.Era, Epoch: c.Epoch, Hz: c.Hz, Idle: c.Idle,
		ReplyLimit: c.ReplyLimit, SnatPort: c.SnatPort, SnatPorts: c.SnatPorts, MixedPort: c.MixedPort, MixedPorts: c.MixedPorts,
		Heartbeat: c.Heartbeat, LossAfter: c.LossAfter, HashA: c.HashA, HashB: c.HashB, HashC: c.HashC, HashD: c.HashD, HashE: c.HashE,
	}
}

func runOf(r m.Run) uint64 { return uint64(r.Offset)<<32 | uint64(r.Length) }

func serviceOf(s m.Service) loader.LBService {
	return loader.LBService{
		Slots: runOf(s.Slots), SlotsAll: runOf(s.SlotsAll), Gen: s.Gen, State: s.State, Flags: s.Flags,
		LimitMask: loader.AddressOf(s.LimitMask), LimitRate: s.LimitRate, LimitBurst: s.LimitBurst,
		CookieAbove: s.CookieAbove,
		Balance:     s.Balance, Seed: s.Seed, SourceMask: loader.AddressOf(s.SourceMask),
		Affinity: s.Affinity, MaxLoad: s.MaxLoad, Weights: s.Weights, WeightsAll: s.WeightsAll,
		Zones: s.Zones, Zone: s.Zone,
	}
}

func backendOf(b m.Backend) loader.LBBackend {
	var flags uint8
	if b.Unsure {
		flags = uint8(loader.LBBackendFlagBACKEND_UNSURE)
	}
	return loader.LBBackend{
		Addr: loader.AddressOf(b.Addr), Port: rawPort(b.Port), State: b.State, Flags: flags, Gen: b.Gen, Service: b.Service,
		Sources: b.Sources.Offset<<16 | b.Sources.Length, Weight: b.Weight,
	}
}

func ruleOf(allow bool) uint32 {
	if allow {
		return uint32(loader.LBClientRuleCLIENT_ALLOW)
	}
	return uint32(loader.LBClientRuleCLIENT_DENY)
}

// A codec writes and reads what the maps of a family have in rows of its own.
type codec interface {
	listener(l m.Listener) any
	prefix(p m.Prefix) any
	key(t m.Tuple) any
	// rival is struct rival of bpf/test/race.h.
	rival(f m.Flow) any
	// bucket is a row of the flow table, and how to read it once it is filled.
	// free frees one of its places.
	bucket() (row any, read func() [places]entry)
	free(row any, i int)
	// source is a key of the sources, and how to read it once it is filled.
	source() (key any, read func() m.Source)
}

// places is how many a bucket has.
const places = 8

// An entry is a place of the flow table with what it holds, if it is not free.
type entry struct {
	stamp loader.LBStamp
	flow  m.Flow
	at    place  // where it says that it is
	fault string // what the model does not know and is wrong
}

// check looks for faults.
func (e *entry) check(l4Delta, ipDelta uint16) {
	if e.stamp.Era == eraFree {
		return // nobody has to clean it
	}
	f := &e.flow
	l4, ip := m.Delta(f.Key, f.Leave)
	if f.FarMTU != 0 { // the whole header is new
		ip = portFrom(ipDelta)
	}
	// 0 and 0xffff are the same number in one's complement.
	if portFrom(l4Delta)%0xffff != l4%0xffff || portFrom(ipDelta)%0xffff != ip%0xffff {
		e.fault = fmt.Sprintf("deltas of %v are %#04x and %#04x, want %#04x and %#04x", f.Key, portFrom(l4Delta), portFrom(ipDelta), l4, ip)
	}
	if want := stampOf(*f).Life; e.stamp.Life != want {
		e.fault = fmt.Sprintf("life of %v is %#02x, want %#02x", f.Key, e.stamp.Life, want)
	}
}

// stampOf is what an entry's stamp says of it, but for the tag.
func stampOf(f m.Flow) loader.LBStamp {
	life := f.Dir | f.Fins<<1 | f.State<<3
	if f.Key.Proto == m.UDP {
		life |= 0x40 // LIFE_UDP
	}
	return loader.LBStamp{Seen: f.Seen, Era: uint8(f.Era), Life: life}
}

// fragmentOf is a key of fragments.
func fragmentOf(k m.FragmentKey) loader.Fragment {
	return loader.Fragment{Saddr: loader.AddressOf(k.Src), Daddr: loader.AddressOf(k.Dst), Id: rawWord(k.ID), Proto: k.Proto}
}

func fateOf(f m.Fate) loader.Fate {
	return loader.Fate{Sport: rawPort(f.SPort), Dport: rawPort(f.DPort), Proto: f.Proto, Tick: f.Tick, Verdict: uint8(f.Verdict)}
}

// readFragments reads what is remembered of datagrams of a family.
func (f *family) readFragments(table *ebpf.Map) (map[m.FragmentKey]m.Fate, error) {
	fates := map[m.FragmentKey]m.Fate{}
	var key loader.Fragment
	var value loader.Fate
	all := table.Iterate()
	for all.Next(&key, &value) {
		k := m.FragmentKey{Src: f.unmapped(key.Saddr), Dst: f.unmapped(key.Daddr), ID: wordFrom(key.Id), Proto: key.Proto}
		fates[k] = m.Fate{SPort: portFrom(value.Sport), DPort: portFrom(value.Dport), Proto: value.Proto, Tick: value.Tick, Verdict: m.Verdict(value.Verdict)}
	}
	if err := all.Err(); err != nil {
		return nil, fmt.Errorf("read fragments: %w", err)
	}
	return fates, nil
}

// unmapped is an address of the family out of a map of both.
func (f *family) unmapped(a loader.Address) m.Addr {
	if f == &ipv4 {
		return a.Addr()
	}
	return addrFrom6(a)
}
