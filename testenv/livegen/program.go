package livegen

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"

	"fairlead/testenv"
)

// state is what the program and its generator share.
type state struct {
	Seq         uint64 // frames made so far
	Start       uint64 // Seq of the first frame whose time is wanted
	Limit       uint64 // Seq at which to stop
	First, Last uint64 // when the frames Start and Limit-1 were made, in ns
}

// Offsets of the fields of state.
const (
	offSeq    = 0
	offStart  = 8
	offLimit  = 16
	offFirst  = 24
	offLast   = 32
	stateSize = 40
)

// Offsets in an untagged IPv4 frame without options.
const (
	offIP      = 14
	offIPSum   = offIP + 10
	offSrcAddr = offIP + 12
	offL4      = offIP + 20
	offTCPSum  = offL4 + 16
	offUDPSum  = offL4 + 6
	// written is how much of a frame is written each time: pages come back
	// with what others did to them, but nobody touches payload.
	written = 128
)

var errTemplate = errors.New("template is not IPv4 without options, TCP or UDP, or is a fragment")

// program returns the generator: registers r6 frame, r7 source port, r8
// sequence number and then source address, r9 state.
func program(frame []byte, vary Vary, stateFD, ifindex int) (asm.Instructions, error) {
	if err := testenv.VerifyFrame(frame); err != nil {
		return nil, fmt.Errorf("check template: %w", err)
	}
	proto := frame[offIP+9]
	if binary.BigEndian.Uint16(frame[12:]) != unix.ETH_P_IP || frame[offIP] != 0x45 ||
		binary.BigEndian.Uint16(frame[offIP+6:])&0x3fff != 0 ||
		proto != unix.IPPROTO_TCP && proto != unix.IPPROTO_UDP {
		return nil, fmt.Errorf("check template: %w", errTemplate)
	}
	port := binary.BigEndian.Uint16(frame[offL4:])
	if last := uint64(port) + uint64(vary.Ports) - 1; last > 65535 {
		return nil, fmt.Errorf("check template: last source port would be %d", last)
	}

	insns := count(frame, stateFD)
	if vary.Random {
		insns = append(insns, asm.FnGetPrandomU32.Call(), asm.Mov.Reg(asm.R8, asm.R0))
	}
	insns = append(insns,
		asm.Mov.Reg(asm.R7, asm.R8),
		asm.Mod.Imm(asm.R7, int32(vary.Ports)),
		asm.Add.Imm(asm.R7, int32(port)),
		asm.Div.Imm(asm.R8, int32(vary.Ports)),
		asm.Mod.Imm32(asm.R8, int32(vary.Addrs)),
		asm.Add.Imm32(asm.R8, int32(binary.BigEndian.Uint32(frame[offSrcAddr:]))),
	)
	insns = append(insns, write(frame)...)
	insns = append(insns, source(frame)...)
	return append(insns,
		asm.Mov.Imm(asm.R1, int32(ifindex)),
		asm.Mov.Imm(asm.R2, 0),
		asm.FnRedirect.Call(),
		asm.Return(),
		asm.Mov.Imm(asm.R0, 1).WithSymbol("drop"), // XDP_DROP
		asm.Return(),
	), nil
}

// count takes the next sequence number into r8, or drops at the limit.
func count(frame []byte, stateFD int) asm.Instructions {
	return asm.Instructions{
		asm.LoadMem(asm.R6, asm.R1, 0, asm.Word), // data
		asm.LoadMem(asm.R2, asm.R1, 4, asm.Word), // data_end
		asm.Mov.Reg(asm.R3, asm.R6),
		asm.Add.Imm(asm.R3, int32(min(len(frame), written))),
		asm.JGT.Reg(asm.R3, asm.R2, "drop"),
		asm.LoadMapValue(asm.R9, stateFD, 0),
		asm.LoadMem(asm.R8, asm.R9, offSeq, asm.DWord),
		asm.LoadMem(asm.R1, asm.R9, offLimit, asm.DWord),
		asm.JGE.Reg(asm.R8, asm.R1, "drop"),
		asm.Mov.Reg(asm.R2, asm.R8),
		asm.Add.Imm(asm.R2, 1),
		asm.StoreMem(asm.R9, offSeq, asm.R2, asm.DWord),
		asm.JNE.Reg(asm.R2, asm.R1, "not last"),
		asm.FnKtimeGetNs.Call(),
		asm.StoreMem(asm.R9, offLast, asm.R0, asm.DWord),
		asm.LoadMem(asm.R1, asm.R9, offStart, asm.DWord).WithSymbol("not last"),
		asm.JNE.Reg(asm.R8, asm.R1, "not first"),
		asm.FnKtimeGetNs.Call(),
		asm.StoreMem(asm.R9, offFirst, asm.R0, asm.DWord),
		asm.Mov.Imm(asm.R0, 0).WithSymbol("not first"),
	}
}

