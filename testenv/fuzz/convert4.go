package fuzz

import (
	"fmt"

	"fairlead/loader"
	m "fairlead/testenv/refmodel"
)

// codec4 is the codec of IPv4.
type codec4 struct{}

func raw4(a m.Addr) uint32 { return raw.Uint32(a.AsSlice()) }

func addrFrom4(v uint32) m.Addr { return m.AddrFrom(raw.AppendUint32(nil, v)) }

func (codec4) listener(l m.Listener) any {
	return loader.LBListener{Addr: raw4(l.Addr), Port: rawPort(l.Port), Proto: l.Proto}
}

func (codec4) prefix(p m.Prefix) any {
	return loader.LBClientPrefix{Len: uint32(32 + p.Len), Service: p.Service, Addr: raw4(p.Addr)}
}

func (codec4) source() (key any, read func() m.Source) {
	var s loader.LBSource
	return &s, func() m.Source { return m.Source{Service: s.Service, Net: addrFrom4(s.Net)} }
}

func (codec4) key(t m.Tuple) any { return key4(t) }

func key4(t m.Tuple) loader.LBFlowKey {
	return loader.LBFlowKey{
		Saddr: raw4(t.Src), Daddr: raw4(t.Dst), Sport: rawPort(t.SPort), Dport: rawPort(t.DPort), Proto: t.Proto,
	}
}

func (codec4) rival(f m.Flow) any {
	l4, ip := m.Delta(f.Key, f.Leave)
	return struct {
		Flow  loader.LBFlow
		Stamp loader.LBStamp
	}{
		loader.LBFlow{
			Key:   key4(f.Key),
			Saddr: raw4(f.Leave.Src), Daddr: raw4(f.Leave.Dst), Sport: rawPort(f.Leave.SPort), Dport: rawPort(f.Leave.DPort),
			Hop:     loader.LBHop{Dmac: f.Hop.DMAC, Smac: f.Hop.SMAC, Ifindex: f.Hop.Ifindex, Flags: uint16(f.Hop.Flags), Mtu: f.Hop.MTU},
			Checked: f.Checked, Idle: f.Idle, Epoch: f.Epoch,
			Service: f.Service, ServiceGen: f.ServiceGen, Backend: f.Backend, BackendGen: f.BackendGen,
			L4Delta: rawPort(l4), IpDelta: rawPort(ip), Answer: f.Answer, FarMtu: f.FarMTU,
		},
		stampOf(f),
	}
}

func (codec4) bucket() (row any, read func() [places]entry) {
	var b loader.LBBucket
	return &b, func() (es [places]entry) {
		for i, stamp := range b.Stamps {
			es[i] = entry4(stamp, b.Places[i])
		}
		return es
	}
}

func (codec4) free(row any, i int) { row.(*loader.LBBucket).Stamps[i].Era = eraFree }

// entry4 is a place's, as the model has it.
func entry4(s loader.LBStamp, f loader.LBFlow) entry {
	k := f.Key
	e := entry{stamp: s, at: place{int(f.Bucket), int(f.Place)}, flow: m.Flow{
		Key:   m.Tuple{Src: addrFrom4(k.Saddr), Dst: addrFrom4(k.Daddr), SPort: portFrom(k.Sport), DPort: portFrom(k.Dport), Proto: k.Proto},
		Leave: m.Tuple{Src: addrFrom4(f.Saddr), Dst: addrFrom4(f.Daddr), SPort: portFrom(f.Sport), DPort: portFrom(f.Dport), Proto: k.Proto},
		Hop:   m.Hop{DMAC: f.Hop.Dmac, SMAC: f.Hop.Smac, Ifindex: f.Hop.Ifindex, Flags: uint32(f.Hop.Flags), MTU: f.Hop.Mtu},
		Seen:  s.Seen, Checked: f.Checked, Idle: f.Idle, Epoch: f.Epoch, Era: uint32(s.Era),
		Service: f.Service, ServiceGen: f.ServiceGen, Backend: f.Backend, BackendGen: f.BackendGen,
		FarMTU: f.FarMtu, Dir: s.Life & 1, Fins: s.Life >> 1 & 3, State: s.Life >> 3 & 7, Answer: f.Answer,
	}}
	e.check(f.L4Delta, f.IpDelta)
	if f.Pad != 0 || f.Pad2 != [4]uint8{} || k.Pad != [3]uint8{} {
		e.fault = fmt.Sprintf("padding of %v is not zero", k)
	}
	return e
}
