package xdpwatch

import (
	"errors"
	"fmt"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
)

// A path leads from a struct net_device to the number of its namespace.
type path struct {
	net  int32 // offset of the pointer to struct net
	inum int32 // offset of the number in there
}

// deviceToNetNS reads the running kernel's offsets from its type information.
var deviceToNetNS = sync.OnceValues(func() (path, error) {
	spec, err := btf.LoadKernelSpec()
	if err != nil {
		return path{}, fmt.Errorf("load types of the kernel: %w", err)
	}
	netDev, err := offset(spec, "net_device", "nd_net")
	if err != nil {
		return path{}, err
	}
	ns, err := offset(spec, "net", "ns")
	if err != nil {
		return path{}, err
	}
	inum, err := offset(spec, "ns_common", "inum")
	if err != nil {
		return path{}, err
	}
	return path{net: netDev, inum: ns + inum}, nil
})

var errNoMember = errors.New("no such member")

// offset returns where a struct has a member, in bytes.
func offset(spec *btf.Spec, structure, member string) (int32, error) {
	var s *btf.Struct
	if err := spec.TypeByName(structure, &s); err != nil {
		return 0, fmt.Errorf("find struct %s: %w", structure, err)
	}
	at, ok := find(s.Members, member)
	if !ok {
		return 0, fmt.Errorf("find %s in struct %s: %w", member, structure, errNoMember)
	}
	return int32(at.Bytes()), nil
}

// find looks into anonymous members too.
func find(members []btf.Member, name string) (btf.Bits, bool) {
	for _, m := range members {
		if m.Name == name {
			return m.Offset, true
		}
		if m.Name != "" {
			continue
		}
		var inner []btf.Member
		switch t := btf.UnderlyingType(m.Type).(type) {
		case *btf.Struct:
			inner = t.Members
		case *btf.Union:
			inner = t.Members
		}
		if at, ok := find(inner, name); ok {
			return m.Offset + at, true
		}
	}
	return 0, false
}

// program does the sums if argument 0 is a device of the namespace ns.
func program(counts *ebpf.Map, to path, ns uint32, sums []sum) asm.Instructions {
	insns := asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.LoadMem(asm.R3, asm.R6, 0, asm.DWord),
	}
	insns = append(insns, read(to.net, 8)...)
	insns = append(insns, asm.LoadMem(asm.R3, asm.RFP, -8, asm.DWord))
	insns = append(insns, read(to.inum, 4)...)
	insns = append(insns,
		asm.LoadMem(asm.R1, asm.RFP, -8, asm.Word),
		asm.LoadImm(asm.R2, int64(ns), asm.DWord),
		asm.JNE.Reg(asm.R1, asm.R2, "exit"),
	)
	for _, s := range sums {
		insns = append(insns, add(counts, s)...)
	}
	return append(insns,
		asm.Mov.Imm(asm.R0, 0).WithSymbol("exit"),
		asm.Return(),
	)
}

// read copies n bytes of kernel memory at r3 + offset to the stack at -8.
func read(offset, n int32) asm.Instructions {
	return asm.Instructions{
		asm.Add.Imm(asm.R3, offset),
		asm.Mov.Reg(asm.R1, asm.RFP),
		asm.Add.Imm(asm.R1, -8),
		asm.Mov.Imm(asm.R2, n),
		asm.FnProbeReadKernel.Call(),
		asm.JNE.Imm(asm.R0, 0, "exit"),
	}
}

// add does one sum. Its arguments are int: the kernel leaves the upper half of
// the register alone, and a negative one adds nothing.
func add(counts *ebpf.Map, s sum) asm.Instructions {
	next := fmt.Sprintf("after slot %d", s.slot)
	insns := asm.Instructions{asm.Mov.Imm(asm.R7, 1)}
	if s.arg != one {
		insns = asm.Instructions{
			asm.LoadMem(asm.R7, asm.R6, s.arg*8, asm.DWord),
			asm.LSh.Imm(asm.R7, 32),
			asm.ArSh.Imm(asm.R7, 32),
			asm.JSLE.Imm(asm.R7, 0, next),
		}
	}
	return append(insns,
		asm.StoreImm(asm.RFP, -4, int64(s.slot), asm.Word),
		asm.LoadMapPtr(asm.R1, counts.FD()),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, -4),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "exit"),
		asm.StoreXAdd(asm.R0, asm.R7, asm.DWord),
		asm.Mov.Imm(asm.R0, 0).WithSymbol(next),
	)
}
