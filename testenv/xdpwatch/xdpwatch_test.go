package xdpwatch

import (
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"

	"fairlead/testenv"
	"fairlead/testenv/leak"
)

func TestMain(m *testing.M) { leak.Each(m).Run() }

// A wire is sender – middle – receiver, and a program that answers every IPv4
// frame from the sender with one verdict.
type wire struct {
	sender, middle, receiver *testenv.Host
	frame                    []byte
}

func newWire(t *testing.T) wire {
	w := wire{testenv.NewHost(t, "sender"), testenv.NewHost(t, "middle"), testenv.NewHost(t, "receiver"), nil}
	testenv.Cable(t, w.sender, "10.0.1.2/24", w.middle, "10.0.1.1/24")
	testenv.Cable(t, w.receiver, "10.0.2.2/24", w.middle, "10.0.2.1/24")
	w.frame = testenv.UDPFrame(testenv.FrameSpec{
		Src: netip.MustParseAddrPort("10.0.1.2:1000"), Dst: netip.MustParseAddrPort("10.0.2.2:2000"),
	})
	return w
}

// verdict attaches a program that runs insns and returns r0.
func (w wire) verdict(t *testing.T, insns ...asm.Instruction) {
	t.Helper()
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.XDP, License: "GPL", Instructions: append(insns, asm.Return()),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { prog.Close() })
	w.middle.AttachXDP(t, "sender", prog)
}

func redirect(ifindex int) []asm.Instruction {
	return []asm.Instruction{
		asm.Mov.Imm(asm.R1, int32(ifindex)),
		asm.Mov.Imm(asm.R2, 0),
		asm.FnRedirect.Call(),
	}
}

func (w wire) index(t *testing.T, name string) (index int) {
	t.Helper()
	w.middle.Do(t, func() error {
		l, err := netlink.LinkByName(name)
		if err == nil {
			index = l.Attrs().Index
		}
		return err
	})
	return index
}

// send injects n frames and returns what was counted when all have met their
// fate, which by says.
func (w wire) send(t *testing.T, n int, watch *Watch, by func(Counts) uint64) Counts {
	t.Helper()
	frames := make([][]byte, n)
	for i := range frames {
		frames[i] = w.frame
	}
	w.sender.Inject(t, "middle", frames...)
	await(t, "counts", uint64(n), func() uint64 { return by(watch.Counts()) })
	return watch.Counts()
}

func await(t *testing.T, what string, want uint64, get func() uint64) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); get() != want; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("%s: %d, want %d", what, get(), want)
		}
	}
}

const frames = 1000

func TestEveryRedirectedFrameIsReceivedOrLost(t *testing.T) {
	w := newWire(t)
	far := w.receiver.CountFrames(t, "middle")
	watch := New(t, w.middle)
	w.verdict(t, redirect(w.index(t, "receiver"))...)
	got := w.send(t, frames, watch, func(c Counts) uint64 { return c.Redirected + c.Lost() })
	if got.RedirectErrors+got.Exceptions+got.Transmitted != 0 {
		t.Errorf("faults: %+v", got)
	}
	await(t, "received", frames-got.Lost(), func() uint64 { return far.Counts().IPv4 })
}

func TestRedirectToNowhereIsAnError(t *testing.T) {
	w := newWire(t)
	watch, other := New(t, w.middle), New(t, w.sender)
	w.verdict(t, redirect(99999)...)
	got := w.send(t, frames, watch, Counts.Lost)
	if diff := cmp.Diff(Counts{RedirectErrors: frames}, got); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
	if got := other.Counts(); got != (Counts{}) {
		t.Errorf("another namespace counts %+v", got)
	}
}

func TestRedirectToADeafFarEndIsLost(t *testing.T) {
	w := newWire(t)
	watch := New(t, w.middle)
	w.receiver.SetFeature(t, "middle", "rx-gro", false) // no NAPI, no program
	w.verdict(t, redirect(w.index(t, "receiver"))...)
	// Older kernels refuse the frame at the device, newer ones the redirect.
	got := w.send(t, frames, watch, Counts.Lost)
	if got.Redirected != 0 {
		t.Errorf("counts: %+v", got)
	}
}

func TestTransmittedFramesAreCounted(t *testing.T) {
	w := newWire(t)
	back := w.sender.CountFrames(t, "middle")
	watch := New(t, w.middle)
	w.verdict(t, asm.Mov.Imm(asm.R0, 3)) // XDP_TX
	got := w.send(t, frames, watch, func(c Counts) uint64 { return c.Transmitted + c.Lost() })
	await(t, "received", frames-got.Lost(), func() uint64 { return back.Counts().IPv4 })
}

func TestAbortIsAnException(t *testing.T) {
	w := newWire(t)
	watch := New(t, w.middle)
	w.verdict(t, asm.Mov.Imm(asm.R0, 0))
	w.send(t, frames, watch, func(c Counts) uint64 { return c.Exceptions })
}
