package testenv

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var spec = FrameSpec{
	Src: netip.MustParseAddrPort("192.0.2.1:1234"), Dst: netip.MustParseAddrPort("192.0.2.2:80"),
	Payload: []byte("odd"), Flags: ACK | PSH, Options: []byte{1, 1, 1, 0},
}

// spec6 is spec between addresses of IPv6.
func spec6() FrameSpec {
	f := spec
	f.SrcMAC, f.DstMAC = MAC(f.Src.Addr()), MAC(f.Dst.Addr())
	f.Src, f.Dst = netip.MustParseAddrPort("[2001:db8::1]:1234"), netip.MustParseAddrPort("[2001:db8::2]:80")
	return f
}

func TestInjectedFramesAreCountedAndSniffed(t *testing.T) {
	const n = 2000 // more than a veth's ring holds
	client, server := NewHost(t, "client"), NewHost(t, "server")
	Cable(t, client, "192.0.2.1/24", server, "192.0.2.2/24")
	counter := server.CountFrames(t, "client")
	sniffer := server.Sniff(t, "client")

	want := make([][]byte, n)
	for i := range want {
		f := spec
		f.Seq = uint32(i * len(f.Payload))
		want[i] = TCPFrame(f)
	}
	client.Inject(t, "server", want...)
	for i := range want {
		got, err := sniffer.Next(within(t))
		if err != nil {
			t.Fatalf("frame %d: %v", i, err)
		}
		if !bytes.Equal(got, want[i]) {
			t.Fatalf("frame %d (-want +got):\n%s", i, cmp.Diff(want[i], got))
		}
	}
	if got := counter.Counts().IPv4; got != n {
		t.Errorf("counted %d frames, want %d", got, n)
	}
	stop := errors.New("stop")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(stop)
	if _, err := sniffer.Next(ctx); !errors.Is(err, stop) {
		// The server's resets leave by the interface and are not ours.
		t.Errorf("Next with a done context: %v, want %v", err, stop)
	}
}

// sendUDP sends n datagrams from the stack of the namespace that it runs in.
func sendUDP(n int) error {
	c, err := net.Dial("udp", "192.0.2.2:9")
	if err != nil {
		return err
	}
	defer c.Close()
	for range n {
		// Refused is what ICMP says of earlier ones.
		_, err := c.Write([]byte("hello"))
		if err != nil && !errors.Is(err, syscall.ECONNREFUSED) {
			return err
		}
	}
	return nil
}

func TestCableDecidesWhetherChecksumsArePartial(t *testing.T) {
	for name, opts := range map[string][]CableOption{"whole": nil, "partial": {TXChecksum()}} {
		t.Run(name, func(t *testing.T) {
			client, server := NewHost(t, "client"), NewHost(t, "server")
			Cable(t, client, "192.0.2.1/24", server, "192.0.2.2/24", opts...)
			sniffer := server.Sniff(t, "client")
			client.Do(t, func() error { return sendUDP(1) })
			frame, err := sniffer.Next(within(t))
			if err != nil {
				t.Fatal(err)
			}
			if err := VerifyFrame(frame); (err == nil) != (opts == nil) {
				t.Errorf("frame from the stack: %v", err)
			}
		})
	}
}

func TestPinnedSendersAreReceivedOnTheirCPU(t *testing.T) {
	const n = 50
	client, server := NewHost(t, "client"), NewHost(t, "server")
	Cable(t, client, "192.0.2.1/24", server, "192.0.2.2/24", Queues(2))
	counter := server.CountFrames(t, "client")
	var pinned []int
	for cpu := range 2 {
		err := client.In(func() error {
			if err := PinCPU(cpu); err != nil {
				return err
			}
			return sendUDP(n)
		})
		switch {
		case err == nil:
			pinned = append(pinned, cpu)
		case cpu == 0 || !errors.Is(err, syscall.EINVAL): // not: there is one CPU only
			t.Fatal(err)
		}
	}
	var cpus []uint64
	if err := counter.counts.Lookup(uint32(0), &cpus); err != nil {
		t.Fatal(err)
	}
	for _, cpu := range pinned {
		if cpus[cpu] == 0 {
			t.Errorf("IPv4 frames by CPU: %v, want some on each of %v", cpus, pinned)
		}
	}
}

func TestBuiltFramesVerify(t *testing.T) {
	for name, frame := range map[string][]byte{
		"TCP":                  TCPFrame(spec),
		"UDP":                  UDPFrame(spec),
		"UDP without checksum": UDPFrame(FrameSpec{Src: spec.Src, Dst: spec.Dst, NoChecksum: true}),
		"TCP over IPv6":        TCPFrame(spec6()),
		"UDP over IPv6":        UDPFrame(spec6()),
	} {
		if err := VerifyFrame(append(frame, 0, 0, 7)); err != nil {
			t.Errorf("padded %s: %v", name, err)
		}
		tagged := append(bytes.Clone(frame[:12]), 0x81, 0, 0, 5)
		if err := VerifyFrame(append(tagged, frame[12:]...)); err != nil {
			t.Errorf("tagged %s: %v", name, err)
		}
		for n := range frame {
			if VerifyFrame(frame[:n]) == nil {
				t.Errorf("%s cut to %d bytes verifies", name, n)
			}
		}
	}
}

func TestVerifyFrameFindsEveryFlippedBit(t *testing.T) {
	for name, good := range map[string][]byte{"TCP": TCPFrame(spec), "UDP": UDPFrame(spec)} {
		for bit := 12 * 8; bit < len(good)*8; bit++ {
			bad := bytes.Clone(good)
			bad[bit/8] ^= 1 << (bit % 8)
			if VerifyFrame(bad) == nil {
				t.Errorf("%s with byte %d, bit %d flipped verifies", name, bit/8, bit%8)
			}
		}
	}
	// No checksum covers traffic class, flow label and hop limit.
	for name, good := range map[string][]byte{"TCP": TCPFrame(spec6()), "UDP": UDPFrame(spec6())} {
		for at := 12; at < len(good); at++ {
			bad := bytes.Clone(good)
			bad[at] ^= 0x80
			free := at > ethLen && at < ethLen+4 || at == ethLen+7
			if VerifyFrame(bad) == nil && !free {
				t.Errorf("%s over IPv6 with byte %d changed verifies", name, at)
			}
		}
	}
}
