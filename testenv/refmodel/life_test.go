package refmodel

import "testing"

func TestLifeAfterReset(t *testing.T) {
	const client, backend = data, synAck
	type step struct {
		frame string
		flags byte
		want  uint8
	}
	for _, test := range []struct {
		name  string
		state uint8
		steps []step
	}{
		{"not answered", FlowNew, []step{{client, RST, FlowClosed}, {client, ACK, FlowClosed}}},
		{"answered", FlowAnswered, []step{{backend, RST, FlowClosed}, {backend, ACK, FlowClosed}}},
		{"in use, by the client", FlowEstablished, []step{
			{client, RST, FlowAbortedForward}, {client, RST | FIN, FlowAbortedForward}, {backend, ACK, FlowAbortedForward},
			{client, SYN | ACK, FlowAbortedForward}, {client, ACK, FlowEstablished},
		}},
		{"in use, by the backend", FlowEstablished, []step{
			{backend, RST, FlowAbortedReply}, {client, ACK, FlowAbortedReply}, {backend, SYN, FlowAbortedReply},
			{backend, ACK, FlowEstablished},
		}},
		{"by both", FlowEstablished, []step{
			{backend, RST, FlowAbortedReply}, {client, RST, FlowClosed}, {backend, ACK, FlowClosed}, {client, RST, FlowClosed},
		}},
		{"a reset after a FIN", FlowEstablished, []step{
			{client, FIN | ACK, FlowFin}, {client, RST | ACK, FlowAbortedForward}, {client, ACK, FlowFin},
		}},
		{"the other side's FIN", FlowEstablished, []step{
			{client, RST, FlowAbortedForward}, {backend, FIN | ACK, FlowAbortedForward}, {client, ACK, FlowFin},
			{backend, RST, FlowAbortedReply}, {client, FIN | ACK, FlowClosed},
		}},
		{"its own FIN undoes it", FlowEstablished, []step{{client, RST, FlowAbortedForward}, {client, FIN | ACK, FlowFin}}},
		{"a SYN with FIN does not", FlowEstablished, []step{{client, RST, FlowAbortedForward}, {client, SYN | FIN, FlowAbortedForward}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := established(t)
			a, b := m.Find(tcpKey), m.Find(tcpRev)
			a.State, b.State = test.state, test.state
			for i, s := range test.steps {
				way := map[string]Verdict{client: ForwardRedirect, backend: ForwardTX}[s.frame]
				send(t, m, s.frame, s.flags, way)
				if a.State != s.want || b.State != s.want || a.Fins != b.Fins {
					t.Fatalf("step %d: states are %d and %d, want %d", i, a.State, b.State, s.want)
				}
			}
		})
	}
}

func TestSYNReopensAbortedFlow(t *testing.T) {
	for state, flows := range map[uint8]uint64{
		FlowAbortedForward: 2, FlowAbortedReply: 2, FlowClosed: 2, FlowReset: 2, FlowFin: 1, FlowEstablished: 1,
	} {
		m := established(t)
		m.Find(tcpKey).State, m.Find(tcpRev).State = state, state
		send(t, m, syn, SYN, ForwardRedirect)
		if got := m.BackendCounters[0].Flows; got != flows {
			t.Errorf("state %d: %d flows, want %d", state, got, flows)
		}
	}
}
