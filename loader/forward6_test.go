package loader

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"

	"fairlead/testenv"
)

// TestIPv6IsForwarded lets the shipped programs make a flow of IPv6, by the
// kernel's routes and neighbours.
func TestIPv6IsForwarded(t *testing.T) {
	b := newBench(t)
	client, backend := netip.MustParseAddr("2001:db8:1::7"), netip.MustParseAddr("2001:db8:3::2")
	service := netip.MustParseAddr("2001:db8:2::10")
	var in, out int
	b.Do(t, func() (err error) {
		if err := errors.Join(setSysctl("forwarding", "1"), setSysctl("disable_ipv6", "0")); err != nil {
			return err
		}
		if in, err = meet("d0", client); err != nil {
			return err
		}
		out, err = meet("d1", backend)
		return err
	})
	o := twoOfBoth()
	o.Fill = func(m *Maps) error {
		m.SlotsView().Store(0, 2)
		tcp := uint8(6)
		return errors.Join(
			m.Services.Put(uint32(1), Service{Gen: 1, State: uint8(LBServiceStateSERVICE_XDP), Slots: 1, SlotsAll: 1}),
			m.Backends.Put(uint32(2), Backend{Addr: AddressOf(backend), Gen: 1, Service: 1, State: uint8(LBBackendStateBACKEND_UP)}),
			m.Listeners6.Put(Listener6{Addr: AddressOf(service), Port: 80 << 8, Proto: tcp}, uint32(1)),
			m.VIPs6.Put(AddressOf(service), uint32(1)),
			m.Devices.Put(uint32(in), Device{}), m.Devices.Put(uint32(out), Device{}),
		)
	}
	b.attach(o, realProgram)
	frame := synTo(client, service)
	var action uint32
	options := ebpf.RunOptions{Data: frame, DataOut: make([]byte, 200), Context: struct{ Data, End, Meta, In, Queue, Out uint32 }{
		End: uint32(len(frame)), In: uint32(in)}}
	b.Do(t, func() (err error) {
		action, err = b.open().Program().Run(&options)
		return err
	})
	verdicts, err := b.open().Maps().ReadVerdicts()
	if err != nil {
		t.Fatal(err)
	}
	if action != 4 || verdicts[LBVerdictFORWARD_REDIRECT] != 1 {
		t.Fatalf("action %d, verdicts %v, want a redirect", action, verdicts)
	}
	sent := options.DataOut
	if got := netip.AddrFrom16([16]byte(sent[38:54])); got != backend || sent[21] != 63 || sent[5] != 9 {
		t.Errorf("it goes to %v by %x, with hop limit %d", got, sent[:6], sent[21])
	}
	if sum := testenv.Sum(sent[22:], testenv.Sum([]byte{0, 6, 0, 20}, 0)); sum != 0xffff {
		t.Errorf("the TCP checksum is wrong: the sum is %#04x", sum)
	}
	wantHashes(t, b.open().Maps(), 2)
}

// wantHashes wants n entries in the flow tables, with the hashes that the kernel has for them.
func wantHashes(t *testing.T, m *Maps, n int) {
	t.Helper()
	table, err := m.FlowTable()
	if err != nil {
		t.Fatal(err)
	}
	defer table.Close()
	table.Each(func(e Entry) bool {
		n--
		if h := m.ControlView().hash(&e); e.Tag != uint16(h>>16) {
			t.Errorf("hash %#x of an entry with the tag %#x", h, e.Tag)
		}
		return true
	})
	if n != 0 {
		t.Errorf("%d entries are missing", n)
	}
}

// setSysctl sets what the calling thread's host does with IPv6.
func setSysctl(name, value string) error {
	return os.WriteFile("/proc/sys/net/ipv6/conf/all/"+name, []byte(value), 0)
}

// meet gives an interface of the calling thread's host an address in the network
// of a neighbour that it knows, and returns its index.
func meet(iface string, neighbour netip.Addr) (int, error) {
	l, err := netlink.LinkByName(iface)
	if err != nil {
		return 0, err
	}
	own := &netlink.Addr{IPNet: &net.IPNet{IP: neighbour.Prev().AsSlice(), Mask: net.CIDRMask(64, 128)}}
	if err := netlink.AddrAdd(l, own); err != nil {
		return 0, fmt.Errorf("add address to %s: %w", iface, err)
	}
	return l.Attrs().Index, netlink.NeighAdd(&netlink.Neigh{
		LinkIndex: l.Attrs().Index, State: netlink.NUD_PERMANENT, IP: neighbour.AsSlice(),
		HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 9},
	})
}

// synTo is a SYN to port 80.
func synTo(from, to netip.Addr) []byte {
	f := []byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x86, 0xdd, 0x60, 0, 0, 0, 0, 20, 6, 64}
	f = append(append(f, from.AsSlice()...), to.AsSlice()...)
	f = append(f, 0x9c, 0x40, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 5<<4, 2, 0xff, 0xff, 0, 0, 0, 0)
	binary.BigEndian.PutUint16(f[70:], ^testenv.Sum(f[22:], testenv.Sum([]byte{0, 6, 0, 20}, 0)))
	return f
}
