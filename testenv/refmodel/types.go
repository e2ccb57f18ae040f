// Package refmodel is a model of the datapath in plain Go, to compare the XDP
// program with.
//
// It is written from the rules in docs/datapath.md and the RFCs they name, not
// from the C, and for reading rather than speed: a packet is parsed, decided
// upon and rewritten, and checksums are sums over all words that change. All
// that the kernel would supply, clock, routes, other CPUs, is a field of Model.
package refmodel

import (
	"net"
	"net/netip"
)

// An Addr is an address of either family.
type Addr = netip.Addr

// AddrFrom is the address of 4 or 16 bytes.
func AddrFrom(b []byte) Addr {
	a, ok := netip.AddrFromSlice(b)
	if !ok {
		panic("refmodel: no address has so many bytes")
	}
	return a
}

// A MAC is an Ethernet address.
type MAC [6]byte

// String is the form with colons.
func (a MAC) String() string { return net.HardwareAddr(a[:]).String() }

// Protocols.
const (
	ICMP   = 1
	TCP    = 6
	UDP    = 17
	ICMPv6 = 58
)

// A Tuple is a packet's own 5-tuple. Ports are plain numbers. Addresses of IPv4
// are of four bytes with the program fairlead, of sixteen with the wide ones.
type Tuple struct {
	Src, Dst     Addr
	SPort, DPort uint16
	Proto        uint8
}

// Reverse is the tuple of the answers.
func (t Tuple) Reverse() Tuple {
	return Tuple{Src: t.Dst, Dst: t.Src, SPort: t.DPort, DPort: t.SPort, Proto: t.Proto}
}

// A Mode is the switch of an instance.
type Mode uint32

// Modes, numbered as enum control_mode.
const (
	ModeOff Mode = iota
	ModeDraining
	ModeOn
)

// Indexes of Control.Idle, numbered as enum idle.
const (
	IdleTCPNew = iota
	IdleTCPEstablished
	IdleTCPFin
	IdleUDPNew
	IdleUDPEstablished
	IdleMax
)

// Control is the entry of the control map.
type Control struct {
	Mode       Mode
	Era        uint32
	Epoch      uint32
	Hz         uint32
	Idle       [IdleMax]uint32
	ReplyLimit uint32
	// SnatPort is the first of SnatPorts source ports of our own.
	SnatPort, SnatPorts uint16
	// MixedPort and MixedPorts are the same of IPv4 addresses in Flows6.
	MixedPort, MixedPorts uint16
	Heartbeat             uint64
	LossAfter             uint64
	// These are odd, and the flow tables' as long as they live. The last three
	// are for IPv6 only.
	HashA, HashB, HashC, HashD, HashE uint64
}

// A Listener is what a client connects to.
type Listener struct {
	Addr  Addr
	Port  uint16
	Proto uint8
}

// States and flags of a service, numbered as in types.h.
const (
	ServiceNone  = 0
	ServiceXDP   = 1
	ServiceProxy = 2
	ServiceZone  = 3

	FlagLocal   = 1
	FlagKeep    = 2
	FlagListed  = 4
	FlagLimited = 8
	FlagFullNAT = 16
	FlagCookies = 32
)

// Ways to choose a backend, numbered as enum balance.
const (
	BalanceRoundRobin = iota
	BalanceRandom
	BalanceHash
	BalanceSourceHash
	BalanceP2C
	BalanceLeast
)

// A Run is a part of the slots, or of the source addresses.
type Run struct{ Offset, Length uint32 }

// A Service is a row of the services map.
type Service struct {
	Slots, SlotsAll Run
	Gen             uint32
	State, Flags    uint8
	// LimitMask is which part of a client's address is its network; each makes
	// LimitRate flows a second, or LimitBurst at once.
	LimitMask             Addr
	LimitRate, LimitBurst uint32
	CookieAbove           uint32 // SYNs per second
	Balance               uint8
	Seed                  uint64 // of BalanceHash and BalanceSourceHash
	SourceMask            Addr   // which part of a client's address these look at
	Affinity              uint32 // seconds
	MaxLoad               uint32 // percent
	Weights, WeightsAll   uint32
	Zones                 uint32 // the row of its first, or next, ServiceZone + 1
	Zone                  uint32 // the number of a ServiceZone
}

// A Prefix is a network of clients of a service: an entry of the clients map.
type Prefix struct {
	Service uint32
	Addr    Addr
	Len     int
}

// A Source is a network of clients that makes flows of a service.
type Source struct {
	Service uint32
	Net     Addr
}

// A Credit is what a source may still do: flows times hz, as of a tick.
type Credit struct{ Tick, Left uint32 }

// A Tie is what a source was last given, at a tick.
type Tie struct{ Backend, Gen, Tick uint32 }

// Syns is how many SYNs in a second would make flows of a service. Hot says
// that there were too many in the second before.
type Syns struct {
	Second, Number uint32
	Hot            bool
}

// States of a backend, numbered as enum backend_state.
const (
	BackendNone = 0
	BackendUp   = 1
	BackendDown = 2
)

// A Backend is a row of the backends map.
type Backend struct {
	Addr    Addr
	Port    uint16
	State   uint8
	Unsure  bool // no client stays with it
	Gen     uint32
	Service uint32
	Sources Run // of Snat
	Weight  uint32
}

// Directions of a flow entry, numbered as enum flow_dir.
const (
	Forward = 0
	Reply   = 1
)

