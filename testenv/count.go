package testenv

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// FrameCounts are frames by Ethernet type, as XDP saw them arrive.
type FrameCounts struct {
	IPv4, IPv6, ARP, Other uint64
}

// A FrameCounter counts the frames that an interface receives.
type FrameCounter struct {
	tb     TB
	counts *ebpf.Map
}

// Discard lets the host's frame counters that are made from now on throw away
// what comes from a network, once it is counted: a flood never gets to the stack.
func (h *Host) Discard(from netip.Prefix) { h.discard = from }

// CountFrames attaches an XDP program to the interface that counts frames and
// passes them on, but for [Host.Discard]. Frames are counted before GRO, one by
// one.
func (h *Host) CountFrames(tb TB, iface string) *FrameCounter {
	tb.Helper()
	counts, err := ebpf.NewMap(&ebpf.MapSpec{
		Name: "frames", Type: ebpf.PerCPUArray,
		KeySize: 4, ValueSize: 8, MaxEntries: 4,
	})
	if err != nil {
		tb.Fatalf("make map of frame counts: %v", err)
	}
	tb.Cleanup(func() { counts.Close() })
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "count_frames", Type: ebpf.XDP, AttachType: ebpf.AttachXDP,
		Flags: unix.BPF_F_XDP_HAS_FRAGS, License: "MIT",
		Instructions: countProgram(counts, h.discard),
	})
	if err != nil {
		tb.Fatalf("load frame counter: %v", err)
	}
	tb.Cleanup(func() { prog.Close() })
	h.AttachXDP(tb, iface, prog)
	return &FrameCounter{tb: tb, counts: counts}
}

// AttachXDP attaches a program to an interface of the host, natively, until
// the end of the test.
func (h *Host) AttachXDP(tb TB, iface string, prog *ebpf.Program) {
	tb.Helper()
	var l link.Link
	h.Do(tb, func() error {
		dev, err := netlink.LinkByName(iface)
		if err != nil {
			return fmt.Errorf("find link %s: %w", iface, err)
		}
		l, err = link.AttachXDP(link.XDPOptions{
			Program: prog, Interface: dev.Attrs().Index, Flags: link.XDPDriverMode,
		})
		if err != nil {
			return fmt.Errorf("attach XDP to %s: %w", iface, err)
		}
		return nil
	})
	tb.Cleanup(func() { l.Close() })
}

// Counts returns what was counted so far.
func (c *FrameCounter) Counts() FrameCounts {
	c.tb.Helper()
	var n [4]uint64
	for key := range n {
		var cpus []uint64
		if err := c.counts.Lookup(uint32(key), &cpus); err != nil {
			c.tb.Fatalf("read frame counts: %v", err)
		}
		for _, v := range cpus {
			n[key] += v
		}
	}
	return FrameCounts{IPv4: n[0], IPv6: n[1], ARP: n[2], Other: n[3]}
}

// countProgram adds one to the count of the frame's Ethernet type: r1 frame, r2
// its end, r4 type, r6 index of the count, r7 action.
func countProgram(counts *ebpf.Map, discard netip.Prefix) asm.Instructions {
	const etherType = 12
	insns := asm.Instructions{
		asm.Mov.Imm(asm.R6, 3),
		asm.Mov.Imm(asm.R7, 2),                   // XDP_PASS
		asm.LoadMem(asm.R2, asm.R1, 4, asm.Word), // data_end
		asm.LoadMem(asm.R1, asm.R1, 0, asm.Word), // data
		asm.Mov.Reg(asm.R3, asm.R1),
		asm.Add.Imm(asm.R3, ethLen),
		asm.JGT.Reg(asm.R3, asm.R2, "count"),
		asm.LoadMem(asm.R4, asm.R1, etherType, asm.Half),
		asm.HostTo(asm.BE, asm.R4, asm.Half),
	}
	insns = append(insns, discardFrom(discard)...)
	return append(insns,
		asm.Mov.Imm(asm.R6, 1).WithSymbol("kind"),
		asm.JEq.Imm(asm.R4, unix.ETH_P_IPV6, "count"),
		asm.Mov.Imm(asm.R6, 2),
		asm.JEq.Imm(asm.R4, unix.ETH_P_ARP, "count"),
		asm.Mov.Imm(asm.R6, 3),
		asm.JNE.Imm(asm.R4, unix.ETH_P_IP, "count"),
		asm.Mov.Imm(asm.R6, 0),
		asm.StoreMem(asm.RFP, -4, asm.R6, asm.Word).WithSymbol("count"),
		asm.LoadMapPtr(asm.R1, counts.FD()),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, -4),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "pass"),
		asm.LoadMem(asm.R1, asm.R0, 0, asm.DWord),
		asm.Add.Imm(asm.R1, 1),
		asm.StoreMem(asm.R0, 0, asm.R1, asm.DWord),
		asm.Mov.Reg(asm.R0, asm.R7).WithSymbol("pass"),
		asm.Return(),
	)
}

// discardFrom makes the action of a frame from a network, if there is one,
// XDP_DROP. It compares the source word by word.
func discardFrom(from netip.Prefix) asm.Instructions {
	if !from.IsValid() {
		return nil
	}
	kind, source, header := int32(unix.ETH_P_IP), int16(ethLen+12), int32(ipv4Len)
	if from.Addr().Is6() {
		kind, source, header = unix.ETH_P_IPV6, ethLen+8, ipv6Len
	}
	insns := asm.Instructions{
		asm.JNE.Imm(asm.R4, kind, "kind"),
		asm.Add.Imm(asm.R3, header),
		asm.JGT.Reg(asm.R3, asm.R2, "kind"),
	}
	network := from.Masked().Addr().AsSlice()
	for bits := from.Bits(); bits > 0; bits -= 32 {
		rest := max(32-bits, 0)
		insns = append(insns,
			asm.LoadMem(asm.R5, asm.R1, source, asm.Word),
			asm.HostTo(asm.BE, asm.R5, asm.Word),
			asm.RSh.Imm(asm.R5, int32(rest)),
			asm.LoadImm(asm.R0, int64(binary.BigEndian.Uint32(network)>>rest), asm.DWord),
			asm.JNE.Reg(asm.R5, asm.R0, "kind"),
		)
		source, network = source+4, network[4:]
	}
	return append(insns, asm.Mov.Imm(asm.R7, 1)) // XDP_DROP
}
