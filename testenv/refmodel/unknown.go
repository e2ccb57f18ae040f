package refmodel

import (
	"net/netip"
	"slices"
)

// unknown is rule 3: a packet without a flow that counts.
func (m *Model) unknown(p *packet) Result {
	row, ok := m.Listeners[Listener{Addr: p.tuple.Dst, Port: p.tuple.DPort, Proto: p.tuple.Proto}]
	s := m.service(row)
	if !ok || s.State == ServiceNone {
		return verdict(PassOther)
	}
	if v, ok := m.admit(p, row, s); !ok {
		return verdict(v)
	}
	if v, ok := m.welcome(p.tuple.Src, row, s); !ok {
		return verdict(v)
	}
	answer, back := m.wayBack(p)
	switch answer {
	case FIBSuccess, FIBNoNeigh:
	case FIBNotFwded:
		return verdict(DropSource)
	default:
		return verdict(DropNoRoute)
	}
	if p.ttl <= 1 {
		return m.expired(p, p.tuple.Dst)
	}
	if res, done := m.cookie(p, row, s, back.MTU); done {
		return res
	}
	allUp := m.allUp()
	chooser := m.chooser(p.tuple.Src, row)
	run := m.service(chooser).Slots
	if allUp {
		run = m.service(chooser).SlotsAll
	}
	if run.Length == 0 {
		return m.noBackend(p)
	}
	m.deleteBoth(p.tuple)

	attempt := attempt{Model: m, p: p, row: row, s: s, run: run, chooser: chooser, allUp: allUp, back: back, client: s.hash(p.tuple)}
	failure := DropNoBackend
	for range 4 {
		res, again := attempt.try()
		if !again {
			return res
		}
		failure = res.Verdict
	}
	if failure == DropNoBackend {
		return m.noBackend(p)
	}
	return verdict(failure)
}

// admit is steps 1 to 7, but for who may be a client.
func (m *Model) admit(p *packet, row uint32, s Service) (Verdict, bool) {
	local := s.Flags&FlagLocal != 0
	switch {
	case p.bad:
		return DropMalformed, false
	case s.State == ServiceProxy:
		return PassProxy, false
	}
	if p.tuple.Proto == TCP && !p.pureSYN() {
		if v, ok := m.stray(p, row, s); !ok {
			return v, false
		}
	}
	switch {
	case m.Control.Mode == ModeDraining && local:
		return PassDraining, false
	case p.tuple.Proto == UDP && m.Standby[p.tuple] && m.silence() <= standbyLease:
		return PassStandby, false
	case p.tuple.Proto == TCP && local && m.Connections[p.tuple]:
		return PassStandby, false
	case p.noClient():
		return DropSource, false
	}
	return 0, true
}

// noClient says that the packet has a source that no client has: not a host's
// address, or the destination's (LAND).
func (p *packet) noClient() bool {
	src := p.tuple.Src
	if p.wide {
		src = src.Unmap()
	}
	inside := func(network netip.Prefix) bool { return network.Contains(src) }
	return p.tuple.Src == p.tuple.Dst || slices.ContainsFunc(noClients, inside)
}

var noClients = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("224.0.0.0/3"),
	netip.MustParsePrefix("::/128"), netip.MustParsePrefix("::1/128"), netip.MustParsePrefix("fe80::/10"),
	netip.MustParsePrefix("ff00::/8"), netip.MustParsePrefix("::ffff:0:0/96"),
}

// An attempt is what the tries of step 10 share.
type attempt struct {
	*Model
	p   *packet
	row uint32 // of the service
	s   Service
	run Run
	// chooser is the row of services whose run and turns these are.
	chooser uint32
	allUp   bool
	back    Hop
	client  uint64 // hash that the next slot is taken by
	begun   bool
	tried   []uint32
}

// try takes one slot. Again says that it failed with the result's verdict and
// that another may be made.
func (a *attempt) try() (res Result, again bool) {
	row, ok := a.choose()
	b := a.backend(row)
	if !ok || !a.canServe(b) {
		return verdict(DropNoBackend), true
	}
	port := b.Port
	if port == 0 {
		port = a.p.tuple.DPort
	}
	leave := Tuple{Src: a.p.tuple.Src, SPort: a.p.tuple.SPort, Dst: b.Addr, DPort: port, Proto: a.p.tuple.Proto}
	leave, ok = a.leaving(leave, b)
	if !ok {
		return verdict(DropTupleTaken), true
	}
	out, v, ok := a.wayOut(leave)
	if !ok {
		return verdict(v), true
	}
	f := Flow{
		Key: a.p.tuple, Leave: leave, State: FlowNew, Dir: Forward,
		Seen: a.Now, Checked: a.Now, Idle: a.timeout(a.p.tuple.Proto, FlowNew),
		Epoch: a.Control.Epoch, Era: a.Control.Era,
		Service: a.row, ServiceGen: a.s.Gen, Backend: row, BackendGen: b.Gen,
	}
	if f.Key.Proto == TCP && a.p.flags&FIN != 0 {
		f.Fins = 1 << Forward
	}
	f.Leads(out)
	return a.make(f)
}

// serves says that the packet's program makes flows to a backend.
func (p *packet) serves(b Backend) bool {
	return p.family == &ipv6 || p.wide != b.Addr.Unmap().Is4()
}

func (a *attempt) wayOut(leave Tuple) (Hop, Verdict, bool) {
	answer, hop, usable := a.route(leave.Src, leave.Dst)
	switch {
	case usable:
		return hop, 0, true
	case answer == FIBSuccess:
		return hop, DropDevice, false
	case answer == FIBNoNeigh:
		return hop, DropNoNeighbour, false
	}
	return hop, DropNoRoute, false
}

// make inserts both entries of a new flow and forwards its first packet.
func (a *attempt) make(f Flow) (res Result, again bool) {
	switch a.insert(f) {
	case full:
		return verdict(DropTableFull), false
	case exists:
		first := a.Find(f.Key)
		if !a.counts(first) || first.over() {
			return verdict(DropTableFull), false
		}
		return a.forward(a.p, first), false
	}
	reply := f
	reply.Key = f.TwinKey()
	reply.Leave = f.Key.Reverse()
	reply.Leads(a.back)
	reply.Dir = Reply
	switch a.insert(reply) {
	case full:
		a.forget(f.Key)
		return verdict(DropTableFull), false
	case exists:
		if twin := a.Find(reply.Key); a.counts(twin) && twin.TwinKey() == f.Key {
			break // another CPU has made it from the forward entry
		}
		a.forget(f.Key)
		return verdict(DropTupleTaken), true
	}
	a.counters(&f).Flows++
	a.tie(&f)
	return a.forward(a.p, &f), false
}

// wayBack is the way to the sender of a packet: what the FIB says, or the way
// that the packet came.
func (m *Model) wayBack(p *packet) (FIBResult, Hop) {
	answer, hop, usable := m.route(p.tuple.Dst, p.tuple.Src)
	if usable {
		return answer, hop
	}
	return answer, Hop{DMAC: MAC(p.frame[6:12]), SMAC: MAC(p.frame[0:6]), Ifindex: m.Ingress, Flags: m.Devices[m.Ingress], MTU: unknownMTU}
}
