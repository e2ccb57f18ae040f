package refmodel

import (
	"net/netip"
	"testing"
)

// Frames made by hand, with checksums computed by another program. The client's
// packets have a traffic class and a flow label.
const (
	syn6       = "02000000000202000000000186dd612345670014064020010db800510000000000000000000720010db80113000000000000000000109c400050000003e8000000005002faf0b78c0000"
	syn6Out    = "02000000000302000000000286dd612345670014063f20010db800510000000000000000000720010db80002000100000000000000029c401f90000003e8000000005002faf0996a0000"
	synAck6    = "02000000000202000000000386dd600000000014064020010db800020001000000000000000220010db80051000000000000000000071f909c4000001388000003e95012faf085d10000"
	synAck6Out = "02000000000102000000000286dd600000000014063f20010db801130000000000000000001020010db800510000000000000000000700509c4000001388000003e95012faf0a3f30000"
	synReset6  = "02000000000102000000000286dd600000000014064020010db801130000000000000000001020010db800510000000000000000000700509c4000000000000003e950140000b26a0000"
	data6      = "02000000000202000000000186dd600000000019064020010db800510000000000000000000720010db80113000000000000000000109c400050000003e9000013895018faf0d9810000474554202f"
	data6Out   = "02000000000302000000000286dd600000000019063f20010db800510000000000000000000720010db80002000100000000000000029c401f90000003e9000013895018faf0bb5f0000474554202f"
	query6     = "02000000000202000000000186dd60000000000d114020010db800510000000000000000000720010db801130000000000000000001013880035000d3f427175657279"
	query6Out  = "02000000000302000000000286dd60000000000d113f20010db800510000000000000000000720010db800020001000000000000000313880035000d405f7175657279"
	query6ICMP = "02000000000102000000000286dd6000000000383a4020010db801130000000000000000001020010db8005100000000000000000007010480550000000060000000000d114020010db800510000000000000000000720010db801130000000000000000001013880035000d3f42"
	tooBig6    = "02000000000102000000000286dd6000000000383a4020010db801130000000000000000001020010db800510000000000000000000702003ca000000040600000000019064020010db800510000000000000000000720010db80113000000000000000000109c400050000003e9"
)

var (
	client6 = netip.MustParseAddr("2001:db8:51::7")
	vip6    = netip.MustParseAddr("2001:db8:113::10")
	web6    = netip.MustParseAddr("2001:db8:2:1::2")
	dns6    = netip.MustParseAddr("2001:db8:2:1::3")

	tcpKey6 = Tuple{Src: client6, Dst: vip6, SPort: 40000, DPort: 80, Proto: TCP}
	tcpRev6 = Tuple{Src: web6, Dst: client6, SPort: 8080, DPort: 40000, Proto: TCP}
)

// newModel6 is newModel with the services of IPv6 on its rows.
func newModel6() *Model {
	m := newModel()
	fib := m.FIB
	like := map[Addr]Addr{client6: client, web6: web, dns6: dns}
	m.FIB = func(src, dst Addr) (FIBResult, Hop) {
		if src.Is4() || dst.Is4() {
			return FIBBlackhole, Hop{}
		}
		return fib(src, like[dst])
	}
	m.Listeners = map[Listener]uint32{{vip6, 80, TCP}: 1, {vip6, 53, UDP}: 2}
	m.VIPs = map[Addr]uint32{vip6: AddressService}
	m.Backends[0].Addr, m.Backends[1].Addr = web6, dns6
	m.Control.HashC, m.Control.HashD, m.Control.HashE = 0x165667b19e3779f9, 0x27d4eb2f165667c5, 0x85ebca77c2b2ae63
	m.Flows, m.Flows6 = nil, make(Table, 4)
	return m
}

// established6 is a model with one TCP flow that is due for a check.
func established6(t *testing.T) *Model {
	t.Helper()
	m := newModel6()
	pass(t, m, syn6, syn6Out, ForwardRedirect)
	pass(t, m, synAck6, synAck6Out, ForwardTX)
	pass(t, m, data6, data6Out, ForwardRedirect)
	m.Now += 250
	return m
}

func TestIPv6BothWays(t *testing.T) {
	m := established6(t)
	c := m.BackendCounters[0]
	if want := (Counters{Packets: [2]uint64{2, 1}, Bytes: [2]uint64{60 + 65, 60}, Flows: 1}); c != want {
		t.Errorf("counted %+v, want %+v", c, want)
	}
	for key, state := range map[Tuple]uint8{tcpKey6: FlowEstablished, tcpRev6: FlowEstablished} {
		if f := m.Find(key); f == nil || f.State != state {
			t.Errorf("entry of %v: %+v", key, f)
		}
	}
	pass(t, m, query6, query6Out, ForwardTX)
}

func TestTablesOfFamilies(t *testing.T) {
	m := established(t)
	six := newModel6()
	fib, fib6 := m.FIB, six.FIB
	m.FIB = func(src, dst Addr) (FIBResult, Hop) {
		if dst.Is4() {
			return fib(src, dst)
		}
		return fib6(src, dst)
	}
	m.Listeners[Listener{vip6, 80, TCP}] = 2
	m.Backends[1] = Backend{Addr: web6, Port: 8080, State: BackendUp, Service: 2}
	pass(t, m, syn6, "", PassOther) // not loaded
	m.Flows6 = make(Table, 2)
	pass(t, m, syn6, syn6Out, ForwardRedirect)
	pass(t, m, data, dataOut, ForwardRedirect)
	m.Flows = make(Table, 4)
	if m.Find(tcpKey6) == nil || m.Find(tcpKey) != nil {
		t.Error("the entries are not in tables of their own")
	}
	m.Control.Mode = ModeOff
	pass(t, m, syn6, "", PassOff)
}

