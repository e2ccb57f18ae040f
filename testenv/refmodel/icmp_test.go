package refmodel

import "testing"

// Errors made by hand, with checksums computed by another program: a router
// tells the service that a segment to the client was too big, and a backend
// the client that nobody listens.
const (
	needFrag         = "0200000000020200000000010800450000380007000040017cb2c0000201cb00710a0304570a000005784500002d123440003c06c651cb00710ac633640700509c40000003e9"
	needFragOut      = "020000000003020000000002080045000038000700003f01aeb9c00002010a020102030437ca000005784500002d123440003c06f7580a020102c63364071f909c40000003e9"
	needFragWhole    = "0200000000020200000000010800450000440007000040017ca6c0000201cb00710a0304284f000005784500002d123440003c06c651cb00710ac633640700509c40000003e9000013895018faf0d0280000"
	needFragWholeOut = "020000000003020000000002080045000044000700003f01aeadc00002010a0201020304f747000005784500002d123440003c06f7580a020102c63364071f909c40000003e9000013895018faf0e1ef0000"
	closedPort       = "02000000000202000000000308004500003d000700004001457a0a020103c63364070303325b0000000045000021123440003c11f758c63364070a02010313880035000d66ef7175657279"
	closedPortOut    = "02000000000102000000000208004500003d000700003f011574cb00710ac6336407030363610000000045000021123440003c11c652c6336407cb00710a13880035000d35e97175657279"
	dataDF           = "02000000000202000000000108004500002d123440004006c251c6336407cb00710a9c400050000003e9000013895018faf0d0280000474554202f"
	tooBig           = "020000000001020000000002080045000038000040004001d47fcb00710ac633640703045c560000002c4500002d123440004006c251c6336407cb00710a9c400050000003e9"
)

// asked is a model with one UDP flow.
func asked(t *testing.T) *Model {
	t.Helper()
	m := newModel()
	pass(t, m, query, queryOut, ForwardTX)
	return m
}

func TestErrorsAreTranslated(t *testing.T) {
	m := established(t)
	before := *m.Find(tcpKey)
	pass(t, m, needFrag, needFragOut, ForwardRedirect)
	pass(t, m, needFragWhole, needFragWholeOut, ForwardRedirect)
	if *m.Find(tcpKey) != before {
		t.Errorf("the flow has changed: %+v, was %+v", *m.Find(tcpKey), before)
	}
	if c := m.BackendCounters[0]; c.Packets[Forward] != 4 || c.Bytes[Forward] != 40+45+56+68 {
		t.Errorf("counted %+v", c)
	}
	pass(t, asked(t), closedPort, closedPortOut, ForwardTX)
}

// TestChecksumOfAnError is worked out by hand: in the quote only the source
// changes, from cb00:710a to 0a02:0102, its port from 0050 to 1f90, and the
// header's checksum by the same as the source, the other way round. What is
// left is the port: 0x1f40 more, so 0x1f40 less in the checksum of ICMP.
func TestChecksumOfAnError(t *testing.T) {
	in, out := unhex(t, needFrag), unhex(t, needFragOut)
	if a, b := be.Uint16(in[36:]), be.Uint16(out[36:]); a-b != 0x1f40 {
		t.Errorf("checksum %#04x became %#04x, want %#04x less", a, b, 0x1f40)
	}
	res := established(t).Process(in, len(in))
	if sum := Checksum(res.Out[34:]); sum != 0 {
		t.Errorf("sum of the error is %#04x, want 0", sum)
	}
}

func TestWhatQuotes(t *testing.T) {
	for _, test := range []struct {
		name string
		edit func([]byte) []byte
		want Verdict
	}{
		{"fragmentation needed", edit(0), ForwardRedirect},
		{"time exceeded", edit(34, icmpTimeExceeded), ForwardRedirect},
		{"parameter problem", edit(34, icmpParameterProblem), ForwardRedirect},
		{"ping", edit(34, 8), PassICMP},
		{"redirect", edit(34, 5), PassICMP},
		{"seven bytes quoted", func(b []byte) []byte { b[17]--; return b }, PassICMP},
		{"a frame without a byte", func(b []byte) []byte { b[17]--; return b[:69] }, PassICMP},
		{"a packet longer than its frame", func(b []byte) []byte { return b[:69] }, PassMalformed},
		{"nothing quoted", func(b []byte) []byte { b[17] = 28; return b[:42] }, PassICMP},
		{"not even a header", func(b []byte) []byte { b[17] = 20; return b[:34] }, PassICMP},
		{"options quoted", edit(42, 0x46), PassICMP},
		{"version 6 quoted", edit(42, 0x65), PassICMP},
		{"a first fragment quoted", edit(48, 0x20), ForwardRedirect},
		{"a later fragment quoted", edit(49, 1), PassICMP},
		{"ICMP quoted", edit(51, ICMP), PassICMP},
		{"to another than it quotes", edit(33, 11), PassOther},
		{"another than it is to", edit(57, 11), PassICMP},
		{"to somebody else", func(b []byte) []byte { b[33], b[57] = 11, 11; return b }, PassOther},
		{"TTL of 1", edit(22, 1), DropTTL},
		{"a fragment", edit(20, 0x20), PassFragment},
		{"options", edit(14, 0x46), PassOptions},
	} {
		t.Run(test.name, func(t *testing.T) {
			frame := test.edit(unhex(t, needFrag))
			if res := established(t).Process(frame, len(frame)); res.Verdict != test.want {
				t.Errorf("verdict is %v, want %v", res.Verdict, test.want)
			}
		})
	}
}

