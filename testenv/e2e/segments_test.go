package e2e

import (
	"fmt"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"

	"fairlead/testenv"
	"fairlead/testenv/stage"
)

// A ledger judges retransmissions by the counters of the TCP stacks that sent
// and received. A busy machine acknowledges late, so there may be some that
// nothing was lost for: what counts is whether what was sent again had arrived
// before. It had, of every segment, if the stacks of one side received as many
// as those of the other side sent, retransmissions included. What was sent
// twice was then received twice.
//
// DSACKs tell the same of single segments, but do not add up: one may stand
// for many segments that GRO has joined, one acknowledgement holds one, and
// for a SYN or in TIME_WAIT there is none. Counters that add up are:
//
//   - Tcp OutSegs, all segments but retransmissions, and Tcp RetransSegs.
//     A SYN-ACK that is sent again is counted in both, and in TCPSynRetrans,
//     which at those who only accept counts nothing else.
//   - Tcp InSegs, for which what GRO has joined is one, and how many packets
//     it has joined: packets by their ECN bits, each counted, less InReceives.
//
// Clients may only connect and backends only accept, and the balancer's stack
// must send neither anything.
type ledger struct {
	s                 *stage.Stage
	clients, backends segments
}

// segments are what the TCP stacks of one side have counted.
type segments struct {
	sent, again, received uint64
	early                 uint64 // received before one that was sent earlier
	refused               uint64 // received, but a socket had no room: who comes next is early
}

// noRoom are the counters of what a socket throws away that the stack has received.
var noRoom = []string{"TCPBacklogDrop", "TCPRcvQDrop", "TCPZeroWindowDrop", "RcvPruned", "OfoPruned"}

func (a segments) sub(b segments) segments {
	return segments{a.sent - b.sent, a.again - b.again, a.received - b.received, a.early - b.early, a.refused - b.refused}
}

// openLedger begins a ledger while nothing is sent.
func openLedger(s *stage.Stage) *ledger {
	l := &ledger{s: s}
	l.clients, l.backends = l.read()
	return l
}

// since returns what was counted since the ledger was opened.
func (l *ledger) since() (clients, backends segments) {
	clients, backends = l.read()
	return clients.sub(l.clients), backends.sub(l.backends)
}

func (l *ledger) read() (clients, backends segments) {
	for _, h := range l.s.Clients {
		l.add(&clients, h)
	}
	for _, h := range l.s.Backends {
		l.add(&backends, h)
		backends.sent -= l.s.StackCounter(h, "TcpExt", "TCPSynRetrans")
	}
	return clients, backends
}

func (l *ledger) add(to *segments, h *testenv.Host) {
	again := l.s.StackCounter(h, "Tcp", "RetransSegs")
	to.again += again
	to.sent += l.s.StackCounter(h, "Tcp", "OutSegs") + again
	to.received += l.s.StackCounter(h, "Tcp", "InSegs")
	for _, ip := range [][2]string{{"Ip", "IpExt"}, {"Ip6", "Ip6"}} {
		to.received -= l.s.StackCounter(h, ip[0], "InReceives")
		for _, ecn := range []string{"InNoECTPkts", "InECT1Pkts", "InECT0Pkts", "InCEPkts"} {
			to.received += l.s.StackCounter(h, ip[1], ecn)
		}
	}
	to.early += l.s.StackCounter(h, "TcpExt", "TCPOFOQueue")
	for _, name := range noRoom {
		to.refused += l.s.StackCounter(h, "TcpExt", name)
	}
}

// wantNoneLost asserts that no segment was lost and none overtook another, so
// that the way through the balancer is the cause of no retransmission.
func (l *ledger) wantNoneLost(t *testing.T) {
	t.Helper()
	var clients, backends segments
	stage.Await(t, "all segments that were sent to be received", func() error {
		clients, backends = l.since()
		if clients.sent != backends.received || backends.sent != clients.received {
			return fmt.Errorf("clients %+v, backends %+v", clients, backends)
		}
		return nil
	})
	if clients.early > 0 && clients.refused == 0 || backends.early > 0 && backends.refused == 0 {
		t.Errorf("segments overtook others: clients %+v, backends %+v", clients, backends)
	}
	if clients.sent == 0 || backends.sent == 0 {
		t.Error("nothing was sent")
	}
	t.Logf("segments: clients %+v, backends %+v", clients, backends)
}

// The ledger must see each segment that gets lost, and which way.
func TestLedgerFindsLostSegments(t *testing.T) {
	s, iperf := iperfService(t)
	s.Loader("attach").OK(t)
	l := openLedger(s)
	dropped := dropEvery(t, s.Backends[0], 50)
	iperf("--no-delay")
	var clients, backends segments
	stage.Await(t, "the ledger to show what was dropped", func() error {
		clients, backends = l.since()
		lost, want := int64(clients.sent-backends.received), dropped()
		if lost != want || want == 0 || backends.sent != clients.received {
			return fmt.Errorf("%d dropped, clients %+v, backends %+v", want, clients, backends)
		}
		return nil
	})
	if clients.again == 0 || backends.early == 0 {
		t.Errorf("nothing was sent again: clients %+v, backends %+v", clients, backends)
	}
	t.Logf("%d dropped, clients %+v, backends %+v", dropped(), clients, backends)
}

// dropEvery drops each n-th frame with data that arrives at a host's uplink,
// and returns how many it has dropped.
func dropEvery(t *testing.T, h *testenv.Host, n int32) (dropped func() int64) {
	t.Helper()
	seen, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { seen.Close() })
	const headers = 14 + 20 + 60
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.XDP, AttachType: ebpf.AttachXDP, Flags: unix.BPF_F_XDP_HAS_FRAGS, License: "MIT",
		Instructions: asm.Instructions{
			asm.LoadMem(asm.R2, asm.R1, 4, asm.Word), // data_end
			asm.LoadMem(asm.R1, asm.R1, 0, asm.Word), // data
			asm.Add.Imm(asm.R1, headers+1),
			asm.JGT.Reg(asm.R1, asm.R2, "pass"),
			asm.StoreImm(asm.RFP, -4, 0, asm.Word),
			asm.LoadMapPtr(asm.R1, seen.FD()),
			asm.Mov.Reg(asm.R2, asm.RFP),
			asm.Add.Imm(asm.R2, -4),
			asm.FnMapLookupElem.Call(),
			asm.JEq.Imm(asm.R0, 0, "pass"),
			asm.LoadMem(asm.R1, asm.R0, 0, asm.DWord), // one queue, one CPU at a time
			asm.Add.Imm(asm.R1, 1),
			asm.StoreMem(asm.R0, 0, asm.R1, asm.DWord),
			asm.Mod.Imm(asm.R1, n),
			asm.Mov.Imm(asm.R0, 1), // XDP_DROP
			asm.JEq.Imm(asm.R1, 0, "exit"),
			asm.Mov.Imm(asm.R0, 2).WithSymbol("pass"), // XDP_PASS
			asm.Return().WithSymbol("exit"),
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { prog.Close() })
	h.AttachXDP(t, testenv.Uplink, prog)
	return func() int64 {
		var count int64
		if err := seen.Lookup(uint32(0), &count); err != nil {
			t.Fatal(err)
		}
		return count / int64(n)
	}
}
