package fuzz

import (
	"fmt"
	"net/netip"

	"fairlead/loader"
	m "fairlead/testenv/refmodel"
)

// codec6 is the codec of IPv6.
type codec6 struct{}

func addrFrom6(v loader.Address) m.Addr {
	a := v.Addr()
	return netip.AddrFrom16(a.As16()) // mapped ones, too
}

func (codec6) listener(l m.Listener) any {
	return loader.LB6Listener{Addr: loader.AddressOf(l.Addr), Port: rawPort(l.Port), Proto: l.Proto}
}

func (codec6) prefix(p m.Prefix) any {
	return loader.LB6ClientPrefix{Len: uint32(32 + p.Len), Service: p.Service, Addr: loader.AddressOf(p.Addr)}
}

func (codec6) source() (key any, read func() m.Source) {
	var s loader.LB6Source
	return &s, func() m.Source { return m.Source{Service: s.Service, Net: addrFrom6(s.Net)} }
}

func (codec6) key(t m.Tuple) any { return key6(t) }

func key6(t m.Tuple) loader.LB6FlowKey {
	return loader.LB6FlowKey{
		Saddr: loader.AddressOf(t.Src), Daddr: loader.AddressOf(t.Dst), Sport: rawPort(t.SPort), Dport: rawPort(t.DPort), Proto: t.Proto,
	}
}

func (codec6) rival(f m.Flow) any {
	l4, ip := m.Delta(f.Key, f.Leave)
	return struct {
		Flow  loader.LB6Flow
		Stamp loader.LBStamp
	}{
		loader.LB6Flow{
			Key:   key6(f.Key),
			Saddr: loader.AddressOf(f.Leave.Src), Daddr: loader.AddressOf(f.Leave.Dst), Sport: rawPort(f.Leave.SPort), Dport: rawPort(f.Leave.DPort),
			Hop:     loader.LBHop{Dmac: f.Hop.DMAC, Smac: f.Hop.SMAC, Ifindex: f.Hop.Ifindex, Flags: uint16(f.Hop.Flags), Mtu: f.Hop.MTU},
			Checked: f.Checked, Idle: f.Idle, Epoch: f.Epoch,
			Service: f.Service, ServiceGen: f.ServiceGen, Backend: f.Backend, BackendGen: f.BackendGen,
			L4Delta: rawPort(l4), IpDelta: rawPort(ip), Answer: f.Answer, FarMtu: f.FarMTU,
		},
		stampOf(f),
	}
}

func (codec6) bucket() (row any, read func() [places]entry) {
	var b loader.LB6Bucket
	return &b, func() (es [places]entry) {
		for i, stamp := range b.Stamps {
			es[i] = entry6(stamp, b.Places[i])
		}
		return es
	}
}

func (codec6) free(row any, i int) { row.(*loader.LB6Bucket).Stamps[i].Era = eraFree }

// entry6 is a place's, as the model has it.
func entry6(s loader.LBStamp, f loader.LB6Flow) entry {
	k := f.Key
	e := entry{stamp: s, at: place{int(f.Bucket), int(f.Place)}, flow: m.Flow{
		Key:   m.Tuple{Src: addrFrom6(k.Saddr), Dst: addrFrom6(k.Daddr), SPort: portFrom(k.Sport), DPort: portFrom(k.Dport), Proto: k.Proto},
		Leave: m.Tuple{Src: addrFrom6(f.Saddr), Dst: addrFrom6(f.Daddr), SPort: portFrom(f.Sport), DPort: portFrom(f.Dport), Proto: k.Proto},
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