// write stores the beginning of the template.
func write(frame []byte) asm.Instructions {
	var insns asm.Instructions
	b := frame[:min(len(frame), written)]
	at := int16(0)
	for ; len(b) >= 4; b, at = b[4:], at+4 {
		word := int32(binary.NativeEndian.Uint32(b))
		insns = append(insns, asm.StoreImm(asm.R6, at, int64(word), asm.Word))
	}
	for ; len(b) > 0; b, at = b[1:], at+1 {
		insns = append(insns, asm.StoreImm(asm.R6, at, int64(b[0]), asm.Byte))
	}
	return insns
}

// source stores source address and port and the checksums over them.
func source(frame []byte) asm.Instructions {
	insns := asm.Instructions{
		asm.Mov.Reg(asm.R1, asm.R8),
		asm.HostTo(asm.BE, asm.R1, asm.Word),
		asm.StoreMem(asm.R6, offSrcAddr, asm.R1, asm.Word),
		asm.Mov.Reg(asm.R1, asm.R7),
		asm.HostTo(asm.BE, asm.R1, asm.Half),
		asm.StoreMem(asm.R6, offL4, asm.R1, asm.Half),
		// r3: the sum of the address
		asm.Mov.Reg(asm.R3, asm.R8),
		asm.RSh.Imm(asm.R3, 16),
		asm.Mov.Reg(asm.R1, asm.R8),
		asm.And.Imm(asm.R1, 0xffff),
		asm.Add.Reg(asm.R3, asm.R1),
	}
	ipSum, l4Sum := restSums(frame)
	insns = append(insns, asm.Mov.Imm(asm.R1, int32(ipSum)), asm.Add.Reg(asm.R1, asm.R3))
	insns = append(insns, finish()...)
	insns = append(insns, asm.StoreMem(asm.R6, offIPSum, asm.R1, asm.Half))

	udp := frame[offIP+9] == unix.IPPROTO_UDP
	if udp && binary.BigEndian.Uint16(frame[offUDPSum:]) == 0 {
		return insns
	}
	insns = append(insns,
		asm.Mov.Imm(asm.R1, int32(l4Sum)),
		asm.Add.Reg(asm.R1, asm.R3),
		asm.Add.Reg(asm.R1, asm.R7),
	)
	insns = append(insns, finish()...)
	if !udp {
		return append(insns, asm.StoreMem(asm.R6, offTCPSum, asm.R1, asm.Half))
	}
	return append(insns,
		asm.JNE.Imm(asm.R1, 0, "has sum"),
		asm.Mov.Imm(asm.R1, 0xffff),
		asm.StoreMem(asm.R6, offUDPSum, asm.R1, asm.Half).WithSymbol("has sum"),
	)
}

// finish makes the sum in r1 a checksum in network order.
func finish() asm.Instructions {
	fold := asm.Instructions{
		asm.Mov.Reg(asm.R2, asm.R1),
		asm.RSh.Imm(asm.R2, 16),
		asm.And.Imm(asm.R1, 0xffff),
		asm.Add.Reg(asm.R1, asm.R2),
	}
	return append(append(fold, fold...),
		asm.Xor.Imm(asm.R1, 0xffff),
		asm.HostTo(asm.BE, asm.R1, asm.Half),
	)
}

// restSums returns the sums that the checksums of IP and TCP or UDP are over,
// without source address and port.
func restSums(frame []byte) (ip, l4 uint16) {
	total := int(binary.BigEndian.Uint16(frame[offIP+2:]))
	b := append([]byte(nil), frame[offIP:offIP+total]...)
	clear(b[10:16]) // checksum, source address
	segment := b[20:]
	clear(segment[0:2])
	if b[9] == unix.IPPROTO_TCP {
		clear(segment[16:18])
	} else {
		clear(segment[6:8])
	}
	pseudo := binary.BigEndian.AppendUint16([]byte{0, b[9]}, uint16(len(segment)))
	return testenv.Sum(b[:20], 0), testenv.Sum(segment, testenv.Sum(pseudo, testenv.Sum(b[12:20], 0)))
}