// States of a flow, numbered as enum flow_state.
const (
	FlowNew = iota
	FlowAnswered
	FlowEstablished
	FlowFin
	FlowClosed
	FlowReset
	FlowAbortedForward // by a reset of the client
	FlowAbortedReply
)

// DeviceTX is the flag of a device whose frames XDP_TX can send back.
const DeviceTX = 1

// unknownMTU is longer than any packet.
const unknownMTU = 65535

// A Hop is a way out. Flags are those of its device, MTU is the longest packet.
type Hop struct {
	DMAC, SMAC MAC
	Ifindex    uint32
	Flags      uint32
	MTU        uint16
}

// A Flow is one entry of the flow table: what becomes of the packets of the
// tuple Key. Its cached checksum deltas are not part of the model.
type Flow struct {
	Key, Leave Tuple
	Hop        Hop
	// FarMTU is the hop's, whose own is 0, if packets leave in the other family.
	FarMTU              uint16
	Seen, Checked, Idle uint32
	Epoch, Era          uint32
	Service, ServiceGen uint32
	Backend, BackendGen uint32
	Dir, State, Fins    uint8
	Answer              uint32 // what the client must acknowledge
}

// TwinKey is the key of the entry of the other direction.
func (f *Flow) TwinKey() Tuple { return f.Leave.Reverse() }

// disguised says that the client's packets leave with another source than
// they came with.
func (f *Flow) disguised() bool {
	return f.Dir == Forward && (f.Leave.Src != f.Key.Src || f.Leave.SPort != f.Key.SPort)
}

// over says that the flow has come to its end, so that its tuple may be taken.
func (f *Flow) over() bool {
	switch f.State {
	case FlowClosed, FlowReset, FlowAbortedForward, FlowAbortedReply:
		return true
	}
	return false
}

// Counters are those of a backend's row, by direction.
type Counters struct {
	Packets, Bytes [2]uint64
	Flows          uint64
	Troubles       [TroubleMax]uint64
}

// Signs that a backend is in trouble, numbered as enum trouble.
const (
	TroubleUnanswered = iota // a SYN that was sent again
	TroubleRefused
	TroubleReset
	TroubleMax
)

// Replies is what the CPU has answered in the running second.
type Replies struct{ Second, Count uint32 }

// A FIBResult is an answer of bpf_fib_lookup.
type FIBResult int32

// The answers that the rules tell apart, numbered as in linux/bpf.h.
const (
	FIBSuccess   FIBResult = 0
	FIBNotFwded  FIBResult = 4
	FIBNoNeigh   FIBResult = 7
	FIBBlackhole FIBResult = 1
)

// A Verdict says what became of a packet, numbered as enum verdict.
type Verdict uint32

// Verdicts.
const (
	PassOff Verdict = iota
	PassOther
	PassFragment
	PassOptions
	PassVLAN
	PassICMP
	PassMalformed
	PassProxy
	PassDraining
	PassNoFlow
	PassStandby
	ForwardRedirect
	ForwardTX
	AnswerReset
	AnswerUnreachable
	DropMalformed
	DropTTL
	DropSource
	DropNoRoute
	DropNoNeighbour
	DropDevice
	DropNoBackend
	DropTupleTaken
	DropTableFull
	DropNoFlow
	DropFlowEnded
	DropReplyLimit
	DropTooBig
	DropICMP
	DropDenied
	DropSourceLimit
	AnswerTooBig
	AnswerEcho
	PassCookie
	AnswerCookie
	DropCookie
	HoldFragment
	DropFragment
	AnswerTimeExceeded
	DropFamily
	VerdictMax
)

var verdictNames = [VerdictMax]string{
	"PASS_OFF", "PASS_OTHER", "PASS_FRAGMENT", "PASS_OPTIONS", "PASS_VLAN", "PASS_ICMP", "PASS_MALFORMED",
	"PASS_PROXY", "PASS_DRAINING", "PASS_NO_FLOW", "PASS_STANDBY", "FORWARD_REDIRECT", "FORWARD_TX",
	"ANSWER_RESET", "ANSWER_UNREACHABLE", "DROP_MALFORMED", "DROP_TTL", "DROP_SOURCE", "DROP_NO_ROUTE",
	"DROP_NO_NEIGHBOUR", "DROP_DEVICE", "DROP_NO_BACKEND", "DROP_TUPLE_TAKEN", "DROP_TABLE_FULL",
	"DROP_NO_FLOW", "DROP_FLOW_ENDED", "DROP_REPLY_LIMIT", "DROP_TOO_BIG", "DROP_ICMP",
	"DROP_DENIED", "DROP_SOURCE_LIMIT", "ANSWER_TOO_BIG", "ANSWER_ECHO",
	"PASS_COOKIE", "ANSWER_COOKIE", "DROP_COOKIE",
	"HOLD_FRAGMENT", "DROP_FRAGMENT", "ANSWER_TIME_EXCEEDED", "DROP_FAMILY",
}

// passes says that a packet is left to the host's stack.
func (v Verdict) passes() bool { return v <= PassStandby || v == PassCookie }

// String is the verdict's name in verdict.h.
func (v Verdict) String() string {
	if v < VerdictMax {
		return verdictNames[v]
	}
	return "verdict out of range"
}

// An Action is the return value of an XDP program.
type Action uint32

// Actions, numbered as enum xdp_action.
const (
	XDPDrop     Action = 1
	XDPPass     Action = 2
	XDPTx       Action = 3
	XDPRedirect Action = 4
)
