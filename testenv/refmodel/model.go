package refmodel

import "net/netip"

// A Model is a datapath: its configuration, its surroundings and its state.
// Its fields may be changed between packets. Not for concurrent use.
type Model struct {
	// Configuration, as user space writes it.
	Control   Control
	Listeners map[Listener]uint32
	VIPs      map[Addr]uint32 // uses of an address
	Services  []Service
	Backends  []Backend
	Slots     []uint32
	Clients   map[Prefix]bool // whether they are allowed
	Zones     map[netip.Prefix]uint32
	Snat      []Addr
	Devices   map[uint32]uint32 // flags by interface
	Standby   map[Tuple]bool

	// Surroundings.
	Now     uint32 // tick
	Clock   uint64 // CLOCK_MONOTONIC, ns
	Ingress uint32 // interface that packets come in by
	// FIB answers for the way from src to dst. The hop matters only for
	// FIBSuccess, and its flags never do; an MTU of 0 is not known.
	FIB func(src, dst Addr) (FIBResult, Hop)
	// Random is any number.
	Random func() uint32
	// Rivals are entries, by key, that another CPU puts into Flows just before
	// one of that key would be inserted: over an entry that is there, or else
	// as any other, if there is room.
	Rivals map[Tuple]Flow
	// Connections are those of TCP of the host's own sockets, by the tuple of the
	// packets that arrive.
	Connections map[Tuple]bool
	// Over are the same of connections that the host only remembers: TIME_WAIT.
	Over map[Tuple]bool
	// Cookie is the kernel's cookie for a SYN, given as its headers; false where
	// the kernel makes none. IsCookie says that a segment acknowledges one.
	Cookie   func(ip, tcp []byte) (uint32, bool)
	IsCookie func(ip, tcp []byte) bool
	// Agent says that somebody takes fragments that come before their first.
	Agent bool
	// FragmentRivals are fates that another CPU remembers just before a later
	// fragment would begin to wait.
	FragmentRivals map[FragmentKey]Fate
	// EventSample is of how many flows one is told of, 0: none; EventRoom is how
	// many events there is room for that nobody has read.
	EventSample uint32
	EventRoom   int

	// State.
	Flows           Table
	Flows6          Table    // nil: the program for IPv6 is not loaded
	Mixed           bool     // with Flows6: fairlead46 is loaded
	Turns           []uint64 // as long as Services
	BackendCounters []Counters
	Verdicts        [VerdictMax]uint64
	Evictions       [EvictMax]uint64
	Replies         Replies
	Sources         map[Source]Credit // forgets none
	Ties            map[Source]Tie    // forgets none
	Syns            []Syns            // as long as Services
	Fragments       map[FragmentKey]Fate
	// Held are the frames that the agent got, Told how often it was told that
	// a first fragment has come.
	Held, Told uint64
	// Events are those that were written, of which the last Unread take up room.
	Events      []Event
	Unread      int
	EventCounts [EventsMax]uint64
}

// A Result is what became of a packet. Out is the frame afterwards, Egress the
// interface that it was redirected to, 0 if it was not redirected.
type Result struct {
	Verdict Verdict
	Action  Action
	Out     []byte
	Egress  uint32
}

// Process takes one packet, whose first linear bytes lie in the linear part of
// its buffer. The frame is left as it is.
func (m *Model) Process(frame []byte, linear int) Result {
	res := m.decide(frame, linear)
	switch {
	case res.Out != nil: // sent
	case res.Verdict.passes():
		res.Action, res.Out = XDPPass, frame
	default:
		res.Action, res.Out = XDPDrop, frame
	}
	m.Verdicts[res.Verdict]++
	return res
}

// verdict is the result for a packet that is not sent.
func verdict(v Verdict) Result { return Result{Verdict: v} }

func (m *Model) decide(frame []byte, linear int) Result {
	if m.Control.Mode == ModeOff {
		return verdict(PassOff)
	}
	p := parse(frame, linear)
	if p.family == &ipv6 && (m.Flows6 == nil || p.tuple.Dst.Is4In6()) {
		return verdict(PassOther)
	}
	res := m.process(p)
	if m.Mixed && p.family != &ipv6 && m.hands(p, res.Verdict) {
		p = parse(frame, linear)
		p.widen()
		res = m.process(p)
	}
	if p.part == firstPart {
		m.remember(p, res.Verdict)
	}
	return res
}

// hands says that a packet of IPv4 of which a program has made v is another one's, too.
func (m *Model) hands(p *packet, v Verdict) bool {
	if v == DropFlowEnded && p.part == laterPart {
		f := m.Find(p.tuple)
		return f == nil || !m.counts(f)
	}
	return v == PassOther || v == PassICMP
}

// process decides about a packet as one program does.
func (m *Model) process(p *packet) Result {
	if p.odd == PassICMP {
		return m.icmp(p)
	}
	if p.part == laterPart {
		return m.later(p)
	}
	return m.whole(p)
}

