package refmodel

// Types of ICMP that ask for an echo, and are one.
const (
	icmpEchoReply   = 0
	icmpEchoRequest = 8

	icmp6EchoRequest = 128
	icmp6EchoReply   = 129
)

// unquoting is step 6 of rule 9: ICMP that is about no other packet. Who asks a
// service address for an echo gets one.
func (m *Model) unquoting(p *packet) Result {
	switch {
	case m.VIPs[p.tuple.Dst]&AddressService == 0 || p.extended() || min(ethLen+p.total, p.linear) < p.l4+icmpLen:
		return m.pass(p)
	case p.frame[p.l4] != p.family.echo[0] || p.frame[p.l4+1] != 0:
		return verdict(PassICMP)
	case p.noClient():
		return verdict(DropSource)
	case !m.mayEcho():
		return verdict(PassICMP)
	}
	out := append([]byte(nil), p.frame...)
	copy(out[0:6], p.frame[6:12])
	copy(out[6:12], p.frame[0:6])
	ip := out[ethLen:p.l4]
	ip[p.family.ttl] = 64
	p.family.readdress(ip, p.frame[ethLen:p.l4], p.tuple.Dst, p.tuple.Src)
	out[p.l4] = p.family.echo[1]
	updateSum(out[p.l4+2:][:2], p.frame[p.l4:][:2], out[p.l4:][:2])
	return m.answer(AnswerEcho, out)
}
