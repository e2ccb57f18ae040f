package loader

import (
	"net"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"
)

// counting makes a Lock load a program that counts every packet twice: in row
// 0 of backend_counters, which grows, and in entry 0 of verdicts, which does
// not. Another salt is another program.
func counting(salt int32) func(*Lock) {
	return func(l *Lock) {
		l.spec = func() (*ebpf.CollectionSpec, error) {
			ins := asm.Instructions{asm.Mov.Imm(asm.R7, salt), asm.StoreImm(asm.RFP, -4, 0, asm.Word)}
			for _, name := range []string{LBMapBackendCounters, LBMapVerdicts} {
				ins = append(ins, countIn(name)...)
			}
			ins = append(ins,
				asm.Mov.Imm(asm.R0, 1).WithSymbol("drop"), // XDP_DROP
				asm.Return(),
			)
			return withProgram(ins...)
		}
	}
}

// countIn adds 1 to the first number of entry 0 of a per-CPU array.
func countIn(name string) asm.Instructions {
	return asm.Instructions{
		asm.LoadMapPtr(asm.R1, 0).WithReference(name),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, -4),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "drop"),
		asm.LoadMem(asm.R1, asm.R0, 0, asm.DWord),
		asm.Add.Imm(asm.R1, 1),
		asm.StoreMem(asm.R0, 0, asm.R1, asm.DWord),
	}
}

// flood sends frames out of an interface until stop is closed, and counts them.
func (b *bench) flood(iface string, stop <-chan struct{}) (sent func() (int, error)) {
	n := 0
	wait := b.Go(func() error {
		dev, err := net.InterfaceByName(iface)
		if err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		frame := make([]byte, 60)
		copy(frame, []byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5})
		for {
			select {
			case <-stop:
				return nil
			default:
			}
			if err := unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: dev.Index}); err != nil && err != unix.ENOBUFS {
				return err
			}
			n++
		}
	})
	return func() (int, error) { err := wait(); return n, err }
}

func TestSumsStayExactWhilePacketsFlow(t *testing.T) {
	b := newBench(t)
	b.attach(two, counting(0))
	stop := make(chan struct{})
	floods := []func() (int, error){b.flood("d0-far", stop), b.flood("d1-far", stop)}
	b.await("packets to flow", func() bool { return b.verdict0() > 100 })
	for salt := range int32(16) {
		o := two
		o.Sizes.Services = 16 << (salt / 2) // every other time the program alone is new
		r := b.attach(o, counting(salt))
		if salt > 0 && r.Outcome != OutcomeUpgraded {
			t.Errorf("attach %d: %+v, want upgraded", salt, r)
		}
	}
	before := b.verdict0()
	b.await("packets to flow still", func() bool { return b.verdict0() > before })
	close(stop)
	for _, sent := range floods {
		n, err := sent()
		if err != nil || n == 0 {
			t.Fatalf("sent %d frames: %v", n, err)
		}
	}
	// The last frames may still be on their way.
	b.await("both counts to be equal", func() bool { return b.service0() == b.verdict0() })
	t.Logf("%d packets over 16 upgrades", b.verdict0())
	if got := b.open().Maps().Services.MaxEntries(); got != 16<<7 {
		t.Errorf("%d services, want %d", got, 16<<7)
	}
}

func (b *bench) verdict0() uint64 {
	b.t.Helper()
	i := b.openOnce()
	defer i.Close()
	sums, err := i.Maps().ReadVerdicts()
	if err != nil {
		b.t.Fatal(err)
	}
	return sums[0]
}

func (b *bench) service0() uint64 {
	b.t.Helper()
	i := b.openOnce()
	defer i.Close()
	sums, err := i.Maps().ReadCounters(TableServices)
	if err != nil {
		b.t.Fatal(err)
	}
	return sums[0].Packets[0]
}

// openOnce opens the instance; the caller closes it.
func (b *bench) openOnce() *Instance {
	b.t.Helper()
	i, err := Open(b.dir)
	if err != nil {
		b.t.Fatal(err)
	}
	return i
}
