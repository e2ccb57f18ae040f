package refmodel

import (
	"net/netip"
	"testing"
)

var (
	tcpKey = Tuple{Src: client, Dst: vip, SPort: 40000, DPort: 80, Proto: TCP}
	tcpRev = Tuple{Src: web, Dst: client, SPort: 8080, DPort: 40000, Proto: TCP}
)

// established is a model with one TCP flow that is due for a check.
func established(t *testing.T) *Model {
	t.Helper()
	m := newModel()
	pass(t, m, syn, synOut, ForwardRedirect)
	pass(t, m, synAck, synAckOut, ForwardTX)
	send(t, m, data, ACK, ForwardRedirect)
	m.Now += 250
	return m
}

// send passes a frame with other TCP flags and checks the verdict only.
func send(t *testing.T, m *Model, frame string, flags byte, want Verdict) {
	t.Helper()
	b := unhex(t, frame)
	b[47] = flags
	if res := m.Process(b, len(b)); res.Verdict != want {
		t.Fatalf("verdict is %v, want %v", res.Verdict, want)
	}
}

func TestTwinIsMadeAgain(t *testing.T) {
	m := established(t)
	m.Remove(tcpRev)
	pass(t, m, data, dataOut, ForwardRedirect)
	pass(t, m, synAck, synAckOut, ForwardTX)

	m.Now += 250
	m.Remove(tcpKey)
	pass(t, m, synAck, synAckOut, ForwardTX)
	pass(t, m, data, dataOut, ForwardRedirect)
	if flows := m.BackendCounters[0].Flows; flows != 1 {
		t.Errorf("%d flows counted, want 1", flows)
	}
}

func TestTwinOfAnother(t *testing.T) {
	other := Flow{Key: tcpRev, Leave: Tuple{Src: netip.MustParseAddr("203.0.113.11"), Dst: client, SPort: 80, DPort: 40000, Proto: TCP}, Era: 1, Idle: 10, Dir: Reply}
	for _, test := range []struct {
		name  string
		flags byte
		edit  func(m *Model, f *Flow)
		want  Verdict
	}{
		{"live: the flow is lost", ACK, func(*Model, *Flow) {}, AnswerReset},
		{"live: a reset is not answered", RST, func(*Model, *Flow) {}, DropFlowEnded},
		{"over the limit", ACK, func(m *Model, _ *Flow) { m.Control.ReplyLimit = 0 }, DropReplyLimit},
		{"closed: it is replaced", ACK, func(_ *Model, f *Flow) { f.State = FlowClosed }, ForwardRedirect},
		{"aborted: it is replaced", ACK, func(_ *Model, f *Flow) { f.State = FlowAbortedReply }, ForwardRedirect},
		{"ended: it is replaced", ACK, func(_ *Model, f *Flow) { f.State = FlowReset }, ForwardRedirect},
		{"too old: it is replaced", ACK, func(_ *Model, f *Flow) { f.Seen -= 11 }, ForwardRedirect},
		{"just not too old", ACK, func(_ *Model, f *Flow) { f.Seen -= 10 }, AnswerReset},
		{"of another era: it is replaced", ACK, func(_ *Model, f *Flow) { f.Era = 2 }, ForwardRedirect},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := established(t)
			twin := other
			twin.Seen = m.Now
			test.edit(m, &twin)
			*m.Find(tcpRev) = twin
			send(t, m, data, test.flags, test.want)
			if kept := m.Find(tcpKey) != nil; kept != (test.want == ForwardRedirect) {
				t.Errorf("entry kept: %v", kept)
			}
		})
	}
}

func TestCheckOfTheWay(t *testing.T) {
	for _, test := range []struct {
		name   string
		result FIBResult
		device uint32
		want   Verdict
	}{
		{"found", FIBSuccess, 5, ForwardRedirect},
		{"no neighbour: the old way goes on", FIBNoNeigh, 5, ForwardRedirect},
		{"a device that cannot send", FIBSuccess, 6, DropDevice},
		{"no route", FIBBlackhole, 5, DropNoRoute},
		{"not forwarded", FIBNotFwded, 5, DropNoRoute},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := established(t)
			m.FIB = func(_, _ Addr) (FIBResult, Hop) { return test.result, Hop{Ifindex: test.device} }
			send(t, m, data, ACK, test.want)
			send(t, m, synAck, ACK, map[bool]Verdict{true: ForwardRedirect, false: ForwardTX}[test.name == "found"])
			send(t, m, data, ACK, test.want)
		})
	}
}

