package refmodel

// A FragmentKey names a datagram that comes in fragments.
type FragmentKey struct {
	Src, Dst Addr
	ID       uint32 // IPv4's is its upper half
	Proto    uint8  // of IPv6 it is Fragment, as not every fragment knows
}

// A Fate is what became of a datagram's first fragment, or HoldFragment if
// that has not come.
type Fate struct {
	SPort, DPort uint16 // and Proto: of one that was forwarded
	Proto        uint8
	Tick         uint32
	Verdict      Verdict
}

const (
	// fragmentFresh is how long a fate holds, in seconds.
	fragmentFresh = 5
	// longestHeld is the longest frame that the agent can give back.
	longestHeld = 3000
)

// Uses of an address in VIPs, numbered as enum address_use.
const (
	AddressService = 1
	AddressBackend = 2
)

// concernsUs says that a packet is to a service or from a backend.
func (m *Model) concernsUs(p *packet) bool {
	return m.uses(p, p.tuple.Dst)&AddressService != 0 || m.uses(p, p.tuple.Src)&AddressBackend != 0
}

// uses are those of an address to all programs that have seen the packet.
func (m *Model) uses(p *packet, a Addr) uint32 {
	uses := m.VIPs[a]
	if p.wide {
		uses |= m.VIPs[a.Unmap()]
	}
	return uses
}

func (m *Model) fragmentKey(p *packet) FragmentKey {
	key := p.fragmentKey()
	if m.Mixed { // two programs have to find it
		key.Src, key.Dst = wideAddr(key.Src), wideAddr(key.Dst)
	}
	return key
}

func (p *packet) fragmentKey() FragmentKey {
	key := FragmentKey{Src: p.tuple.Src, Dst: p.tuple.Dst, ID: p.id, Proto: p.tuple.Proto}
	if p.family == &ipv6 {
		key.Proto = Fragment
	}
	return key
}

// remember is step 2: v became of a first fragment.
func (m *Model) remember(p *packet, v Verdict) {
	fate := Fate{Tick: m.Now, Verdict: v}
	switch {
	case v == ForwardTX || v == ForwardRedirect:
		fate.SPort, fate.DPort, fate.Proto = p.tuple.SPort, p.tuple.DPort, p.tuple.Proto
	case !m.concernsUs(p):
		return
	case !v.passes():
		fate.Verdict = DropFragment
	}
	key := m.fragmentKey(p)
	if was, known := m.Fragments[key]; known && was.Verdict == HoldFragment {
		m.Told++
	}
	m.Fragments[key] = fate
}

// later is step 3.
func (m *Model) later(p *packet) Result {
	key := m.fragmentKey(p)
	fate, known := m.Fragments[key]
	if known && m.age(fate.Tick) > fragmentFresh*m.Control.Hz {
		delete(m.Fragments, key)
		known = false
	}
	if !known {
		if !m.concernsUs(p) {
			return verdict(PassOther)
		}
		fate = Fate{Tick: m.Now, Verdict: HoldFragment}
		if rival, first := m.FragmentRivals[key]; first {
			fate = rival
		}
		m.Fragments[key] = fate
	}
	switch fate.Verdict {
	case HoldFragment:
		return m.hold(p)
	case ForwardTX, ForwardRedirect:
		p.tuple.SPort, p.tuple.DPort, p.tuple.Proto = fate.SPort, fate.DPort, fate.Proto
		return m.forwardLater(p)
	}
	return verdict(fate.Verdict)
}

// hold gives a frame to the agent, if that takes it.
func (m *Model) hold(p *packet) Result {
	if !m.Agent || len(p.frame) > longestHeld {
		return verdict(DropFragment)
	}
	m.Held++
	return verdict(HoldFragment)
}

// forwardLater is step 3.4: only the IP header changes.
func (m *Model) forwardLater(p *packet) Result {
	f := m.Find(p.tuple)
	if f == nil || !m.counts(f) || f.State == FlowReset {
		return verdict(DropFlowEnded)
	}
	if v, hindered := m.hindered(p, f); hindered {
		return verdict(v)
	}
	if f.mixed() {
		return m.crossLater(p, f)
	}
	if p.total > int(f.Hop.MTU) {
		return verdict(DropTooBig)
	}
	out := append([]byte(nil), p.frame...)
	ip := out[ethLen:]
	ip[p.family.ttl]--
	p.family.readdress(ip, p.frame[ethLen:], f.Leave.Src, f.Leave.Dst)
	return m.depart(p, f, out)
}

// ReadFragment is the datagram of which a frame is a fragment, if it is one.
// Later says that it is not the first one.
func ReadFragment(frame []byte) (of FragmentKey, later bool) {
	p := parse(frame, len(frame))
	return p.fragmentKey(), p.part == laterPart
}
