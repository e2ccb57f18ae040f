package fuzz

import (
	"math/rand/v2"

	"github.com/cilium/ebpf"

	"fairlead/loader"
	"fairlead/testenv/lbtest"
	m "fairlead/testenv/refmodel"
)

// newCookieAbove is a rate that is reached.
func newCookieAbove(r *rand.Rand) uint32 { return pick(r, []uint32{0, 1, 1, 2, 3, 10, 1000}) }

// A shake is what a client that was answered with a cookie has to say next.
type shake struct{ seq, ack uint32 }

// learnCookie remembers a SYN-ACK with a cookie. Its receiver mostly answers.
func (g *generator) learnCookie(synAck []byte) {
	t := g.w.tuple(synAck[ethLen:]).Reverse()
	l4 := synAck[g.w.l4At():]
	g.syns[t] = shake{be.Uint32(l4[8:]), be.Uint32(l4[4:]) + 1}
	g.remember(t)
	if !oneIn(g.r, 3) {
		g.want = append(g.want, t)
	}
}

// bringCookie makes a segment of a client without a flow the answer to its
// cookie, mostly a good one.
func (g *generator) bringCookie(l4 []byte, t m.Tuple) {
	s, known := g.syns[t]
	if !known || oneIn(g.r, 4) {
		return
	}
	be.PutUint32(l4[4:], s.seq+pick(g.r, []uint32{0, 0, 0, 0, 1, 1<<32 - 1}))
	be.PutUint32(l4[8:], s.ack+pick(g.r, []uint32{0, 0, 0, 0, 4, 1<<32 - 4}))
	l4[13] = pick(g.r, []byte{m.ACK, m.ACK, m.ACK, m.ACK, m.FIN | m.ACK, m.SYN | m.ACK, m.RST | m.ACK, m.RST, m.FIN})
}

// shielded is the address of a service with cookies, if it is found soon.
func (g *generator) shielded() (l m.Listener) {
	for range 16 {
		l = pick(g.r, g.w.offered)
		row := g.w.Listeners[l]
		if l.Proto == m.TCP && row < numServices && g.w.Services[row].Flags&(m.FlagCookies|m.FlagLocal) == m.FlagCookies|m.FlagLocal {
			break
		}
	}
	return l
}

// surge lets clients of a service with cookies send more SYNs than it takes in a
// second, at an edge of one, or ends that by draining.
func (g *generator) surge() []change {
	if len(g.tuples) > 0 && oneIn(g.r, 8) {
		for range 6 { // those who were answered may come back
			g.want = append(g.want, pick(g.r, g.tuples))
		}
		return []change{setControl("mode draining", func(c *m.Control) { c.Mode = m.ModeDraining })}
	}
	l := g.shielded()
	for range 2 + g.r.IntN(8) {
		t := g.client()
		t.Dst, t.DPort, t.Proto = l.Addr, l.Port, l.Proto
		g.want = append(g.want, t)
	}
	hz := g.w.Control.Hz
	edge := g.w.Now - g.w.Now%hz + pick(g.r, []uint32{0, hz - 1, hz, 2*hz - 1, 2 * hz})
	return []change{setNow(edge)}
}

// synsHot is SYNS_HOT of bpf/types.h.
const synsHot = 1 << 31

// readSyns reads how many SYNs services were sent.
func readSyns(table *ebpf.Map) ([]m.Syns, error) {
	rows, err := lbtest.Rows[loader.LBSyns](table)
	if err != nil {
		return nil, err
	}
	all := make([]m.Syns, len(rows))
	for row, n := range rows {
		all[row] = m.Syns{Second: n.Second, Number: n.Count &^ synsHot, Hot: n.Count >= synsHot}
	}
	return all, nil
}
