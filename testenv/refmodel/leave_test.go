package refmodel

import (
	"net/netip"
	"testing"
)

// As the frames of model_test.go: the same packets with another port of the
// client, and with a source of our own.
const (
	synShifted = "020000000003020000000002080045000028123400003f06345ec63364070a020102bf2f1f90000003e8000000005002faf09d0b0000"
	synOwn     = "020000000003020000000002080045000028123400003f06548e0a0200090a02010275301f90000003e8000000005002faf0073b0000"
	synAckOwn  = "020000000002020000000003080045000028123400004006538e0a0201020a0200091f90753000001388000003e95012faf0f3a10000"
	queryOwn   = "020000000003020000000002080045000021123400003f1154890a0200090a02010375300035000d25777175657279"
	fragOwn    = "020000000002020000000003080045000038000700004001aeb2c00002010a02000903045eda000005784500002d123440003c0617890a0200090a02010275301f90000003e9"
	fragOwnOut = "020000000001020000000002080045000038000700003f011579cb00710ac63364070304570a000005784500002d123440003c06c651c6336407cb00710a9c400050000003e9"
)

var own = netip.MustParseAddr("10.2.0.9")

// otherPorts are those of a client whose port is 40000, worked out by hand.
var otherPorts = []uint16{48943, 56862, 64781, 8188, 16107, 24026, 31945, 39864}

// towards is the key of an answer of the web's backend.
func towards(addr Addr, port uint16) Tuple {
	return Tuple{Src: web, Dst: addr, SPort: 8080, DPort: port, Proto: TCP}
}

// take makes a key that of a live flow of another service.
func (m *Model) take(key Tuple) *Flow {
	m.put(Flow{
		Key: key, Leave: Tuple{Src: netip.MustParseAddr("203.0.113.11"), Dst: client, SPort: 80, DPort: 40000, Proto: key.Proto},
		Seen: m.Now, Checked: m.Now, Epoch: 1, Era: 1, Dir: Reply,
	})
	return m.Find(key)
}

// newFullNAT is newModel with full NAT, and one source.
func newFullNAT() *Model {
	m := newModel()
	m.Control.SnatPort, m.Control.SnatPorts = 30000, 1
	m.Snat = []Addr{netip.IPv4Unspecified(), own}
	for i := range m.Backends {
		m.Services[i+1].Flags |= FlagFullNAT
		m.Backends[i].Sources = Run{1, 1}
	}
	return m
}

func TestAnotherPort(t *testing.T) {
	m := newModel()
	m.take(tcpRev)
	pass(t, m, syn, synShifted, ForwardRedirect)
	for taken, want := range otherPorts {
		m := newModel()
		m.take(tcpRev)
		for _, port := range otherPorts[:taken] {
			m.take(towards(client, port))
		}
		m.take(towards(client, want)).State = FlowClosed
		send(t, m, syn, SYN, ForwardRedirect)
		if leave := m.Find(tcpKey).Leave; leave.SPort != want || leave.Src != client {
			t.Errorf("after %d ports comes %v, want %d", taken, leave, want)
		}
	}
}

func TestFullNATBothWays(t *testing.T) {
	m := newFullNAT()
	pass(t, m, syn, synOwn, ForwardRedirect)
	pass(t, m, synAckOwn, synAckOut, ForwardTX)
	before := *m.Find(towards(own, 30000))
	pass(t, m, fragOwn, fragOwnOut, ForwardTX)
	if *m.Find(before.Key) != before {
		t.Error("an error has changed the flow")
	}
	pass(t, newFullNAT(), query, queryOwn, ForwardTX)
}

// TestSourcesInTurn has two addresses with three ports each.
func TestSourcesInTurn(t *testing.T) {
	m := newFullNAT()
	m.Control.SnatPorts = 3
	m.Snat = []Addr{netip.IPv4Unspecified(), own, web}
	m.Backends[0].Sources.Length = 2
	h := m.hash(tcpKey)
	taken := map[Tuple]bool{}
	for k := range uint32(16) {
		y := uint32(h) + k*(uint32(h>>32)|1)
		want := Tuple{Src: m.Snat[1+y%2], SPort: uint16(30000 + y/2%3), Dst: web, DPort: 8080, Proto: TCP}
		if taken[want] {
			continue
		}
		taken[want] = true
		send(t, m, syn, SYN, ForwardRedirect)
		if leave := m.Find(tcpKey).Leave; leave != want {
			t.Fatalf("source %d is %v, want %v", k, leave, want)
		}
		m.deleteBoth(tcpKey)
		m.take(want.Reverse())
	}
}

func TestWhichSourceIsFree(t *testing.T) {
	key := towards(own, 30000)
	for _, test := range []struct {
		name string
		edit func(*Model)
		want Verdict
	}{
		{"a live flow's", func(m *Model) { m.take(key) }, DropTupleTaken},
		{"a closed flow's", func(m *Model) { m.take(key).State = FlowClosed }, ForwardRedirect},
		{"a silent flow's", func(m *Model) { f := m.take(key); f.Seen--; f.Epoch = 0 }, ForwardRedirect},
		{"this flow's, but its entry is gone", func(m *Model) { m.take(key).Leave = tcpKey.Reverse() }, ForwardRedirect},
		{"no addresses", func(m *Model) { m.Backends[0].Sources.Length = 0 }, DropTupleTaken},
		{"no ports", func(m *Model) { m.Control.SnatPorts = 0 }, DropTupleTaken},
		{"beyond the end", func(m *Model) { m.Backends[0].Sources.Offset = 2 }, DropTupleTaken},
	} {
		m := newFullNAT()
		test.edit(m)
		frame := unhex(t, syn)
		if res := m.Process(frame, len(frame)); res.Verdict != test.want {
			t.Errorf("%s: %v, want %v", test.name, res.Verdict, test.want)
		}
	}
}

func TestOwnersOfDeletedSources(t *testing.T) {
	m := newFullNAT()
	other := Flow{Key: Tuple{Src: client, Dst: vip, SPort: 9, DPort: 81, Proto: TCP}, Leave: towards(own, 30000).Reverse(), Seen: m.Now, Era: 1, State: FlowClosed}
	m.put(other)
	twin := m.take(towards(own, 30000))
	twin.Leave, twin.State = other.Key.Reverse(), FlowClosed
	send(t, m, syn, SYN, ForwardRedirect)
	if m.Find(other.Key) == nil {
		t.Error("a flow whose source was taken has lost its other entry, too")
	}
}

func TestLostSource(t *testing.T) {
	lose := func(m *Model) {
		m.Remove(towards(own, 30000))
		m.take(towards(own, 30000))
	}
	m := newFullNAT()
	pass(t, m, syn, synOwn, ForwardRedirect)
	pass(t, m, syn, synOwn, ForwardRedirect)
	lose(m)
	send(t, m, syn, SYN, AnswerReset)

	m = newFullNAT()
	pass(t, m, syn, synOwn, ForwardRedirect)
	pass(t, m, synAckOwn, synAckOut, ForwardTX)
	send(t, m, data, ACK, ForwardRedirect)
	lose(m)
	send(t, m, data, ACK, ForwardRedirect) // until its next check
	m.Control.Epoch++
	send(t, m, data, ACK, AnswerReset)
}
