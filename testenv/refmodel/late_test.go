package refmodel

import "testing"

// Packets whose TTL is used up, and what their senders are told, with checksums
// computed by another program.
const (
	late           = "02000000000202000000000108004500002d1234000001064152c6336407cb00710a9c400050000003e9000013895018faf0d2800000474554202f"
	lateTold       = "020000000001020000000002080045000038000040004001d47fcb00710ac63364070b005486000000004500002d1234000001064152c6336407cb00710a9c400050000003e9"
	lateReply      = "020000000002020000000003080045000028123400000106725e0a020102c63364071f909c4000001388000003e95012faf0ac610000"
	lateReplyTold  = "020000000003020000000002080045000038000040004001f3b6cb00710a0a0201020b0025a70000000045000028123400000106725e0a020102c63364071f909c4000001388"
	late6Told      = "02000000000102000000000286dd6000000000383a4020010db801130000000000000000001020010db80051000000000000000000070300f59a00000000612345670014060120010db800510000000000000000000720010db80113000000000000000000109c400050000003e8"
	lateReply6Told = "02000000000302000000000286dd6000000000383a4020010db801130000000000000000001020010db800020001000000000000000203000eb600000000600000000014060120010db800020001000000000000000220010db80051000000000000000000071f909c4000001388"
)

func TestUsedUpTTLIsTold(t *testing.T) {
	m := established(t)
	flow := *m.Find(tcpKey)
	pass(t, m, late, lateTold, AnswerTimeExceeded)
	pass(t, m, late, "", DropTTL) // over the limit
	m.Now += 250
	pass(t, m, lateReply, lateReplyTold, AnswerTimeExceeded)
	if *m.Find(tcpKey) != flow || m.BackendCounters[0].Packets[Forward] != 2 {
		t.Errorf("the flow is %+v, was %+v; counted %+v", *m.Find(tcpKey), flow, m.BackendCounters[0])
	}
}

func TestUsedUpHopLimitIsTold(t *testing.T) {
	m := established6(t)
	late := func(frame, out string) {
		t.Helper()
		in := unhex(t, frame)
		in[21] = 1
		if res := m.Process(in, len(in)); res.Verdict != AnswerTimeExceeded || string(res.Out) != string(unhex(t, out)) {
			t.Errorf("%v: %x, want %s", res.Verdict, res.Out, out)
		}
		m.Now += 250
	}
	late(synAck6, lateReply6Told)
	m.Remove(tcpKey6)
	late(syn6, late6Told)
	if m.Find(tcpKey6) != nil {
		t.Error("a flow was made")
	}
}

// TestNobodyIsTold is about senders that rule 3 knows to be none, or not wanted.
func TestNobodyIsTold(t *testing.T) {
	for name, test := range map[string]struct {
		spoil func(m *Model, frame []byte)
		want  Verdict
	}{
		"nobody":         {func(_ *Model, f []byte) { f[26] = 127 }, DropSource},
		"the host's own": {func(m *Model, _ []byte) { m.FIB = func(_, _ Addr) (FIBResult, Hop) { return FIBNotFwded, Hop{} } }, DropSource},
		"not a client":   {func(m *Model, _ []byte) { m.Services[1].Flags |= FlagListed }, DropDenied},
		"no SYN":         {func(_ *Model, f []byte) { f[47] = ACK }, PassNoFlow},
		"a client":       {func(*Model, []byte) {}, AnswerTimeExceeded},
	} {
		m, frame := newModel(), unhex(t, syn)
		frame[22] = 1
		test.spoil(m, frame)
		if res := m.Process(frame, len(frame)); res.Verdict != test.want {
			t.Errorf("%s: %v, want %v", name, res.Verdict, test.want)
		}
	}
}

func TestConnectionOfTheHostKeepsItsClient(t *testing.T) {
	for name, test := range map[string]struct {
		given func(m *Model)
		want  Verdict
	}{
		"a connection":     {func(*Model) {}, PassStandby},
		"one that is over": {func(m *Model) { m.Connections, m.Over = nil, m.Connections }, ForwardRedirect},
		"not local":        {func(m *Model) { m.Services[1].Flags = 0 }, ForwardRedirect},
		"draining":         {func(m *Model) { m.Control.Mode = ModeDraining }, PassDraining},
	} {
		m := newModel()
		m.Connections = map[Tuple]bool{tcpKey: true}
		test.given(m)
		frame := unhex(t, syn)
		if res := m.Process(frame, len(frame)); res.Verdict != test.want {
			t.Errorf("%s: %v, want %v", name, res.Verdict, test.want)
		}
	}
}