func TestQuoteInLinearPart(t *testing.T) {
	frame := unhex(t, needFragWhole)
	for _, test := range []struct {
		linear int
		want   Verdict
	}{{34, PassICMP}, {33, PassOther}, {69, PassICMP}, {70, ForwardRedirect}} {
		if res := established(t).Process(frame, test.linear); res.Verdict != test.want {
			t.Errorf("linear part of %d: %v, want %v", test.linear, res.Verdict, test.want)
		}
	}
	for linear, kept := range map[int]bool{79: true, 80: false} {
		res := established(t).Process(frame, linear)
		if got := be.Uint16(res.Out[78:]) == be.Uint16(frame[78:]); got != kept {
			t.Errorf("linear part of %d: TCP checksum kept: %v", linear, got)
		}
	}
}

func TestErrorsOfNoFlow(t *testing.T) {
	remote := func(m *Model) { m.Services[1].Flags = 0 }
	connect := func(m *Model) { m.Connections = map[Tuple]bool{tcpKey: true} }
	for _, test := range []struct {
		name string
		edit func(*Model)
		want Verdict
	}{
		{"no connection", func(*Model) {}, DropICMP},
		{"a connection", connect, PassICMP},
		{"a connection of another client", func(m *Model) { m.Connections = map[Tuple]bool{tcpRev: true} }, DropICMP},
		{"not local", func(m *Model) { remote(m); connect(m) }, DropICMP},
		{"the proxy's", func(m *Model) { m.Services[1].State = ServiceProxy }, PassICMP},
		{"a row without a service", func(m *Model) { m.Services[1].State = ServiceNone }, PassICMP},
		{"no listener", func(m *Model) { m.Listeners = nil }, PassICMP},
		{"no service address", func(m *Model) { m.Listeners, m.VIPs = nil, nil }, PassOther},
		{"no service address, but a listener", func(m *Model) { m.VIPs = nil }, DropICMP},
	} {
		t.Run(test.name, func(t *testing.T) {
			for name, m := range map[string]*Model{"no flow": newModel(), "ended": established(t), "another era": established(t)} {
				switch name {
				case "ended":
					m.Find(tcpKey).State = FlowReset
				case "another era":
					m.Control.Era++
				}
				test.edit(m)
				pass(t, m, needFrag, "", test.want)
			}
		})
	}
}

func TestErrorOfFlowWithoutBackend(t *testing.T) {
	m := established(t)
	m.Now -= 250 // it is not due
	m.Backends[0].State = BackendDown
	pass(t, m, needFrag, "", DropFlowEnded)
	m.Services[1].Flags |= FlagKeep
	pass(t, m, needFrag, needFragOut, ForwardRedirect)
	m.Services[1].Gen++
	pass(t, m, needFrag, "", DropFlowEnded)
	m.Find(tcpKey).State = FlowClosed
	m.Services[1].Gen--
	pass(t, m, needFrag, needFragOut, ForwardRedirect)
}

func TestTooBig(t *testing.T) {
	m := established(t)
	m.Find(tcpKey).Hop.MTU = 44
	m.Now -= 250
	flow := *m.Find(tcpKey)
	pass(t, m, dataDF, tooBig, AnswerTooBig)
	pass(t, m, dataDF, "", DropTooBig) // over the limit
	pass(t, m, data, "", DropTooBig)
	if *m.Find(tcpKey) != flow || m.BackendCounters[0].Packets[Forward] != 2 {
		t.Errorf("the flow is %+v, was %+v; counted %+v", *m.Find(tcpKey), flow, m.BackendCounters[0])
	}
	pass(t, m, needFrag, needFragOut, ForwardRedirect)
	m.Find(tcpKey).Hop.MTU = 45
	pass(t, m, data, dataOut, ForwardRedirect)
}

func TestMTUOfTheWay(t *testing.T) {
	m := newModel()
	fib := m.FIB
	mtu := uint16(40)
	m.FIB = func(src, dst Addr) (FIBResult, Hop) {
		answer, hop := fib(src, dst)
		hop.MTU = mtu
		return answer, hop
	}
	pass(t, m, syn, synOut, ForwardRedirect)
	pass(t, m, data, "", DropTooBig)
	mtu = 0
	m.Now += 250
	pass(t, m, data, dataOut, ForwardRedirect)
	if hop := m.Find(tcpKey).Hop; hop.MTU != unknownMTU {
		t.Errorf("MTU is %d, want %d", hop.MTU, unknownMTU)
	}
	mtu = 32
	pass(t, m, query, "", DropTooBig)
	if c := m.BackendCounters[1]; c.Flows != 1 || c.Packets[Forward] != 0 || len(m.entries()) != 4 {
		t.Errorf("counted %+v, %d entries; want a flow without a packet", c, len(m.entries()))
	}
}

func TestQuotedUDPChecksum(t *testing.T) {
	send := func(sum uint16) (got uint16, good bool) {
		frame := unhex(t, closedPort)
		be.PutUint16(frame[68:], sum)
		be.PutUint16(frame[36:], 0)
		be.PutUint16(frame[36:], Checksum(frame[34:]))
		out := asked(t).Process(frame, len(frame)).Out
		return be.Uint16(out[68:]), Checksum(out[34:]) == 0
	}
	quoted := Tuple{Src: client, Dst: dns, SPort: 5000, DPort: 53, Proto: UDP}
	sent := quoted
	sent.Dst = vip
	l4, _ := Delta(quoted, sent)
	for sum, want := range map[uint16]uint16{0: 0, l4: 0xffff} {
		if got, good := send(sum); got != want || !good {
			t.Errorf("checksum %#04x became %#04x, want %#04x; that of ICMP is right: %v", sum, got, want, good)
		}
	}
}