func TestAnswersOfIPv6(t *testing.T) {
	m := newModel6()
	m.Control.ReplyLimit = 2
	m.Services[1].Slots.Length, m.Services[2].Slots.Length = 0, 0
	pass(t, m, syn6, synReset6, AnswerReset)
	pass(t, m, query6, query6ICMP, AnswerUnreachable)
	pass(t, m, query6, "", DropNoBackend)
	if m.Find(tcpKey6) != nil {
		t.Error("a flow was made")
	}
}

func TestTooBigForIPv6(t *testing.T) {
	m := established6(t)
	m.Find(tcpKey6).Hop.MTU = 64
	m.Now -= 250
	pass(t, m, data6, tooBig6, AnswerTooBig)
	pass(t, m, data6, "", DropTooBig) // over the limit
	m.Find(tcpKey6).Hop.MTU = 65
	pass(t, m, data6, data6Out, ForwardRedirect)
}

// TestUDPChecksumOfZero keeps it, as tunnels have it (RFC 6936).
func TestUDPChecksumOfZero(t *testing.T) {
	in, want := unhex(t, query6), unhex(t, query6Out)
	be.PutUint16(in[60:], 0)
	be.PutUint16(want[60:], 0)
	if res := newModel6().Process(in, len(in)); string(res.Out) != string(want) {
		t.Errorf("%x left, want %x", res.Out, want)
	}
}

func TestClientsOfIPv6(t *testing.T) {
	for src, want := range map[string]bool{
		"::": true, "::1": true, "::2": false, "::1:0:0:1": false, "0:0:1::1": false, "1::1": false,
		"fe7f:ffff::1": false, "fe80::1": true, "febf:ffff::1": true, "fec0::1": false,
		"feff::1": false, "ff00::": true, "ff02::1": true, "ffff::": true,
		"::fffe:255.255.255.255": false, "::ffff:0.0.0.0": true, "::ffff:198.51.100.7": true, "::1:0:0:0": false,
	} {
		frame := unhex(t, syn6)
		copy(frame[22:38], netip.MustParseAddr(src).AsSlice())
		m := newModel6()
		m.FIB = func(Addr, Addr) (FIBResult, Hop) { return FIBNoNeigh, Hop{} }
		if res := m.Process(frame, len(frame)); (res.Verdict == DropSource) != want {
			t.Errorf("source %s: %v", src, res.Verdict)
		}
	}
}

func TestLimitOfNetworkOfIPv6(t *testing.T) {
	m := newModel6()
	s := &m.Services[1]
	s.Flags |= FlagLimited | FlagListed
	s.LimitMask, s.LimitRate, s.LimitBurst = netip.MustParseAddr("ffff:ffff:ffff::"), 1, 2
	m.Clients[Prefix{1, netip.MustParseAddr("2001:db8:51::"), 49}] = true
	pass(t, m, syn6, syn6Out, ForwardRedirect)
	if c := m.Sources[Source{1, netip.MustParseAddr("2001:db8:51::")}]; c != (Credit{10000, 250}) {
		t.Errorf("credit is %+v", c)
	}
	m.deleteBoth(tcpKey6)
	m.Clients[Prefix{1, client6, 128}] = false
	pass(t, m, syn6, "", DropDenied)
}

// TestHashOfIPv6 has factors that make sums of it which can be read.
func TestHashOfIPv6(t *testing.T) {
	key := Tuple{
		Src: netip.MustParseAddr("0:0:0:1::2"), Dst: netip.MustParseAddr("0:0:0:3::4"),
		SPort: 0x0500, DPort: 0x0600, Proto: UDP,
	}
	m := &Model{Control: Control{HashA: 1, HashB: 1, HashC: 1 << 8, HashD: 1 << 16, HashE: 1 << 24}, Flows6: make(Table, 2)}
	// The halves are 1, 2, 3, 4; ports and protocol 0x11_0006_0005.
	want := uint64(1 + 2 + 3<<8 + 4<<16 + 0x1100060005<<24)
	want ^= want >> 32
	if got := m.hash(key); got != want {
		t.Errorf("hash is %#x, want %#x", got, want)
	}
}

// Hosts mostly differ in the last bytes of both halves of their addresses, and
// may all send from one port. They must not meet in a few buckets.
func TestHashOfIPv6SpreadsHosts(t *testing.T) {
	m := &Model{Control: Control{
		HashA: 0x9e3779b97f4a7c15, HashB: 0xd6e8feb86659fd93, HashC: 0xa0761d6478bd642f, HashD: 0xe7037ed1a0b428db, HashE: 0x8ebc6af09c88c6e3,
	}}
	const hosts = 1 << 16
	seen := map[uint64]bool{}
	for i := range uint32(hosts) {
		src := netip.MustParseAddr("2001:db8::1").As16()
		src[7], src[15] = byte(i), byte(i>>8)
		key := Tuple{Src: netip.AddrFrom16(src), Dst: netip.MustParseAddr("2001:db8:2::10"), SPort: 5060, DPort: 5060, Proto: UDP}
		seen[m.hash(key)>>48] = true // as many buckets as hosts
	}
	if len(seen) < hosts/2 {
		t.Errorf("%d hosts hash to %d of %d buckets", hosts, len(seen), hosts)
	}
}
