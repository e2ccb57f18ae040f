package loader

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
)

// passProgram returns an XDP program that passes everything.
func passProgram(t *testing.T) *ebpf.Program {
	t.Helper()
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "stranger", Type: ebpf.XDP, AttachType: ebpf.AttachXDP, License: "MIT",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 2), asm.Return()},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

func TestForeignProgramIsNamedAndReplacedByForce(t *testing.T) {
	for name, flags := range map[string]int{"native": nl.XDP_FLAGS_DRV_MODE, "generic": nl.XDP_FLAGS_SKB_MODE} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			p := passProgram(t)
			b.Do(t, func() error {
				dev, err := netlink.LinkByName("d1")
				if err != nil {
					return err
				}
				return netlink.LinkSetXdpFdWithFlags(dev, p.FD(), flags)
			})
			_, err := b.tryAttach(two, nil)
			if !errors.Is(err, ErrForeign) || !strings.Contains(fmt.Sprint(err), "(stranger)") {
				t.Errorf("Attach: %v, want ErrForeign and the program's name", err)
			}
			if _, err := os.Stat(b.dir); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("pin directory after a refusal: %v", err)
			}
			o := two
			o.Force = true
			b.attach(o, nil)
			b.wantLinks(map[string]AttachMode{"d0": AttachNative, "d1": AttachNative})
			b.detach()
			b.wantNothing()
		})
	}
}

func TestForeignLinkIsNamedAndLeftAlone(t *testing.T) {
	b := newBench(t)
	var foreign link.Link
	b.Do(t, func() (err error) {
		dev, err := netlink.LinkByName("d1")
		if err != nil {
			return err
		}
		foreign, err = attachXDP(passProgram(t), dev.Attrs().Index, link.XDPGenericMode)
		return err
	})
	info, err := foreign.Info()
	if err != nil {
		t.Fatal(err)
	}
	for _, force := range []bool{false, true} {
		o := two
		o.Force = force
		_, err := b.tryAttach(o, nil)
		want := fmt.Sprintf("link %d of process %d", info.ID, os.Getpid())
		if !errors.Is(err, ErrForeign) || !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("Attach, force %t: %v, want ErrForeign and %q", force, err, want)
		}
	}
	if err := foreign.Close(); err != nil {
		t.Fatal(err)
	}
	b.detachNothing()
}

// detachNothing checks that nothing is attached, once what was closed is gone:
// the kernel detaches a closed link some time later.
func (b *bench) detachNothing() {
	b.t.Helper()
	b.await("d1 to be free", func() bool {
		free := false
		b.Do(b.t, func() error {
			dev, err := netlink.LinkByName("d1")
			free = err == nil && !dev.Attrs().Xdp.Attached
			return err
		})
		return free
	})
	b.wantNothing()
}

func TestInstanceOfAnotherDirectoryIsForeign(t *testing.T) {
	b := newBench(t)
	b.attach(two, nil)
	other := *b
	other.dir += "2"
	_, err := other.tryAttach(two, nil)
	if !errors.Is(err, ErrForeign) || !strings.Contains(fmt.Sprint(err), LBProgFairlead) {
		t.Errorf("Attach in another directory: %v, want ErrForeign and our program's name", err)
	}
	b.wantWhole()
	b.detach()
	b.wantNothing()
}

func TestAttachWaitsForLinksThatEnd(t *testing.T) {
	b := newBench(t)
	for range 20 {
		b.attach(two, nil)
		for _, name := range two.Interfaces {
			if err := os.Remove(linkPin(b.dir, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	b.attach(two, nil)
	b.wantWhole()
	b.detach()
	b.wantNothing()
}
