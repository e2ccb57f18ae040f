package e2e

import (
	"fmt"
	"net/netip"
	"testing"

	"fairlead/loader"
	"fairlead/testenv"
	"fairlead/testenv/stage"
)

// Whoever guesses the tuple of a connection, but not its sequence numbers, can
// neither end it nor make the balancer forget it.
func TestForgedResetsEndNothing(t *testing.T) {
	s := attached(t, testenv.RigOptions{Backends: 1})
	account := s.Account()
	talk, err := s.Dial(0, vip+":80")
	if err != nil {
		t.Fatal(err)
	}
	wantAnswer(t, talk, "backend1")
	wantFlowState(t, s, loader.LBFlowStateFLOW_ESTABLISHED)
	client := netip.MustParseAddrPort(talk.LocalAddr().String())

	forge(t, s, s.Clients[0], client, netip.MustParseAddrPort(vip+":80"))
	wantFlowState(t, s, loader.LBFlowStateFLOW_ABORTED_FORWARD)
	wantAnswer(t, talk, "backend1")
	wantFlowState(t, s, loader.LBFlowStateFLOW_ESTABLISHED)

	backend := netip.AddrPortFrom(s.BackendAddrs[0], 8080)
	forge(t, s, s.Backends[0], backend, client)
	wantFlowState(t, s, loader.LBFlowStateFLOW_ABORTED_REPLY)
	wantAnswer(t, talk, "backend1")
	wantFlowState(t, s, loader.LBFlowStateFLOW_ESTABLISHED)

	// Both at once: the flow counts as closed, but its packets still arrive.
	forge(t, s, s.Clients[0], client, netip.MustParseAddrPort(vip+":80"))
	forge(t, s, s.Backends[0], backend, client)
	wantFlowState(t, s, loader.LBFlowStateFLOW_CLOSED)
	wantAnswer(t, talk, "backend1")
	wantAllXDP(t, s, account)
}

// forge sends a reset with a sequence number far from any window out of a
// host's uplink.
func forge(t *testing.T, s *stage.Stage, h *testenv.Host, from, to netip.AddrPort) {
	t.Helper()
	gateway := s.ClientAddrs[0].Prev()
	if h == s.Backends[0] {
		gateway = s.BackendAddrs[0].Prev()
	}
	h.Inject(t, testenv.Uplink, testenv.TCPFrame(testenv.FrameSpec{
		DstMAC: testenv.MAC(gateway), Src: from, Dst: to, Flags: testenv.RST, Seq: 1,
	}))
}

// wantFlowState waits until both entries of the only flow are in a state.
func wantFlowState(t *testing.T, s *stage.Stage, want loader.LBFlowState) {
	t.Helper()
	inst, err := loader.Open(s.PinDir)
	if err != nil {
		t.Fatal(err)
	}
	defer inst.Close()
	table, err := inst.Maps().FlowTable()
	if err != nil {
		t.Fatal(err)
	}
	defer table.Close()
	stage.Await(t, fmt.Sprintf("the flow to be in state %d", want), func() error {
		var states []loader.LBFlowState
		table.Each(func(e loader.Entry) bool {
			states = append(states, e.State())
			return true
		})
		if len(states) != 2 || states[0] != want || states[1] != want {
			return fmt.Errorf("its entries are in states %v", states)
		}
		return nil
	})
}
