package livegen

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sync/errgroup"

	"fairlead/testenv"
	"fairlead/testenv/leak"
)

func TestMain(m *testing.M) { leak.Each(m).Run() }

// spec describes frames for nobody: the receiver's stack drops them unanswered.
func spec() testenv.FrameSpec {
	return testenv.FrameSpec{
		Src:    netip.MustParseAddrPort("10.0.1.2:1"),
		Dst:    netip.MustParseAddrPort("203.0.113.1:80"),
		DstMAC: testenv.MAC(netip.MustParseAddr("10.0.1.1")),
		Flags:  testenv.SYN,
	}
}

func pair(t *testing.T) (sender, receiver *testenv.Host) {
	t.Helper()
	sender, receiver = testenv.NewHost(t, "sender"), testenv.NewHost(t, "receiver")
	testenv.Cable(t, sender, "10.0.1.2/24", receiver, "10.0.1.1/24")
	return sender, receiver
}

// sink drops everything, so that the far end's stack does not slow the test.
func sink(t *testing.T, h *testenv.Host, iface string) {
	t.Helper()
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.XDP, License: "MIT",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 1), asm.Return()},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { prog.Close() })
	h.AttachXDP(t, iface, prog)
}

func TestEverySentFrameArrives(t *testing.T) {
	const n = 200_000
	sender, receiver := pair(t)
	far := receiver.CountFrames(t, "sender")
	g := New(t, Options{
		Host: sender, Iface: "receiver", Frame: testenv.TCPFrame(spec()), Vary: Vary{Ports: 65535},
	})
	var sent int
	for range 2 {
		r, err := g.Send(n)
		if err != nil || r.Sent+r.Lost != n {
			t.Fatalf("sent %+v, %v, want %d in all", r, err, n)
		}
		sent += r.Sent
	}
	await(t, func() bool { return far.Counts().IPv4 == uint64(sent) })
}

func await(t *testing.T, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatal("waited for too long")
		}
	}
}

func TestFramesVaryAndVerify(t *testing.T) {
	const n, ports, addrs = 3000, 500, 3
	tcp := spec()
	tcp.Payload = make([]byte, 301) // beyond what is rewritten
	zero := spec()
	zero.NoChecksum = true
	six := tcp
	six.SrcMAC = testenv.MAC(six.Src.Addr())
	six.Src, six.Dst = netip.MustParseAddrPort("[2001:db8:1:1::2]:1"), netip.MustParseAddrPort("[2001:db8:ff::1]:80")
	for name, frame := range map[string][]byte{
		"TCP":                  testenv.TCPFrame(tcp),
		"UDP":                  testenv.UDPFrame(spec()),
		"UDP without checksum": testenv.UDPFrame(zero),
		"TCP over IPv6":        testenv.TCPFrame(six),
		"UDP over IPv6":        testenv.UDPFrame(six),
	} {
		for _, random := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, random %t", name, random), func(t *testing.T) {
				sender, receiver := pair(t)
				sniffer := receiver.Sniff(t, "sender")
				g := New(t, Options{
					Host: sender, Iface: "receiver", Frame: frame,
					Vary: Vary{Ports: ports, Addrs: addrs, Random: random},
				})
				r, err := g.Send(n)
				if err != nil {
					t.Fatal(err)
				}
				seen := read(t, sniffer, r.Sent)
				if want := ports * addrs; !random && r.Lost == 0 && len(seen) != want {
					t.Errorf("%d sources, want %d", len(seen), want)
				}
				for s := range seen {
					if n := s.Addr().As4()[3]; n < 2 || n > 4 || s.Port() < 1 || s.Port() > ports {
						t.Errorf("source %s is out of range", s)
					}
				}
			})
		}
	}
}

// read takes n frames off the sniffer, verifies them and returns the sources.
func read(t *testing.T, s *testenv.Sniffer, n int) map[netip.AddrPort]bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	seen := map[netip.AddrPort]bool{}
	for i := range n {
		f, err := s.Next(ctx)
		if err != nil {
			t.Fatalf("frame %d of %d: %v", i, n, err)
		}
		if err := testenv.VerifyFrame(f); err != nil {
			t.Fatalf("frame %d: %v", i, err)
		}
		l, err := layoutOf(f)
		if err != nil {
			t.Fatalf("frame %d: %v", i, err)
		}
		addr := netip.AddrFrom4([4]byte(f[l.src:]))
		seen[netip.AddrPortFrom(addr, binary.BigEndian.Uint16(f[l.l4:]))] = true
	}
	return seen
}

func TestLostFramesAreReported(t *testing.T) {
	const n = 10_000
	sender, receiver := pair(t)
	receiver.SetFeature(t, "sender", "rx-gro", false) // nobody polls
	g := New(t, Options{Host: sender, Iface: "receiver", Frame: testenv.UDPFrame(spec())})
	if r, err := g.Send(n); err != nil || r.Sent != 0 || r.Lost != n {
		t.Errorf("sent %+v, %v, want %d lost", r, err, n)
	}
}

func TestRateIsPrinted(t *testing.T) {
	const n = 500_000
	sender, receiver := pair(t)
	sink(t, receiver, "sender")
	g := New(t, Options{
		Host: sender, Iface: "receiver", Frame: testenv.TCPFrame(spec()), CPU: new(0),
		Vary: Vary{Ports: 65535, Addrs: 1 << 16, Random: true},
	})
	r, err := g.Send(n)
	if err != nil || r.Sent+r.Lost != n {
		t.Fatalf("sent %+v, %v, want %d in all", r, err, n)
	}
	t.Logf("%.2f Mpps, %d lost", r.PPS()/1e6, r.Lost)
}

func TestRunKeepsToItsRate(t *testing.T) {
	const rate, enough = 20_000, 2_000
	sender, receiver := pair(t)
	far := receiver.CountFrames(t, "sender")
	g := New(t, Options{Host: sender, Iface: "receiver", Frame: testenv.TCPFrame(spec())})
	ctx, cancel := context.WithCancelCause(t.Context())
	errDone := errors.New("done")
	var eg errgroup.Group
	eg.Go(func() error {
		r, err := g.Run(ctx, rate)
		if float64(r.Sent+r.Lost) > rate*r.Took.Seconds()+1 || r.Sent < enough {
			t.Errorf("sent %+v at a rate of %d", r, rate)
		}
		return err
	})
	await(t, func() bool { return far.Counts().IPv4 >= enough })
	cancel(errDone)
	if err := eg.Wait(); !errors.Is(err, errDone) {
		t.Error(err)
	}
}

func TestBadTemplatesAreRefused(t *testing.T) {
	fragment := spec()
	fragment.Fragment = 0x2000
	high := spec()
	high.Src = netip.MustParseAddrPort("10.0.1.2:65535")
	for name, frame := range map[string][]byte{
		"empty":             nil,
		"fragment":          testenv.TCPFrame(fragment),
		"port out of range": testenv.TCPFrame(high),
	} {
		if _, err := program(frame, Vary{Ports: 2, Addrs: 1}, 0, 1); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}