// whole decides about a packet as if there were no fragments.
func (m *Model) whole(p *packet) Result {
	if p.odd != PassOff {
		return m.pass(p)
	}
	return m.plain(p)
}

// plain decides about a packet with ports.
func (m *Model) plain(p *packet) Result {
	if entry := m.Find(p.tuple); entry != nil && m.counts(entry) {
		if res, done := m.known(p, entry); done {
			return res
		}
	}
	return m.unknown(p)
}

// pass lets an odd packet be.
func (m *Model) pass(p *packet) Result {
	if m.VIPs[p.tuple.Dst]&AddressService != 0 {
		return verdict(p.odd)
	}
	return verdict(PassOther)
}

// age is how long ago the tick t was; a tick less than a second ahead is now.
func (m *Model) age(t uint32) uint32 {
	if ahead := t - m.Now; ahead <= 60*m.Control.Hz {
		return 0
	}
	return m.Now - t
}

// counts says that an entry is of this era and not silent for too long.
func (m *Model) counts(f *Flow) bool {
	return f.Era == m.Control.Era && (!m.due(f) || m.age(f.Seen) <= f.Idle)
}

// due says that an entry has to be checked.
func (m *Model) due(f *Flow) bool {
	return f.Epoch != m.Control.Epoch || m.age(f.Checked) >= m.Control.Hz
}

// timeout is how long a flow of this state may be silent.
func (m *Model) timeout(proto, state uint8) uint32 {
	which := IdleTCPFin
	unanswered := state == FlowNew || state == FlowAnswered
	switch {
	case proto == UDP && unanswered:
		which = IdleUDPNew
	case proto == UDP:
		which = IdleUDPEstablished
	case unanswered:
		which = IdleTCPNew
	case state == FlowEstablished:
		which = IdleTCPEstablished
	}
	return m.Control.Idle[which]
}

// allUp says whether the agent is lost, so that every backend counts as up.
func (m *Model) allUp() bool {
	return m.Control.LossAfter != 0 && m.silence() > m.Control.LossAfter
}

// standbyLease is how long standby flows hold without a heartbeat, in ns.
const standbyLease = 10e9

// silence is how long the agent has shown no sign of life, in ns.
func (m *Model) silence() uint64 {
	if m.Clock <= m.Control.Heartbeat {
		return 0
	}
	return m.Clock - m.Control.Heartbeat
}

// service is the row, or one that is SERVICE_NONE if there is no such row.
func (m *Model) service(row uint32) Service {
	if int64(row) < int64(len(m.Services)) {
		return m.Services[row]
	}
	return Service{}
}

// backend is the row, or one that is BACKEND_NONE if there is no such row.
func (m *Model) backend(row uint32) Backend {
	if int64(row) < int64(len(m.Backends)) {
		return m.Backends[row]
	}
	return Backend{}
}

// twin is the entry of the other direction. named says that it exists and
// belongs to the same flow as f.
func (m *Model) twin(f *Flow) (t *Flow, named bool) {
	t = m.Find(f.TwinKey())
	return t, t != nil && t.TwinKey() == f.Key
}

// deleteBoth removes an entry, and its twin if that names it, is of the same
// service and backend, and does not live on where the entry has ended.
func (m *Model) deleteBoth(key Tuple) {
	f := m.Find(key)
	if f == nil {
		return
	}
	t, named := m.twin(f)
	both := named && sameOwner(f, t) && (m.holds(f) || !m.holds(t))
	m.forget(key)
	if both {
		m.forget(t.Key)
	}
}

// sameOwner says that two entries are of one service and one backend.
func sameOwner(f, t *Flow) bool {
	return f.Service == t.Service && f.ServiceGen == t.ServiceGen &&
		f.Backend == t.Backend && f.BackendGen == t.BackendGen
}

// count counts a forwarded packet.
func (m *Model) count(p *packet, f *Flow) {
	c := m.counters(f)
	c.Packets[f.Dir]++
	c.Bytes[f.Dir] += uint64(p.total)
}

// counters are those of the entry's backend, or some that nobody reads.
func (m *Model) counters(f *Flow) *Counters {
	if int64(f.Backend) < int64(len(m.BackendCounters)) {
		return &m.BackendCounters[f.Backend]
	}
	return &Counters{}
}

// route is the way from src to dst. Usable says that there is one, by a device
// that XDP can send out of.
func (m *Model) route(src, dst Addr) (answer FIBResult, hop Hop, usable bool) {
	answer, hop = m.FIB(src, dst)
	hop.Flags, usable = m.Devices[hop.Ifindex]
	if hop.MTU == 0 {
		hop.MTU = unknownMTU
	}
	return answer, hop, usable && answer == FIBSuccess
}
