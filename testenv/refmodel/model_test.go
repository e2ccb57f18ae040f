package refmodel

import (
	"encoding/hex"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Frames made by hand, with checksums computed by another program.
const (
	syn       = "0200000000020200000000010800450000281234000040060257c6336407cb00710a9c400050000003e8000000005002faf0ae330000"
	synOut    = "020000000003020000000002080045000028123400003f06345ec63364070a0201029c401f90000003e8000000005002faf0bffa0000"
	synAck    = "020000000002020000000003080045000028123400004006335e0a020102c63364071f909c4000001388000003e95012faf0ac610000"
	synAckOut = "020000000001020000000002080045000028123400003f060357cb00710ac633640700509c4000001388000003e95012faf09a9a0000"
	synReset  = "020000000001020000000002080045000028000040004006d48acb00710ac633640700509c4000000000000003e950140000a9110000"
	data      = "02000000000202000000000108004500002d1234000040060252c6336407cb00710a9c400050000003e9000013895018faf0d0280000474554202f"
	dataOut   = "02000000000302000000000208004500002d123400003f063459c63364070a0201029c401f90000003e9000013895018faf0e1ef0000474554202f"
	dataReset = "020000000001020000000002080045000028000040004006d48acb00710ac633640700509c4000001389000000005004000099810000"
	query     = "0200000000020200000000010800450000211234000040110253c6336407cb00710a13880035000d35e97175657279"
	queryOut  = "020000000003020000000002080045000021123400003f113459c63364070a02010313880035000d66ef7175657279"
	queryICMP = "020000000001020000000002080045000038000040004001d47fcb00710ac63364070303b34900000000450000211234000040110253c6336407cb00710a13880035000d35e9"
)

var (
	client = netip.MustParseAddr("198.51.100.7")
	vip    = netip.MustParseAddr("203.0.113.10")
	web    = netip.MustParseAddr("10.2.1.2")
	dns    = netip.MustParseAddr("10.2.1.3")
)

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// newModel has a web service on row 1 and a DNS service on row 2, each with one backend.
func newModel() *Model {
	local := MAC{2, 0, 0, 0, 0, 2}
	ways := map[Addr]Hop{
		client: {DMAC: MAC{2, 0, 0, 0, 0, 1}, SMAC: local, Ifindex: 1},
		web:    {DMAC: MAC{2, 0, 0, 0, 0, 3}, SMAC: local, Ifindex: 5},
		dns:    {DMAC: MAC{2, 0, 0, 0, 0, 3}, SMAC: local, Ifindex: 1},
	}
	return &Model{
		Control: Control{
			Mode: ModeOn, Era: 1, Epoch: 1, Hz: 250, ReplyLimit: 1,
			Idle:  [IdleMax]uint32{1000, 2000, 3000, 4000, 5000},
			HashA: 0x9e3779b97f4a7c15, HashB: 0xc2b2ae3d27d4eb4f,
		},
		Listeners: map[Listener]uint32{{vip, 80, TCP}: 1, {vip, 53, UDP}: 2},
		VIPs:      map[Addr]uint32{vip: AddressService},
		Services: []Service{{}, {Slots: Run{0, 1}, SlotsAll: Run{0, 1}, Gen: 7, State: ServiceXDP, Flags: FlagLocal},
			{Slots: Run{1, 1}, SlotsAll: Run{1, 1}, Gen: 8, State: ServiceXDP}},
		Backends: []Backend{
			{Addr: web, Port: 8080, State: BackendUp, Gen: 3, Service: 1},
			{Addr: dns, State: BackendUp, Gen: 4, Service: 2},
		},
		Slots:   []uint32{0, 1},
		Devices: map[uint32]uint32{1: DeviceTX, 5: DeviceTX},
		Standby: map[Tuple]bool{},
		Now:     10000,
		Ingress: 1,
		FIB: func(_, dst Addr) (FIBResult, Hop) {
			if hop, ok := ways[dst]; ok {
				return FIBSuccess, hop
			}
			return FIBNotFwded, Hop{}
		},
		Clients:         map[Prefix]bool{},
		Sources:         map[Source]Credit{},
		Fragments:       map[FragmentKey]Fate{},
		Flows:           make(Table, 4),
		Turns:           make([]uint64, 3),
		Syns:            make([]Syns, 3),
		BackendCounters: make([]Counters, 2),
	}
}

// entries are all of the flow table.
func (m *Model) entries() []*Flow {
	var fs []*Flow
	for _, bucket := range m.Flows {
		for _, f := range bucket {
			if f != nil {
				fs = append(fs, f)
			}
		}
	}
	return fs
}

// pass sends a frame and checks what comes out; an empty want is the frame itself.
func pass(t *testing.T, m *Model, frame, want string, v Verdict) {
	t.Helper()
	if want == "" {
		want = frame
	}
	in := unhex(t, frame)
	res := m.Process(in, len(in))
	if res.Verdict != v {
		t.Fatalf("verdict is %v, want %v", res.Verdict, v)
	}
	if diff := cmp.Diff(want, hex.EncodeToString(res.Out)); diff != "" {
		t.Fatalf("frame out (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(frame, hex.EncodeToString(in)); diff != "" {
		t.Fatalf("the frame given was changed (-want +got):\n%s", diff)
	}
}

func TestTCPBothWays(t *testing.T) {
	m := newModel()
	pass(t, m, syn, synOut, ForwardRedirect)
	pass(t, m, synAck, synAckOut, ForwardTX)
	want := Counters{Packets: [2]uint64{1, 1}, Bytes: [2]uint64{40, 40}, Flows: 1}
	if diff := cmp.Diff(want, m.BackendCounters[0]); diff != "" {
		t.Errorf("backend counters (-want +got):\n%s", diff)
	}
	if len(m.entries()) != 2 || m.Turns[1] != 1 {
		t.Errorf("%d entries and turn %d, want 2 and 1", len(m.entries()), m.Turns[1])
	}
	for _, f := range m.entries() {
		if f.State != FlowAnswered || f.Idle != 1000 {
			t.Errorf("%v: state %d, idle %d, want answered, 1000", f.Key, f.State, f.Idle)
		}
	}
}

func TestUDPKeepsPortOfClient(t *testing.T) {
	m := newModel()
	pass(t, m, query, queryOut, ForwardTX)
	m.Now += 4000
	pass(t, m, query, queryOut, ForwardTX)
	if flows := m.BackendCounters[1].Flows; flows != 1 {
		t.Errorf("%d flows before the time-out, want 1", flows)
	}
	m.Now += 4001
	pass(t, m, query, queryOut, ForwardTX)
	if flows := m.BackendCounters[1].Flows; flows != 2 {
		t.Errorf("%d flows after the time-out, want 2", flows)
	}
}

func TestAnswers(t *testing.T) {
	m := newModel()
	m.Services[1].Slots.Length = 0
	m.Services[2].Slots.Length = 0
	pass(t, m, syn, synReset, AnswerReset)
	pass(t, m, syn, "", DropNoBackend)
	m.Now += 250
	pass(t, m, query, queryICMP, AnswerUnreachable)
	pass(t, m, query, "", DropNoBackend)
}

func TestBackendGone(t *testing.T) {
	m := newModel()
	pass(t, m, syn, synOut, ForwardRedirect)
	pass(t, m, synAck, synAckOut, ForwardTX)
	m.Backends[0].State = BackendDown
	pass(t, m, data, dataOut, ForwardRedirect)
	m.Control.Epoch++
	pass(t, m, data, dataReset, AnswerReset)
	if n := len(m.entries()); n != 1 {
		t.Errorf("%d entries left, want the backend's", n)
	}
	pass(t, m, synAck, "", DropReplyLimit)
	pass(t, m, data, "", PassNoFlow)
}

func TestRival(t *testing.T) {
	m := newModel()
	pass(t, m, syn, synOut, ForwardRedirect)
	first := *m.Find(tcpKey)

	m = newModel()
	m.Rivals = map[Tuple]Flow{tcpKey: first}
	pass(t, m, syn, synOut, ForwardRedirect)
	if c := m.BackendCounters[0]; c.Flows != 0 || c.Packets[Forward] != 1 {
		t.Errorf("counted %+v, want a packet and no flow", c)
	}
	m = newModel()
	first.Era = 9
	m.Rivals = map[Tuple]Flow{tcpKey: first}
	pass(t, m, syn, "", DropTableFull)

	m = newModel()
	m.Rivals = map[Tuple]Flow{tcpRev: {Key: tcpRev, Leave: tcpKey, Era: 9}}
	pass(t, m, syn, "", DropTupleTaken)
	if n := len(m.entries()); n != 1 {
		t.Errorf("%d entries left, want the rival's", n)
	}
}

func TestTupleTaken(t *testing.T) {
	m := newModel()
	m.take(tcpRev)
	for _, port := range otherPorts {
		m.take(towards(client, port))
	}
	pass(t, m, syn, "", DropTupleTaken)
	if m.Turns[1] != 4 {
		t.Errorf("%d turns were taken, want 4", m.Turns[1])
	}
}