func TestLifeOfTCP(t *testing.T) {
	m := established(t)
	state := func(want uint8) {
		t.Helper()
		if a, b := m.Find(tcpKey), m.Find(tcpRev); a.State != want || b.State != want || a.Fins != b.Fins {
			t.Fatalf("states are %d and %d, want %d", a.State, b.State, want)
		}
	}
	send(t, m, data, FIN|ACK, ForwardRedirect)
	state(FlowFin)
	send(t, m, data, FIN|ACK, ForwardRedirect)
	state(FlowFin)
	send(t, m, synAck, FIN|ACK, ForwardTX)
	state(FlowClosed)
	send(t, m, data, ACK, ForwardRedirect)
	state(FlowClosed)
	send(t, m, syn, SYN, ForwardRedirect)
	state(FlowNew)
	send(t, m, synAck, SYN|ACK, ForwardTX)
	state(FlowAnswered)
	send(t, m, syn, SYN, ForwardRedirect)
	state(FlowAnswered)
	send(t, m, data, SYN|ACK, ForwardRedirect)
	state(FlowAnswered)
	send(t, m, synAck, ACK, ForwardTX)
	state(FlowAnswered)
	send(t, m, data, ACK, ForwardRedirect)
	state(FlowEstablished)
	send(t, m, synAck, RST, ForwardTX)
	state(FlowAbortedReply)
	if flows := m.BackendCounters[0].Flows; flows != 2 {
		t.Errorf("%d flows counted, want 2", flows)
	}
}

func TestLifeOfUDP(t *testing.T) {
	m := newModel()
	key := Tuple{Src: client, Dst: vip, SPort: 5000, DPort: 53, Proto: UDP}
	for _, want := range []struct {
		state uint8
		idle  uint32
	}{{FlowNew, 4000}, {FlowAnswered, 4000}, {FlowEstablished, 5000}} {
		if want.state == FlowAnswered {
			reply := unhex(t, query)
			copy(reply[26:], append(dns.AsSlice(), client.AsSlice()...))
			copy(reply[34:], []byte{0, 53, 0x13, 0x88})
			if res := m.Process(reply, len(reply)); res.Verdict != ForwardTX {
				t.Fatalf("the answer's verdict is %v", res.Verdict)
			}
		} else {
			pass(t, m, query, queryOut, ForwardTX)
			pass(t, m, query, queryOut, ForwardTX)
		}
		for _, f := range []*Flow{m.Find(key), m.Find(m.Find(key).TwinKey())} {
			if f.State != want.state || f.Idle != want.idle {
				t.Errorf("state is %d and idle %d, want %+v", f.State, f.Idle, want)
			}
		}
	}
}

func TestEndedFlow(t *testing.T) {
	for _, test := range []struct {
		name  string
		frame string
		flags byte
		want  Verdict
		left  int
	}{
		{"data is answered", data, ACK, AnswerReset, 1},
		{"a reset ends it quietly", data, RST, DropFlowEnded, 1},
		{"the backend is answered", synAck, ACK, AnswerReset, 1},
		{"a SYN of the client starts anew", syn, SYN, ForwardRedirect, 2},
		{"a SYN of the backend does not", synAck, SYN, AnswerReset, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := established(t)
			m.Find(tcpKey).State = FlowReset
			m.Find(tcpRev).State = FlowReset
			send(t, m, test.frame, test.flags, test.want)
			if n := len(m.entries()); n != test.left {
				t.Errorf("%d entries left, want %d", n, test.left)
			}
		})
	}
}

func TestDownAndGone(t *testing.T) {
	down := func(m *Model) { m.Backends[0].State = BackendDown }
	gone := func(m *Model) { m.Services[1].Gen++ }
	keep := func(m *Model) { down(m); m.Services[1].Flags |= FlagKeep }
	lost := func(m *Model) { down(m); m.Control.LossAfter = 5; m.Clock = m.Control.Heartbeat + 6 }
	alive := func(m *Model) { down(m); m.Control.LossAfter = 5; m.Clock = 3; m.Control.Heartbeat = 8 }
	for _, test := range []struct {
		name  string
		edit  func(*Model)
		flags byte
		want  Verdict
	}{
		{"down", down, ACK, AnswerReset},
		{"down, a SYN of a flow that is established", down, SYN, AnswerReset},
		{"down, a reset", down, RST, DropFlowEnded},
		{"down, but kept", keep, ACK, ForwardRedirect},
		{"down, but the agent is lost", lost, ACK, ForwardRedirect},
		{"down, and the heartbeat is later than the clock", alive, ACK, AnswerReset},
		{"gone", gone, ACK, AnswerReset},
		{"gone, a SYN starts anew", gone, SYN, ForwardRedirect},
		{"gone, the row is another service's", func(m *Model) { m.Backends[0].Service = 2 }, ACK, AnswerReset},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := established(t)
			test.edit(m)
			send(t, m, data, test.flags, test.want)
		})
	}
}

func TestSYNOfFlowThatHasNotBegun(t *testing.T) {
	for state, left := range map[uint8]int{FlowNew: 0, FlowAnswered: 0, FlowEstablished: 1} {
		m := established(t)
		m.Find(tcpKey).State = state
		m.Find(tcpRev).State = state
		m.Backends[0].State = BackendDown
		send(t, m, syn, SYN, AnswerReset)
		if n := len(m.entries()); n != left {
			t.Errorf("state %d: %d entries left, want %d", state, n, left)
		}
	}
}
