package lbtest

import (
	"encoding/hex"
	"maps"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"fairlead/loader"
	"fairlead/testenv"
)

const (
	tcp = 6
	udp = 17

	fin = testenv.FIN
	syn = testenv.SYN
	rst = testenv.RST
	ack = testenv.ACK
)

// A row is one packet and all that it does.
type row struct {
	name  string
	given func(*world) // what the world is like, if not as reset leaves it
	frame []byte
	// linear is how much of the frame is in its first buffer; 0: what the kernel
	// likes.
	linear int
	want   loader.Verdict
	out    []byte // what leaves; nil: the frame as it came
	// egress is the interface of FORWARD_REDIRECT.
	egress uint32
	counts map[string]uint64 // beside the verdict
}

// segment returns a TCP segment as the client or a backend sends it.
func segment(src, dst netip.AddrPort, flags uint8) []byte {
	return testenv.TCPFrame(testenv.FrameSpec{
		Src: src, Dst: dst, Flags: flags, Seq: 0x01020304, Ack: 0x01020305, Payload: []byte("fairlead"),
	})
}

// numbered is a segment with these numbers.
func numbered(src, dst netip.AddrPort, flags uint8, seq, ackSeq uint32) []byte {
	return testenv.TCPFrame(testenv.FrameSpec{Src: src, Dst: dst, Flags: flags, Seq: seq, Ack: ackSeq})
}

func datagram(src, dst netip.AddrPort) []byte {
	return testenv.UDPFrame(testenv.FrameSpec{Src: src, Dst: dst, Payload: []byte("fairlead")})
}

// toBackend is what leaves for a backend when the client has sent the same.
func toBackend(to netip.AddrPort, flags uint8) []byte {
	return leaving(client, to, flags)
}

// toClient is what leaves for the client when a backend has sent the same.
func toClient(from netip.AddrPort, flags uint8) []byte {
	return leaving(from, client, flags)
}

// leaving is what leaves when somebody has sent the same to us.
func leaving(src, dst netip.AddrPort, flags uint8) []byte {
	return testenv.TCPFrame(testenv.FrameSpec{
		Src: src, Dst: dst, SrcMAC: testenv.MAC(router), TTL: 63,
		Flags: flags, Seq: 0x01020304, Ack: 0x01020305, Payload: []byte("fairlead"),
	})
}

// leavingDatagram is the same of UDP.
func leavingDatagram(src, dst netip.AddrPort) []byte {
	return testenv.UDPFrame(testenv.FrameSpec{Src: src, Dst: dst, SrcMAC: testenv.MAC(router), TTL: 63, Payload: []byte("fairlead")})
}

// resetTo is the answer to a segment from src; the Ethernet addresses change places.
func resetTo(src, dst netip.AddrPort, flags uint8, seq, ackSeq uint32) []byte {
	f := testenv.TCPFrame(testenv.FrameSpec{
		Src: dst, Dst: src, Flags: flags, Seq: seq, Ack: ackSeq, Fragment: 0x4000, Window: 1,
	})
	f[14+20+14+1] = 0 // FrameSpec has no window of 0
	sum := ^testenv.Sum(edit(f, 50, 0, 0)[34:], testenv.Sum([]byte{0, tcp, 0, 20}, testenv.Sum(f[26:34], 0)))
	return edit(f, 50, byte(sum>>8), byte(sum))
}

// counted is what a forwarded packet counts.
func counted(backend, dir string, bytes uint64) map[string]uint64 {
	return map[string]uint64{
		"backend " + backend + " " + dir + " packets": 1, "backend " + backend + " " + dir + " bytes": bytes,
	}
}

// made is what the packet that makes a flow counts.
func made(backend string, bytes uint64) map[string]uint64 {
	n := counted(backend, "forward", bytes)
	n["backend "+backend+" flows"] = 1
	return n
}

