package refmodel

// forward is rule 4: the packet leaves with the entry's tuple, by its hop.
func (m *Model) forward(p *packet, f *Flow) Result {
	if p.total > int(f.Hop.MTU) {
		return m.tooBig(p, f)
	}
	out := append([]byte(nil), p.frame...)
	ip, l4 := out[ethLen:], out[p.l4:]
	oldIP, oldL4 := p.frame[ethLen:], p.frame[p.l4:]

	ip[p.family.ttl]--
	p.family.readdress(ip, oldIP, f.Leave.Src, f.Leave.Dst)
	be.PutUint16(l4[0:], f.Leave.SPort)
	be.PutUint16(l4[2:], f.Leave.DPort)

	var l4Sum change
	l4Sum.replace(oldIP[p.family.src:p.family.header], ip[p.family.src:p.family.header])
	l4Sum.replace(oldL4[0:4], l4[0:4])
	if p.tuple.Proto == TCP {
		be.PutUint16(l4[16:], l4Sum.apply(be.Uint16(l4[16:])))
	} else if sum := be.Uint16(l4[6:]); sum != 0 {
		sum = l4Sum.apply(sum)
		if sum == 0 {
			sum = 0xffff
		}
		be.PutUint16(l4[6:], sum)
	}
	return m.depart(p, f, out)
}

// depart sends out by the entry's hop, in the place of p.
func (m *Model) depart(p *packet, f *Flow, out []byte) Result {
	copy(out[0:6], f.Hop.DMAC[:])
	copy(out[6:12], f.Hop.SMAC[:])
	m.count(p, f)
	if f.Hop.Ifindex == m.Ingress && f.Hop.Flags&DeviceTX != 0 {
		return Result{Verdict: ForwardTX, Action: XDPTx, Out: out}
	}
	return Result{Verdict: ForwardRedirect, Action: XDPRedirect, Out: out, Egress: f.Hop.Ifindex}
}

// answerReset is a reset in answer to p, or the verdict over when there were
// enough answers in this second.
func (m *Model) answerReset(p *packet, over Verdict) Result {
	if !m.mayAnswer() {
		return verdict(over)
	}
	out, tcp := answerTo(p, TCP, tcpLen)
	be.PutUint16(tcp[0:], p.tuple.DPort)
	be.PutUint16(tcp[2:], p.tuple.SPort)
	tcp[12] = 5 << 4
	tcp[13] = RST
	if p.flags&ACK != 0 {
		be.PutUint32(tcp[4:], p.ack)
	} else {
		ack := p.seq + uint32(p.data)
		if p.flags&SYN != 0 {
			ack++
		}
		if p.flags&FIN != 0 {
			ack++
		}
		be.PutUint32(tcp[8:], ack)
		tcp[13] |= ACK
	}
	be.PutUint16(tcp[16:], Checksum(PseudoHeader(p.tuple.Dst, p.tuple.Src, TCP, tcpLen), tcp))
	return m.answer(AnswerReset, out)
}

// noBackend answers a packet that no backend is there for.
func (m *Model) noBackend(p *packet) Result {
	if p.tuple.Proto == TCP {
		return m.answerReset(p, DropNoBackend)
	}
	return m.answerICMP(p, AnswerUnreachable, DropNoBackend, p.family.unreachable, 0)
}

// tooBig is for a packet that is longer than its way out allows.
func (m *Model) tooBig(p *packet, f *Flow) Result {
	if !p.df {
		return verdict(DropTooBig)
	}
	return m.answerICMP(p, AnswerTooBig, DropTooBig, p.family.tooBig, f.Hop.MTU)
}

// expired is for a packet whose TTL is used up: from is who says so.
func (m *Model) expired(p *packet, from Addr) Result {
	told := *p
	told.tuple.Dst = from
	return m.answerICMP(&told, AnswerTimeExceeded, DropTTL, p.family.timeExceeded, 0)
}

// answerICMP is an error of this type and code in answer to p, or the verdict
// over when there were enough answers in this second or none is possible.
func (m *Model) answerICMP(p *packet, v, over Verdict, kind [2]byte, mtu uint16) Result {
	if p.extended() || !m.mayAnswer() {
		return verdict(over)
	}
	quote := p.frame[ethLen : p.l4+8]
	out, icmp := answerTo(p, p.family.icmp, icmpLen+len(quote))
	copy(icmp, kind[:])
	be.PutUint16(icmp[6:], mtu)
	copy(icmp[icmpLen:], quote)
	if p.family == &ipv6 {
		be.PutUint16(icmp[2:], Checksum(PseudoHeader(p.tuple.Dst, p.tuple.Src, ICMPv6, len(icmp)), icmp))
	} else {
		be.PutUint16(icmp[2:], Checksum(icmp))
	}
	return m.answer(v, out)
}

// answer sends a frame back to where the packet came from.
func (m *Model) answer(v Verdict, out []byte) Result {
	if m.Devices[m.Ingress]&DeviceTX != 0 {
		return Result{Verdict: v, Action: XDPTx, Out: out}
	}
	return Result{Verdict: v, Action: XDPRedirect, Out: out, Egress: m.Ingress}
}

// answerTo is an answer to p with all but the n bytes that follow IP.
func answerTo(p *packet, proto uint8, n int) (out, rest []byte) {
	at := ethLen + p.family.header
	out = make([]byte, at+n)
	copy(out[0:6], p.frame[6:12])
	copy(out[6:12], p.frame[0:6])
	be.PutUint16(out[12:], p.family.kind)
	p.family.answer(out[ethLen:], p.tuple.Dst, p.tuple.Src, proto)
	return out, out[at:]
}

// mayAnswer takes one of the answers of this second.
func (m *Model) mayAnswer() bool { return m.takeAnswer(m.Control.ReplyLimit) }

// mayEcho takes one of the half that pings may have of them.
func (m *Model) mayEcho() bool { return m.takeAnswer(uint32((uint64(m.Control.ReplyLimit) + 1) / 2)) }

// takeAnswer takes one unless there were so many already.
func (m *Model) takeAnswer(most uint32) bool {
	if second := m.Now / m.Control.Hz; m.Replies.Second != second {
		m.Replies = Replies{Second: second}
	}
	if m.Replies.Count >= most {
		return false
	}
	m.Replies.Count++
	return true
}
