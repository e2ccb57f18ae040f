package main

import (
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"

	"fairlead/testenv"
)

// actOK lets a packet go on.
const actOK = 0

// lose has a cable lose so many of a hundred packets each way, until the function
// that it returns is called. They are redirected to nowhere, since a sender's
// stack is told of what is dropped on its own host, and sends that once more at once.
func lose(tb testenv.TB, hosts []*testenv.Host, percent int32) (stop func()) {
	tb.Helper()
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "lose", Type: ebpf.SchedCLS, License: "MIT",
		Instructions: asm.Instructions{
			asm.FnGetPrandomU32.Call(),
			asm.Mod.Imm32(asm.R0, 100),
			asm.JLT.Imm(asm.R0, percent, "lost"),
			asm.Mov.Imm(asm.R0, actOK),
			asm.Return(),
			asm.Mov.Imm(asm.R1, 0).WithSymbol("lost"),
			asm.Mov.Imm(asm.R2, 0),
			asm.FnRedirect.Call(),
			asm.Return(),
		},
	})
	if err != nil {
		tb.Fatalf("load what loses packets: %v", err)
	}
	defer prog.Close()
	var links []link.Link
	for _, h := range hosts {
		for _, way := range []ebpf.AttachType{ebpf.AttachTCXIngress, ebpf.AttachTCXEgress} {
			h.Do(tb, func() error {
				l, err := attachTCX(prog, way)
				links = append(links, l)
				return err
			})
		}
	}
	return func() {
		for _, l := range links {
			l.Close()
		}
	}
}

// attachTCX attaches a program to the cable of the host that this runs in.
func attachTCX(prog *ebpf.Program, way ebpf.AttachType) (link.Link, error) {
	dev, err := netlink.LinkByName(testenv.Uplink)
	if err != nil {
		return nil, fmt.Errorf("find link %s: %w", testenv.Uplink, err)
	}
	l, err := link.AttachTCX(link.TCXOptions{Program: prog, Interface: dev.Attrs().Index, Attach: way})
	if err != nil {
		return nil, fmt.Errorf("attach to %s: %w", testenv.Uplink, err)
	}
	return l, nil
}
