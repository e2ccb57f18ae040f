package fuzz

import (
	"slices"
	"testing"

	m "fairlead/testenv/refmodel"
)

// TestRaceForTheWay has both CPUs look the way of each flow up again while they
// send packets by it. The flows lead into the other family, so that the way has
// more parts than in any other.
func TestRaceForTheWay(t *testing.T) {
	const epochs = 200
	k, w := newKernel(t, 0), wayWorld()
	if err := k.reset(w); err != nil {
		t.Fatal(err)
	}
	frames := raceFrames(w, m.UDP)
	for epoch := range epochs {
		for i, pair := range runTogether(k.Program(), frames, frames) {
			for _, s := range pair {
				if s.err != nil || m.Action(s.action) != m.XDPTx && epoch > 0 {
					t.Fatalf("epoch %d, flow %d: action %d, error %v", epoch, i, s.action, s.err)
				}
			}
		}
		w.Control.Epoch++
		if err := k.sync(w, change{part: partControl}); err != nil {
			t.Fatal(err)
		}
	}
	s, err := k.state()
	if err != nil {
		t.Fatal(err)
	}
	drops := s.Verdicts[m.DropTableFull] + s.Verdicts[m.DropTupleTaken]
	if s.Verdicts[m.ForwardTX]+drops != 2*epochs*raceFlows {
		t.Errorf("verdicts do not sum up to what was sent: %v", s.Verdicts)
	}
}

// wayWorld is raceWorld with a client of IPv6 and a backend of IPv4.
func wayWorld() *world {
	w := raceWorld(&mixed6, 1, raceBuckets)
	narrow := func(as []m.Addr) []m.Addr {
		return slices.DeleteFunc(slices.Clone(as), func(a m.Addr) bool { return !a.Is4In6() })
	}
	w.Control.MixedPort, w.Control.MixedPorts = w.Control.SnatPort, w.Control.SnatPorts
	copy(w.Snat, narrow(w.snats))
	server := narrow(w.servers)[0]
	way := w.fib[w.servers[0]]
	way.hop.MTU = 1 << 15
	w.fib[server] = way
	w.Backends[0].Addr = server
	w.Backends[0].Sources = m.Run{Length: uint32(len(narrow(w.snats)))}
	return w
}
