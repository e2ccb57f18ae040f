package fuzz

import (
	"fmt"

	m "fairlead/testenv/refmodel"
)

func (g *generator) evict() change {
	if len(g.tuples) > 0 {
		return evict(pick(g.r, g.tuples))
	}
	return evict(g.client())
}

func evict(t m.Tuple) change {
	return change{part: partFlow, tuple: t, text: fmt.Sprintf("flow %v evicted", t), apply: func(w *world) { w.Remove(t) }}
}

var noRivals = change{part: partRival, text: "no rivals", apply: func(w *world) { clear(w.Rivals) }}

// rival lets another CPU be first with an entry that the next packet may need:
// either entry of a new flow, or a twin that is made again.
func (g *generator) rival() []change {
	r := g.r
	t := g.client()
	leave := m.Tuple{Src: t.Src, SPort: t.SPort, Dst: pick(r, g.w.servers), DPort: pick(r, []uint16{80, 80, 8080, t.DPort}), Proto: t.Proto}
	if g.w.mixed && t.Src.Is4In6() { // whom fairlead46 serves, with no other backends
		leave.Dst = ofFamily(r, g.w.servers, true)
	}
	if g.w.mixed && leave.Src.Is4In6() != leave.Dst.Is4In6() {
		leave.Src = ofFamily(r, g.w.snats, !leave.Dst.Is4In6())
	}
	var cs []change
	if f := g.w.Find(g.tuple()); f != nil && oneIn(r, 2) {
		leave = f.Leave
		if twin := g.w.Find(f.TwinKey()); twin != nil {
			t = twin.TwinKey()
		}
		cs = append(cs, evict(leave.Reverse()), g.epoch())
	}
	g.want = []m.Tuple{t}
	f := m.Flow{
		Key: t, Leave: leave, Seen: g.w.Now - r.Uint32N(3), Checked: g.w.Now - r.Uint32N(3),
		Idle: newIdle(r), Epoch: g.w.Control.Epoch, Era: g.w.Control.Era, State: uint8(r.IntN(m.FlowAbortedReply + 1)),
		Service: r.Uint32N(numServices), Backend: r.Uint32N(numBackends),
	}
	if t.Proto == m.UDP {
		f.State = uint8(r.IntN(3))
	}
	if oneIn(r, 3) {
		f.Era++
	}
	if len(cs) > 0 || oneIn(r, 2) {
		f.Key, f.Leave, f.Dir = f.Leave.Reverse(), t.Reverse(), m.Reply
		if oneIn(r, 2) {
			f.Leave.SPort++
		}
	}
	f.BackendGen, f.ServiceGen = g.w.Backends[f.Backend].Gen-r.Uint32N(2), g.w.Services[f.Service].Gen-r.Uint32N(2)
	f.Leads(newHop(r))
	text := fmt.Sprintf("rival: %+v", f)
	return append(cs, change{part: partRival, tuple: f.Key, text: text, apply: func(w *world) { w.Rivals[f.Key] = f }})
}
