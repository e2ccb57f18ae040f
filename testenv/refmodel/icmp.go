package refmodel

// Types of ICMP that are errors about a packet.
const (
	icmpUnreachable      = 3
	icmpTimeExceeded     = 11
	icmpParameterProblem = 12

	icmp6Unreachable      = 1
	icmp6TooBig           = 2
	icmp6TimeExceeded     = 3
	icmp6ParameterProblem = 4
)

const (
	icmpLen     = 8
	fragmentLen = 8 // of a fragment header
)

// quoteAt is where the packet that an error quotes is in the frame, and its
// TCP or UDP, before which IPv6 may have a fragment header.
func (p *packet) quoteAt() (ip, l4 int) {
	ip = ethLen + p.family.header + icmpLen
	l4 = ip + p.family.header
	if p.family == &ipv6 && p.readable() >= l4 && p.frame[ip+6] == Fragment {
		l4 += fragmentLen
	}
	return ip, l4
}

// readable is where in the frame the packet, or its linear part, ends.
func (p *packet) readable() int { return min(ethLen+p.total, p.linear) }

// icmp is rule 9.
func (m *Model) icmp(p *packet) Result {
	quoted, ok := p.quote()
	if !ok {
		return m.unquoting(p)
	}
	key := quoted.Reverse() // of packets that come the same way as this one
	f := m.Find(key)
	if f == nil || !m.counts(f) || f.State == FlowReset {
		return m.icmpOfNoFlow(p, key)
	}
	if v, hindered := m.hindered(p, f); hindered {
		return verdict(v)
	}
	if f.mixed() {
		return m.crossError(p, f, quoted)
	}
	return m.forwardICMP(p, f, quoted)
}

// hindered says why a packet that goes the way of an entry, and is no part of its
// flow's life, may not: steps 9.3 and 12.3.4.
func (m *Model) hindered(p *packet, f *Flow) (why Verdict, is bool) {
	if p.ttl <= 1 {
		return DropTTL, true
	}
	gone, down := m.judge(f)
	_, named := m.twin(f)
	return DropFlowEnded, gone || down || f.disguised() && !named
}

// quote is step 1: the tuple of the packet that an error is about. Not ok says
// that it quotes none that can have a flow.
func (p *packet) quote() (t Tuple, ok bool) {
	if p.extended() || p.quotedL4() < 8 || !p.isError() {
		return t, false
	}
	at, l4At := p.quoteAt()
	ip, l4 := p.frame[at:], p.frame[l4At:]
	t.Src, t.Dst = p.addrs(ip)
	t.SPort, t.DPort = be.Uint16(l4[0:]), be.Uint16(l4[2:])
	plain := false
	if p.family == &ipv4 {
		plain = ip[0] == 4<<4|5 && be.Uint16(ip[6:])&0x1fff == 0
		t.Proto = ip[9]
	} else {
		plain = ip[0]>>4 == 6
		t.Proto = ip[6]
		if t.Proto == Fragment {
			header := p.frame[l4At-fragmentLen:]
			t.Proto = header[0]
			plain = plain && be.Uint16(header[2:])&0xfff8 == 0
		}
	}
	return t, plain && (t.Proto == TCP || t.Proto == UDP) && t.Src == p.tuple.Dst
}

// isError says that ICMP is about another packet.
func (p *packet) isError() bool {
	switch kind := p.frame[p.l4]; {
	case p.family == &ipv4:
		return kind == icmpUnreachable || kind == icmpTimeExceeded || kind == icmpParameterProblem
	default:
		return kind >= icmp6Unreachable && kind <= icmp6ParameterProblem
	}
}

// quotedL4 is how many bytes of the quoted packet's TCP or UDP can be touched.
func (p *packet) quotedL4() int {
	_, l4 := p.quoteAt()
	return p.readable() - l4
}

// icmpOfNoFlow is step 2: an error about a packet that no flow has sent. The
// host may have sent it, but not from a service that only forwards.
func (m *Model) icmpOfNoFlow(p *packet, key Tuple) Result {
	row, ok := m.Listeners[Listener{Addr: key.Dst, Port: key.DPort, Proto: key.Proto}]
	s := m.service(row)
	hosts := key.Proto != TCP || m.Connections[key] // of UDP nobody can tell
	if ok && s.State == ServiceXDP && (s.Flags&FlagLocal == 0 || !hosts) {
		return verdict(DropICMP)
	}
	return m.pass(p)
}

// forwardICMP is steps 4 and 5: the receiver is told of the packet that it has
// sent, not of what became of it here.
func (m *Model) forwardICMP(p *packet, f *Flow, quoted Tuple) Result {
	out := append([]byte(nil), p.frame...)
	ip, oldIP := out[ethLen:], p.frame[ethLen:]
	src := p.tuple.Src
	if f.Dir == Reply {
		src = f.Leave.Src
	}
	ip[p.family.ttl]--
	p.family.readdress(ip, oldIP, src, f.Leave.Dst)

	quoteAt, l4At := p.quoteAt()
	sent := f.TwinKey() // the quoted packet's tuple as its sender sent it
	p.family.readdress(out[quoteAt:], p.frame[quoteAt:], sent.Src, sent.Dst)
	covered := [2]int{quoteAt, l4At + p.rewriteQuoted(out[l4At:], quoted, sent)}
	if p.family == &ipv6 {
		covered[0] = ethLen + p.family.src // the addresses, too; what is between has not changed
	}
	updateSum(out[p.l4+2:][:2], p.frame[covered[0]:covered[1]], out[covered[0]:covered[1]])
	return m.depart(p, f, out)
}

// rewriteQuoted gives quoted TCP or UDP the ports and the checksum that it was
// sent with, and returns how much of it that is.
func (p *packet) rewriteQuoted(l4 []byte, quoted, sent Tuple) int {
	be.PutUint16(l4[0:], sent.SPort)
	be.PutUint16(l4[2:], sent.DPort)
	delta, _ := Delta(quoted, sent)
	if quoted.Proto == TCP && p.quotedL4() >= 18 {
		be.PutUint16(l4[16:], change(delta).apply(be.Uint16(l4[16:])))
		return 18
	}
	if sum := be.Uint16(l4[6:]); quoted.Proto == UDP && sum != 0 {
		if sum = change(delta).apply(sum); sum == 0 {
			sum = 0xffff
		}
		be.PutUint16(l4[6:], sum)
	}
	return 8
}

// updateSum brings a checksum, which may be one of the words of old and new,
// up to date with their difference.
func updateSum(sum, old, new []byte) {
	var c change
	c.replace(old, new)
	be.PutUint16(sum, c.apply(be.Uint16(sum)))
}
