package refmodel

// Types of ICMP that are errors about a packet.
const (
	icmpUnreachable      = 3
	icmpTimeExceeded     = 11
	icmpParameterProblem = 12
)

const (
	icmpLen   = 8
	quoteAt   = ethLen + ipLen + icmpLen // the quoted packet in the frame
	quoteL4At = quoteAt + ipLen
)

// icmp is rule 9.
func (m *Model) icmp(p *packet) Result {
	quoted, ok := p.quote()
	if !ok {
		return m.pass(p)
	}
	key := quoted.Reverse() // of packets that come the same way as this one
	f := m.Find(key)
	switch {
	case f == nil || !m.counts(f) || f.State == FlowReset:
		return m.icmpOfNoFlow(p, key)
	case p.ttl <= 1:
		return verdict(DropTTL)
	}
	if gone, down := m.judge(f); gone || down {
		return verdict(DropFlowEnded)
	}
	if _, named := m.twin(f); f.disguised() && !named {
		return verdict(DropFlowEnded)
	}
	return m.forwardICMP(p, f, quoted)
}

// quote is step 1: the tuple of the packet that an error is about. Not ok says
// that it quotes none that can have a flow.
func (p *packet) quote() (t Tuple, ok bool) {
	if p.quotedL4() < 8 {
		return t, false
	}
	switch p.frame[ethLen+ipLen] {
	case icmpUnreachable, icmpTimeExceeded, icmpParameterProblem:
	default:
		return t, false
	}
	ip, l4 := p.frame[quoteAt:], p.frame[quoteL4At:]
	t = Tuple{
		Src: AddrFrom(ip[12:16]), Dst: AddrFrom(ip[16:20]),
		SPort: be.Uint16(l4[0:]), DPort: be.Uint16(l4[2:]), Proto: ip[9],
	}
	plain := ip[0] == 4<<4|5 && be.Uint16(ip[6:])&0x1fff == 0
	return t, plain && (t.Proto == TCP || t.Proto == UDP) && t.Src == p.tuple.Dst
}

// quotedL4 is how many bytes of the quoted packet's TCP or UDP can be touched.
func (p *packet) quotedL4() int {
	return min(ethLen+p.total, p.linear) - quoteL4At
}

// icmpOfNoFlow is step 2: an error about a packet that no flow has sent. The
// host may have sent it, but not from a service that only forwards.
func (m *Model) icmpOfNoFlow(p *packet, key Tuple) Result {
	row, ok := m.Listeners[Listener{Addr: key.Dst, Port: key.DPort, Proto: key.Proto}]
	s := m.service(row)
	if ok && s.State == ServiceXDP && (s.Flags&FlagLocal == 0 || !m.Connections[key]) {
		return verdict(DropICMP)
	}
	return m.pass(p)
}

// forwardICMP is steps 4 and 5: the receiver is told of the packet that it has
// sent, not of what became of it here.
func (m *Model) forwardICMP(p *packet, f *Flow, quoted Tuple) Result {
	out := append([]byte(nil), p.frame...)
	ip := out[ethLen : ethLen+ipLen]
	ip[8]--
	if f.Dir == Reply {
		copy(ip[12:16], f.Leave.Src.AsSlice())
	}
	copy(ip[16:20], f.Leave.Dst.AsSlice())
	updateSum(ip[10:12], p.frame[ethLen:][:ipLen], ip)

	sent := f.TwinKey() // the quoted packet's tuple as its sender sent it
	quote := out[quoteAt:]
	copy(quote[12:16], sent.Src.AsSlice())
	copy(quote[16:20], sent.Dst.AsSlice())
	updateSum(quote[10:12], p.frame[quoteAt:][:ipLen], quote[:ipLen])
	l4 := out[quoteL4At:]
	be.PutUint16(l4[0:], sent.SPort)
	be.PutUint16(l4[2:], sent.DPort)
	l4Delta, _ := Delta(quoted, sent)
	held := quoteL4At + 8
	if quoted.Proto == TCP && p.quotedL4() >= 18 {
		held = quoteL4At + 18
		be.PutUint16(l4[16:], change(l4Delta).apply(be.Uint16(l4[16:])))
	} else if sum := be.Uint16(l4[6:]); quoted.Proto == UDP && sum != 0 {
		if sum = change(l4Delta).apply(sum); sum == 0 {
			sum = 0xffff
		}
		be.PutUint16(l4[6:], sum)
	}
	const icmpAt = ethLen + ipLen
	updateSum(out[icmpAt+2:][:2], p.frame[quoteAt:held], out[quoteAt:held])
	return m.depart(p, f, out)
}

// updateSum brings a checksum, which may be one of the words of old and new,
// up to date with their difference.
func updateSum(sum, old, new []byte) {
	var c change
	c.replace(old, new)
	be.PutUint16(sum, c.apply(be.Uint16(sum)))
}
