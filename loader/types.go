package loader

import "fmt"

// Short names of the types that C and Go share; bpf/types.h documents them.
// Addresses and ports in them are in network byte order, everything else in
// the host's.
type (
	// Control is the one entry of the control map.
	Control = LBControl
	// Listener is what clients connect to: a key of the listeners map.
	Listener = LBListener
	// Service is a row of the services map.
	Service = LBService
	// Balance is a way to choose a backend: what a row of services says.
	Balance = LBBalance
	// ClientPrefix is a network that a service has a rule for: a key of the
	// clients map.
	ClientPrefix = LBClientPrefix
	// Backend is a row of the backends map.
	Backend = LBBackend
	// Counters is what one CPU counted for a backend, or a sum of such.
	Counters = LBCounters
	// Connections is how many a row of backends or services has, of the owner of a
	// generation.
	Connections = LBConnections
	// FlowKey is the tuple of a packet as it arrives.
	FlowKey = LBFlowKey
	// Flow is one direction of a flow.
	Flow = LBFlow
	// Stamp is what an entry of the flow table is like.
	Stamp = LBStamp
	// Hop is a way out: an interface and the Ethernet addresses.
	Hop = LBHop
	// Fragment names a datagram that comes in fragments: a key of fragments.
	Fragment = LBFragment
	// Fate is what became of a datagram's first fragment.
	Fate = LBFate
	// Held comes before a frame that the agent is to hold.
	Held = LBHeld
	// Event says what has become of a flow: a record of events.
	Event = LBEvent
	// EventKind says what that is.
	EventKind = LBEventKind
	// Device says that XDP may send out of an interface.
	Device = LBDevice
	// Replies is what one CPU answered in the running second.
	Replies = LBReplies
	// Told is what a dry run tells of its packet; see [Rehearsal].
	Told = LBTold
	// Listener6, ClientPrefix6, FlowKey6 and Flow6 are the same of IPv6.
	Listener6     = LB6Listener
	ClientPrefix6 = LB6ClientPrefix
	FlowKey6      = LB6FlowKey
	Flow6         = LB6Flow
	// Verdict says what became of a packet and why. Its number is an index of
	// the verdicts map.
	Verdict = LBVerdict
	// Eviction is a kind of entry that the flow table gave up for another one.
	// Its number is an index of the evictions map.
	Eviction = LBEviction
	// Trouble is a sign that a TCP backend may not serve any more. Its number is an
	// index of the Troubles of [Counters].
	Trouble = LBTrouble
)

// balances are the names of enum balance, in its order.
var balances = [...]string{
	LBBalanceBALANCE_ROUND_ROBIN: "round-robin", LBBalanceBALANCE_RANDOM: "random",
	LBBalanceBALANCE_HASH: "maglev", LBBalanceBALANCE_SOURCE_HASH: "source-hash",
	LBBalanceBALANCE_P2C: "p2c", LBBalanceBALANCE_LEAST: "least-connections",
}

// String returns b's name, such as "random".
func (b LBBalance) String() string {
	if int(b) >= len(balances) {
		return fmt.Sprintf("unknown_%d", uint32(b))
	}
	return balances[b]
}

// Verdicts is the number of verdicts; each number below it is one.
const Verdicts = LBVerdictVERDICT_MAX

// Evictions is the number of kinds of evictions; each number below it is one.
const Evictions = LBEvictionEVICT_MAX

// evictions are the names of enum eviction, in its order.
var evictions = [Evictions]string{
	LBEvictionEVICT_UNANSWERED: "unanswered",
	LBEvictionEVICT_ENDED:      "ended",
	LBEvictionEVICT_SILENT:     "silent",
}

// String returns e's name, such as "silent".
func (e Eviction) String() string {
	if e >= Evictions {
		return fmt.Sprintf("unknown_%d", uint32(e))
	}
	return evictions[e]
}

// troubles are the names of enum trouble, in its order.
var troubles = [LBTroubleTROUBLE_MAX]string{
	LBTroubleTROUBLE_UNANSWERED: "unanswered",
	LBTroubleTROUBLE_REFUSED:    "refused",
	LBTroubleTROUBLE_RESET:      "reset",
}

// String returns t's name, such as "refused".
func (t Trouble) String() string {
	if t >= LBTroubleTROUBLE_MAX {
		return fmt.Sprintf("unknown_%d", uint32(t))
	}
	return troubles[t]
}

// A Kind is what a verdict does with its packet.
type Kind string

