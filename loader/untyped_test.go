package loader

import (
	"errors"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// TestLinkOfAnotherLibraryVersion upgrades a link whose program was loaded
// without an attach type, as older versions of the library do.
func TestLinkOfAnotherLibraryVersion(t *testing.T) {
	b := newBench(t)
	b.attach(two, nil)
	b.plantUntypedLink("d0")
	prog := b.open().Program()
	k, err := loadLink(linkPin(b.dir, "d0"))
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	if err := k.Update(prog); !errors.Is(err, unix.EINVAL) {
		t.Fatalf("Update: %v, want EINVAL: is the kernel's rule gone?", err)
	}
	b.attach(two, otherProgram)
	b.wantWhole()
	b.wantLinks(map[string]AttachMode{"d0": AttachNative, "d1": AttachNative})
	b.detach()
	b.wantNothing()
}

// plantUntypedLink replaces the link of an interface.
func (b *bench) plantUntypedLink(iface string) {
	b.t.Helper()
	spec, err := passObject()
	if err != nil {
		b.t.Fatal(err)
	}
	untyped := spec.Programs[LBProgFairlead].Copy()
	untyped.AttachType = ebpf.AttachNone
	untyped.Name = "old"
	maps := map[string]*ebpf.Map{}
	have := b.open().Maps()
	for name, s := range spec.Maps {
		for _, p := range places {
			if p.name == name {
				maps[name] = *p.field(have)
				s.MaxEntries = maps[name].MaxEntries()
			}
		}
	}
	spec.Programs = map[string]*ebpf.ProgramSpec{"old": untyped}
	loaded, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: maps})
	if err != nil {
		b.t.Fatal(err)
	}
	defer loaded.Close()
	b.Do(b.t, func() error {
		k, err := loadLink(linkPin(b.dir, iface))
		if err != nil {
			return err
		}
		defer k.Close()
		dev, err := netlink.LinkByName(iface)
		if err != nil {
			return err
		}
		if err := k.remove(); err != nil {
			return err
		}
		made, err := attachXDP(loaded.Programs["old"], dev.Attrs().Index, link.XDPDriverMode)
		if err != nil {
			return err
		}
		defer made.Close()
		return made.Pin(linkPin(b.dir, iface))
	})
}