// check returns what is wrong with the world after the row's packet.
func (r row) check(w *world) string {
	w.tb.Helper()
	if r.linear > 0 && !w.canCut {
		return "" // the frame would be another one
	}
	w.reset()
	if r.given != nil {
		r.given(w)
	}
	want := effect{Egress: r.egress, Counters: map[string]uint64{r.want.String(): 1}}
	maps.Copy(want.Counters, r.counts)
	out := r.out
	if out == nil {
		out = r.frame
	}
	want.Frame = hex.EncodeToString(out)
	switch r.want.Kind() {
	case loader.KindPass:
		want.Action = Pass
	case loader.KindDrop, loader.KindHold:
		want.Action = Drop
	default:
		want.Action = TX
		if r.want == loader.LBVerdictFORWARD_REDIRECT {
			want.Action = Redirect
		}
	}
	if diff := w.rehearse(r, want); diff != "" {
		return diff
	}
	return cmp.Diff(want, w.effectOf(r.frame, r.linear))
}

// rows are all tables together.
func rows() []row {
	var all []row
	for _, table := range [][]row{
		passRows(), openRows(), tryRows(), knownRows(), checkRows(), lifeRows(), resetRows(), troubleRows(), tableRows(), answerRows(),
		bigRows(), errorRows(), strangeRows(), echoRows(), oddRows(), bufferRows(), clientRows(), limitRows(), portRows(), sourceRows(), disguisedRows(),
		floodRows(), broughtRows(), fragmentRows(), strayRows(), lateRows(), hostRows(),
		balanceRows(), leastRows(), resumeRows(), tiedRows(), boundedRows(), zoneRows(), eventRows(),
	} {
		all = append(all, table...)
	}
	return all
}

func TestEachPacketHasItsEffect(t *testing.T) { checkEach(t, newWorld(t, 0), rows()) }

// checkEach sends the packet of each row to a new world.
func checkEach(t *testing.T, w *world, rows []row) {
	t.Helper()
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			testenv.PinThread(t)
			w.tb = t
			if diff := r.check(w); diff != "" {
				t.Errorf("effect (-want +got):\n%s", diff)
			}
		})
	}
}

func TestEveryVerdictHasARow(t *testing.T) {
	seen := map[loader.Verdict]bool{}
	for _, r := range slices.Concat(rows(), mixedRows()) {
		seen[r.want] = true
	}
	for v := range loader.Verdicts {
		if !seen[v] {
			t.Errorf("no row is about %s", v)
		}
	}
}

func TestEveryPacketIsCountedOnce(t *testing.T) {
	w := newWorld(t, 0)
	for _, r := range rows() {
		w.reset()
		w.send(r.frame, r.frame)
		if got := verdictSum(w); got != 2 {
			t.Errorf("%s: %d verdicts for 2 packets", r.name, got)
		}
	}
}

func verdictSum(w *world) uint64 {
	w.tb.Helper()
	sum := uint64(0)
	for _, n := range w.sums(loader.LBMapVerdicts) {
		sum += n
	}
	return sum
}

// TestEachFaultIsFound proves that the tables see what they are there to see.
func TestEachFaultIsFound(t *testing.T) {
	findEach(t, newWorld(t, Faults[0].N), Faults, rows())
}

// seed exchanges the fault of w.
func (w *world) seed(fault uint32) {
	w.tb.Helper()
	w.must(w.SetFault(fault))
	if w.dry != nil {
		w.must(w.dry.SetFault(fault))
	}
}

// findEach wants a row for each of the faults that sees it, and nothing without it.
func findEach(t *testing.T, w *world, faults []Fault, rows []row) {
	t.Helper()
	for _, f := range faults {
		t.Run(f.Text, func(t *testing.T) {
			testenv.PinThread(t)
			w.tb = t
			w.seed(f.N)
			at := slices.IndexFunc(rows, func(r row) bool { return r.check(w) != "" })
			if at < 0 {
				t.Fatalf("fault %d is not found", f.N)
			}
			w.seed(0)
			if diff := rows[at].check(w); diff != "" {
				t.Errorf("row %q without fault %d (-want +got):\n%s", rows[at].name, f.N, diff)
			}
		})
	}
}
