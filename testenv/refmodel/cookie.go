package refmodel

const (
	cookieWindow = 16384
)

// shielded says that SYNs of a service are counted, and may be answered.
func (m *Model) shielded(s Service) bool {
	const both = FlagCookies | FlagLocal
	return s.Flags&both == both && m.Control.Mode == ModeOn && m.silence() <= standbyLease
}

// over says that there are too many.
func (n Syns) over(s Service) bool { return n.Hot || n.Number > s.CookieAbove }

// next is n after one more SYN, in a second.
func (n Syns) next(second uint32, s Service) Syns {
	switch n.Second {
	case second, second + 1:
		n.Number++
		return n
	}
	return Syns{Second: second, Number: 1, Hot: n.Second == second-1 && n.Number > s.CookieAbove}
}

// cookie is the end of step 8: a SYN of a shielded service is counted. Done says
// that it makes no flow.
func (m *Model) cookie(p *packet, row uint32, s Service, mtu uint16) (res Result, done bool) {
	if p.tuple.Proto != TCP || !p.pureSYN() || !m.shielded(s) {
		return Result{}, false
	}
	n := m.Syns[row].next(m.Now/m.Control.Hz, s)
	m.Syns[row] = n
	first := s.CookieAbove + 1
	if n.Hot {
		first = 1
	}
	switch {
	case !n.over(s):
		return Result{}, false
	case n.Number == first, m.Over[p.tuple]:
		return verdict(PassCookie), true
	}
	return m.answerCookie(p, mtu)
}

// remembers says that the host has a connection, or had one just now.
func (m *Model) remembers(t Tuple) bool { return m.Connections[t] || m.Over[t] }

// answerCookie is a SYN-ACK with a cookie in answer to p, if there is one.
func (m *Model) answerCookie(p *packet, mtu uint16) (res Result, done bool) {
	if p.extended() {
		return verdict(DropCookie), true
	}
	syn := p.frame[p.l4:]
	cookie, ok := m.Cookie(p.frame[ethLen:], syn[:4*(syn[12]>>4)])
	if !ok {
		return Result{}, false
	}
	const header = tcpLen + 4
	out, tcp := answerTo(p, TCP, header)
	be.PutUint16(tcp[0:], p.tuple.DPort)
	be.PutUint16(tcp[2:], p.tuple.SPort)
	be.PutUint32(tcp[4:], cookie)
	be.PutUint32(tcp[8:], p.seq+1)
	tcp[12] = header / 4 << 4
	tcp[13] = SYN | ACK
	be.PutUint16(tcp[14:], cookieWindow)
	mtu = max(mtu, p.family.leastMTU)
	if mtu == unknownMTU {
		mtu = 1500
	}
	tcp[20], tcp[21] = 2, 4 // option MSS and its length
	be.PutUint16(tcp[22:], mtu-uint16(p.family.header)-tcpLen)
	be.PutUint16(tcp[16:], Checksum(PseudoHeader(p.tuple.Dst, p.tuple.Src, TCP, header), tcp))
	return m.answer(AnswerCookie, out), true
}

// stray is step 3: TCP that is no pure SYN and has no flow. Ok says that it may
// make one.
func (m *Model) stray(p *packet, row uint32, s Service) (v Verdict, ok bool) {
	n, second := m.Syns[row], m.Now/m.Control.Hz
	late := n.Second == second || n.Second == second-1 || n.Second == second+1
	besieged := m.shielded(s) && n.over(s) && late
	again := m.resumes(p, s)
	midFlow := p.flags&(ACK|SYN|RST) == ACK
	switch {
	case s.Flags&FlagLocal == 0:
		return DropNoFlow, again
	case !besieged && !again, m.remembers(p.tuple):
		return PassNoFlow, false
	case besieged && midFlow && !p.extended() && m.IsCookie(p.frame[ethLen:], p.frame[p.l4:]):
		return PassCookie, false
	}
	return DropCookie, again
}

// resumes says that the flow of a packet from its middle can be made again.
func (m *Model) resumes(p *packet, s Service) bool {
	byHash := (s.Balance == BalanceHash || s.Balance == BalanceSourceHash) && s.MaxLoad == 0 && s.Affinity == 0
	drained := m.Control.Mode == ModeDraining && s.Flags&FlagLocal != 0
	return byHash && !drained && s.Flags&FlagFullNAT == 0 && p.flags&(ACK|SYN|RST) == ACK
}
