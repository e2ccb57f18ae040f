package refmodel

// forward is rule 4: the packet leaves with the entry's tuple, by its hop.
func (m *Model) forward(p *packet, f *Flow) Result {
	if p.total > int(f.Hop.MTU) {
		return m.tooBig(p, f)
	}
	out := append([]byte(nil), p.frame...)
	ip := out[ethLen:]
	l4 := ip[ipLen:]
	old := append([]byte(nil), ip[:ipLen+8]...)
	oldL4 := old[ipLen:]

	ip[8]--
	copy(ip[12:16], f.Leave.Src.AsSlice())
	copy(ip[16:20], f.Leave.Dst.AsSlice())
	be.PutUint16(l4[0:], f.Leave.SPort)
	be.PutUint16(l4[2:], f.Leave.DPort)

	var ipSum, l4Sum change
	ipSum.replace(old[8:10], ip[8:10])
	ipSum.replace(old[12:20], ip[12:20])
	be.PutUint16(ip[10:], ipSum.apply(be.Uint16(ip[10:])))
	l4Sum.replace(old[12:20], ip[12:20])
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
	out := make([]byte, ethLen+ipLen+tcpLen)
	m.answerHeaders(out, p, TCP)
	tcp := out[ethLen+ipLen:]
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
	be.PutUint16(tcp[16:], Checksum(pseudo(p.tuple.Dst, p.tuple.Src, TCP, tcpLen), tcp))
	return m.answer(AnswerReset, out)
}

// noBackend answers a packet that no backend is there for.
func (m *Model) noBackend(p *packet) Result {
	if p.tuple.Proto == TCP {
		return m.answerReset(p, DropNoBackend)
	}
	return m.answerICMP(p, AnswerUnreachable, DropNoBackend, 3, 0)
}

// tooBig is for a packet that is longer than its way out allows.
func (m *Model) tooBig(p *packet, f *Flow) Result {
	if !p.df {
		return verdict(DropTooBig)
	}
	return m.answerICMP(p, AnswerTooBig, DropTooBig, 4, f.Hop.MTU)
}

// answerICMP is destination unreachable with this code in answer to p, or the
// verdict over when there were enough answers in this second.
func (m *Model) answerICMP(p *packet, v, over Verdict, code byte, mtu uint16) Result {
	if !m.mayAnswer() {
		return verdict(over)
	}
	const quote = ipLen + 8
	out := make([]byte, ethLen+ipLen+8+quote)
	m.answerHeaders(out, p, ICMP)
	icmp := out[ethLen+ipLen:]
	icmp[0], icmp[1] = icmpUnreachable, code
	be.PutUint16(icmp[6:], mtu)
	copy(icmp[8:], p.frame[ethLen:ethLen+quote])
	be.PutUint16(icmp[2:], Checksum(icmp))
	return m.answer(v, out)
}

// answer sends a frame back to where the packet came from.
func (m *Model) answer(v Verdict, out []byte) Result {
	if m.Devices[m.Ingress]&DeviceTX != 0 {
		return Result{Verdict: v, Action: XDPTx, Out: out}
	}
	return Result{Verdict: v, Action: XDPRedirect, Out: out, Egress: m.Ingress}
}

// answerHeaders fills in Ethernet and IP of an answer to p.
func (m *Model) answerHeaders(out []byte, p *packet, proto uint8) {
	copy(out[0:6], p.frame[6:12])
	copy(out[6:12], p.frame[0:6])
	be.PutUint16(out[12:], typeIPv4)
	ip := out[ethLen : ethLen+ipLen]
	ip[0] = 4<<4 | 5
	be.PutUint16(ip[2:], uint16(len(out)-ethLen))
	be.PutUint16(ip[6:], 0x4000) // don't fragment
	ip[8] = 64
	ip[9] = proto
	copy(ip[12:16], p.tuple.Dst.AsSlice())
	copy(ip[16:20], p.tuple.Src.AsSlice())
	be.PutUint16(ip[10:], Checksum(ip))
}

// mayAnswer takes one of the answers of this second.
func (m *Model) mayAnswer() bool {
	if second := m.Now / m.Control.Hz; m.Replies.Second != second {
		m.Replies = Replies{Second: second}
	}
	if m.Replies.Count >= m.Control.ReplyLimit {
		return false
	}
	m.Replies.Count++
	return true
}