// The kinds of verdicts.
const (
	KindPass    Kind = "pass"    // left to the host's stack
	KindForward Kind = "forward" // translated and sent on
	KindAnswer  Kind = "answer"  // sent back, or an error about it
	KindHold    Kind = "hold"    // given to the agent, which gives it back
	KindDrop    Kind = "drop"
)

// verdicts are the names of enum verdict, in its order, and what each does.
var verdicts = [Verdicts]struct {
	kind   Kind
	reason string
}{
	LBVerdictPASS_OFF:             {KindPass, "off"},
	LBVerdictPASS_OTHER:           {KindPass, "other"},
	LBVerdictPASS_FRAGMENT:        {KindPass, "fragment"},
	LBVerdictPASS_OPTIONS:         {KindPass, "options"},
	LBVerdictPASS_VLAN:            {KindPass, "vlan"},
	LBVerdictPASS_ICMP:            {KindPass, "icmp"},
	LBVerdictPASS_MALFORMED:       {KindPass, "malformed"},
	LBVerdictPASS_PROXY:           {KindPass, "proxy"},
	LBVerdictPASS_DRAINING:        {KindPass, "draining"},
	LBVerdictPASS_NO_FLOW:         {KindPass, "no_flow"},
	LBVerdictPASS_STANDBY:         {KindPass, "standby"},
	LBVerdictFORWARD_REDIRECT:     {KindForward, "redirect"},
	LBVerdictFORWARD_TX:           {KindForward, "tx"},
	LBVerdictANSWER_RESET:         {KindAnswer, "reset"},
	LBVerdictANSWER_UNREACHABLE:   {KindAnswer, "unreachable"},
	LBVerdictDROP_MALFORMED:       {KindDrop, "malformed"},
	LBVerdictDROP_TTL:             {KindDrop, "ttl"},
	LBVerdictDROP_SOURCE:          {KindDrop, "source"},
	LBVerdictDROP_NO_ROUTE:        {KindDrop, "no_route"},
	LBVerdictDROP_NO_NEIGHBOUR:    {KindDrop, "no_neighbour"},
	LBVerdictDROP_DEVICE:          {KindDrop, "device"},
	LBVerdictDROP_NO_BACKEND:      {KindDrop, "no_backend"},
	LBVerdictDROP_TUPLE_TAKEN:     {KindDrop, "tuple_taken"},
	LBVerdictDROP_TABLE_FULL:      {KindDrop, "table_full"},
	LBVerdictDROP_NO_FLOW:         {KindDrop, "no_flow"},
	LBVerdictDROP_FLOW_ENDED:      {KindDrop, "flow_ended"},
	LBVerdictDROP_REPLY_LIMIT:     {KindDrop, "reply_limit"},
	LBVerdictDROP_TOO_BIG:         {KindDrop, "too_big"},
	LBVerdictDROP_ICMP:            {KindDrop, "icmp"},
	LBVerdictDROP_DENIED:          {KindDrop, "denied"},
	LBVerdictDROP_SOURCE_LIMIT:    {KindDrop, "source_limit"},
	LBVerdictANSWER_TOO_BIG:       {KindAnswer, "too_big"},
	LBVerdictANSWER_ECHO:          {KindAnswer, "echo"},
	LBVerdictPASS_COOKIE:          {KindPass, "cookie"},
	LBVerdictANSWER_COOKIE:        {KindAnswer, "cookie"},
	LBVerdictDROP_COOKIE:          {KindDrop, "cookie"},
	LBVerdictHOLD_FRAGMENT:        {KindHold, "fragment"},
	LBVerdictDROP_FRAGMENT:        {KindDrop, "fragment"},
	LBVerdictANSWER_TIME_EXCEEDED: {KindAnswer, "time_exceeded"},
	LBVerdictDROP_FAMILY:          {KindDrop, "family"},
}

// Kind returns what v does with a packet; "" if v is no verdict.
func (v Verdict) Kind() Kind {
	if v >= Verdicts {
		return ""
	}
	return verdicts[v].kind
}

// Reason returns v's name without its kind, such as "ttl"; "" if v is no verdict.
func (v Verdict) Reason() string {
	if v >= Verdicts {
		return ""
	}
	return verdicts[v].reason
}

// String returns v's kind and reason, such as "drop_ttl".
func (v Verdict) String() string {
	if v >= Verdicts {
		return fmt.Sprintf("unknown_%d", uint32(v))
	}
	return string(v.Kind()) + "_" + v.Reason()
}
