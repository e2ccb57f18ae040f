package refmodel

// Types of ICMP that ask for an echo, and are one.
const (
	icmpEchoReply   = 0
	icmpEchoRequest = 8
)

// unquoting is step 6 of rule 9: ICMP that is about no other packet. Who asks a
// service address for an echo gets one.
func (m *Model) unquoting(p *packet) Result {
	const icmpAt = ethLen + ipLen
	switch {
	case !m.VIPs[p.tuple.Dst] || min(ethLen+p.total, p.linear) < icmpAt+icmpLen:
		return m.pass(p)
	case p.frame[icmpAt] != icmpEchoRequest || p.frame[icmpAt+1] != 0:
		return verdict(PassICMP)
	case p.noClient():
		return verdict(DropSource)
	case !m.mayAnswer():
		return verdict(PassICMP)
	}
	out := append([]byte(nil), p.frame...)
	copy(out[0:6], p.frame[6:12])
	copy(out[6:12], p.frame[0:6])
	ip := out[ethLen:icmpAt]
	ip[8] = 64
	copy(ip[12:16], p.tuple.Dst[:])
	copy(ip[16:20], p.tuple.Src[:])
	updateSum(ip[10:12], p.frame[ethLen:icmpAt], ip)
	out[icmpAt] = icmpEchoReply
	updateSum(out[icmpAt+2:][:2], p.frame[icmpAt:][:2], out[icmpAt:][:2])
	return m.answer(AnswerEcho, out)
}
