package livegen

import (
	"bytes"
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

// Offsets in an untagged frame, and in TCP and UDP.
const (
	offIP     = 14
	offIPSum  = offIP + 10 // of IPv4
	offTCPSum = 16
	offUDPSum = 6
	// written is how much of a frame is written each time: pages come back
	// with what others did to them, but nobody touches payload.
	written = 128
)

var errTemplate = errors.New("template is not IP without options, TCP or UDP, or is a fragment")

// A layout is where a frame has what is rewritten: the last four bytes of its
// source address, TCP or UDP, and the checksum of that.
type layout struct {
	four, udp      bool
	src, l4, l4Sum int16
}

// layoutOf looks into a frame that verifies.
func layoutOf(frame []byte) (l layout, err error) {
	var proto byte
	switch kind := binary.BigEndian.Uint16(frame[12:]); {
	case kind == unix.ETH_P_IP && frame[offIP] == 0x45 && binary.BigEndian.Uint16(frame[offIP+6:])&0x3fff == 0:
		proto, l = frame[offIP+9], layout{four: true, src: offIP + 12, l4: offIP + 20}
	case kind == unix.ETH_P_IPV6:
		proto, l = frame[offIP+6], layout{src: offIP + 20, l4: offIP + 40}
	}
	switch proto {
	case unix.IPPROTO_TCP:
		l.l4Sum = l.l4 + offTCPSum
	case unix.IPPROTO_UDP:
		l.udp, l.l4Sum = true, l.l4+offUDPSum
	default:
		err = errTemplate
	}
	return l, err
}

// program returns the generator: registers r6 frame, r7 source port, r8
// sequence number and then source address, r9 state.
func program(frame []byte, vary Vary, stateFD, ifindex int) (asm.Instructions, error) {
	if err := testenv.VerifyFrame(frame); err != nil {
		return nil, fmt.Errorf("check template: %w", err)
	}
	l, err := layoutOf(frame)
	if err != nil {
		return nil, fmt.Errorf("check template: %w", err)
	}
	port := binary.BigEndian.Uint16(frame[l.l4:])
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
		asm.Add.Imm32(asm.R8, int32(binary.BigEndian.Uint32(frame[l.src:]))),
	)
	insns = append(insns, write(frame)...)
	insns = append(insns, source(frame, l)...)
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

// source stores the end of the source address, the source port and the checksums over them.
func source(frame []byte, l layout) asm.Instructions {
	insns := asm.Instructions{
		asm.Mov.Reg(asm.R1, asm.R8),
		asm.HostTo(asm.BE, asm.R1, asm.Word),
		asm.StoreMem(asm.R6, l.src, asm.R1, asm.Word),
		asm.Mov.Reg(asm.R1, asm.R7),
		asm.HostTo(asm.BE, asm.R1, asm.Half),
		asm.StoreMem(asm.R6, l.l4, asm.R1, asm.Half),
		// r3: the sum of the address
		asm.Mov.Reg(asm.R3, asm.R8),
		asm.RSh.Imm(asm.R3, 16),
		asm.Mov.Reg(asm.R1, asm.R8),
		asm.And.Imm(asm.R1, 0xffff),
		asm.Add.Reg(asm.R3, asm.R1),
	}
	ipSum, l4Sum := restSums(frame, l)
	if l.four {
		insns = append(insns, asm.Mov.Imm(asm.R1, int32(ipSum)), asm.Add.Reg(asm.R1, asm.R3))
		insns = append(insns, finish()...)
		insns = append(insns, asm.StoreMem(asm.R6, offIPSum, asm.R1, asm.Half))
	}
	if l.udp && binary.BigEndian.Uint16(frame[l.l4Sum:]) == 0 {
		return insns
	}
	insns = append(insns,
		asm.Mov.Imm(asm.R1, int32(l4Sum)),
		asm.Add.Reg(asm.R1, asm.R3),
		asm.Add.Reg(asm.R1, asm.R7),
	)
	insns = append(insns, finish()...)
	if !l.udp {
		return append(insns, asm.StoreMem(asm.R6, l.l4Sum, asm.R1, asm.Half))
	}
	return append(insns,
		asm.JNE.Imm(asm.R1, 0, "has sum"),
		asm.Mov.Imm(asm.R1, 0xffff),
		asm.StoreMem(asm.R6, l.l4Sum, asm.R1, asm.Half).WithSymbol("has sum"),
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
// without the end of the source address and the source port.
func restSums(frame []byte, l layout) (ip, l4 uint16) {
	b := bytes.Clone(frame)
	clear(b[l.src : l.src+4])
	clear(b[l.l4 : l.l4+2])
	clear(b[l.l4Sum : l.l4Sum+2])
	header := b[offIP:l.l4]
	proto, addrs, end := header[6], header[8:], len(header)+int(binary.BigEndian.Uint16(header[4:]))
	if l.four {
		clear(b[offIPSum : offIPSum+2])
		proto, addrs, end = header[9], header[12:], int(binary.BigEndian.Uint16(header[2:]))
	}
	segment := b[l.l4 : offIP+end]
	pseudo := binary.BigEndian.AppendUint16([]byte{0, proto}, uint16(len(segment)))
	return testenv.Sum(header, 0), testenv.Sum(segment, testenv.Sum(pseudo, testenv.Sum(addrs, 0)))
}
