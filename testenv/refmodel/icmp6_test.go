package refmodel

import (
	"slices"
	"testing"
)

// Errors made by hand, with checksums computed by another program: a router
// tells the service that a segment to the client was too big, and a backend
// the client that nobody listens.
const (
	needFrag6         = "02000000000202000000000186dd6000000000383a4020010db800ff0000000000000000000120010db8011300000000000000000010020027950000050060000000001c064020010db801130000000000000000001020010db800510000000000000000000700509c4000001389"
	needFrag6Out      = "02000000000302000000000286dd6000000000383a3f20010db800ff0000000000000000000120010db800020001000000000000000202000a910000050060000000001c064020010db800020001000000000000000220010db80051000000000000000000071f909c4000001389"
	needFragWhole6    = "02000000000202000000000186dd60000000004c3a4020010db800ff0000000000000000000120010db8011300000000000000000010020034aa0000050060000000001c064020010db801130000000000000000001020010db800510000000000000000000700509c4000001389000003e95018faf0c20200007878787878787878"
	needFragWhole6Out = "02000000000302000000000286dd60000000004c3a3f20010db800ff0000000000000000000120010db8000200010000000000000002020035c80000050060000000001c064020010db800020001000000000000000220010db80051000000000000000000071f909c4000001389000003e95018faf0a3e000007878787878787878"
	needFragPart6     = "02000000000202000000000186dd6000000000403a4020010db800ff0000000000000000000120010db80113000000000000000000100200f7850000050060000000001c2c4020010db801130000000000000000001020010db8005100000000000000000007060000010102030400509c4000001389"
	needFragPart6Out  = "02000000000302000000000286dd6000000000403a3f20010db800ff0000000000000000000120010db80002000100000000000000020200da810000050060000000001c2c4020010db800020001000000000000000220010db800510000000000000000000706000001010203041f909c4000001389"
	closedPort6       = "02000000000202000000000386dd60000000003d3a4020010db800020001000000000000000320010db8005100000000000000000007010431860000000060000000000d113f20010db800510000000000000000000720010db800020001000000000000000313880035000d405f7175657279"
	closedPort6Out    = "02000000000102000000000286dd60000000003d3a3f20010db801130000000000000000001020010db8005100000000000000000007010430690000000060000000000d113f20010db800510000000000000000000720010db801130000000000000000001013880035000d3f427175657279"
)

func TestErrorsOfIPv6AreTranslated(t *testing.T) {
	m := established6(t)
	before := *m.Find(tcpKey6)
	pass(t, m, needFrag6, needFrag6Out, ForwardRedirect)
	pass(t, m, needFragWhole6, needFragWhole6Out, ForwardRedirect)
	pass(t, m, needFragPart6, needFragPart6Out, ForwardRedirect)
	if *m.Find(tcpKey6) != before {
		t.Errorf("the flow has changed: %+v, was %+v", *m.Find(tcpKey6), before)
	}
	if c := m.BackendCounters[0]; c.Packets[Forward] != 5 || c.Bytes[Forward] != 60+65+96+116+104 {
		t.Errorf("counted %+v", c)
	}
	m = newModel6()
	pass(t, m, query6, query6Out, ForwardTX)
	pass(t, m, closedPort6, closedPort6Out, ForwardTX)
}

func TestWhatQuotesIPv6(t *testing.T) {
	for _, test := range []struct {
		name string
		edit func([]byte) []byte
		want Verdict
	}{
		{"packet too big", edit(0), ForwardRedirect},
		{"unreachable", edit(54, 1), ForwardRedirect},
		{"time exceeded", edit(54, 3), ForwardRedirect},
		{"parameter problem", edit(54, 4), ForwardRedirect},
		{"type 0", edit(54, 0), PassICMP},
		{"type 5", edit(54, 5), PassICMP},
		{"ping", edit(54, 128), AnswerEcho},
		{"neighbour solicitation", edit(54, 135), PassICMP},
		{"seven bytes quoted", func(b []byte) []byte { b[19]--; return b }, PassICMP},
		{"a frame without a byte", func(b []byte) []byte { b[19]--; return b[:109] }, PassICMP},
		{"a packet longer than its frame", func(b []byte) []byte { return b[:109] }, PassMalformed},
		{"nothing quoted", func(b []byte) []byte { b[19] = 8; return b[:62] }, PassICMP},
		{"not even a header", func(b []byte) []byte { b[19] = 0; return b[:54] }, PassICMP},
		{"version 4 quoted", edit(62, 0x45), PassICMP},
		{"another traffic class quoted", edit(62, 0x6f, 0xf1), ForwardRedirect},
		{"an extension header quoted", edit(68, Fragment), PassICMP},
		{"ICMPv6 quoted", edit(68, ICMPv6), PassICMP},
		{"to another than it quotes", edit(53, 11), PassOther},
		{"another than it is to", edit(85, 11), PassICMP},
		{"hop limit of 1", edit(21, 1), DropTTL},
		{"after an extension header", func(b []byte) []byte {
			b[20], b[19] = Destination, b[19]+8
			return slices.Insert(b, 54, header(ICMPv6, 8)...)
		}, PassICMP},
		{"about a packet that nobody sent", edit(103, 81), PassICMP},
		{"about a client that has no flow", edit(101, 0x41), DropICMP},
	} {
		t.Run(test.name, func(t *testing.T) {
			frame := test.edit(unhex(t, needFrag6))
			if res := established6(t).Process(frame, len(frame)); res.Verdict != test.want {
				t.Errorf("verdict is %v, want %v", res.Verdict, test.want)
			}
		})
	}
}

func TestWhatQuotesAFragmentOfIPv6(t *testing.T) {
	for _, test := range []struct {
		name   string
		edit   func([]byte) []byte
		linear int
		want   Verdict
	}{
		{"the first", edit(0), 118, ForwardRedirect},
		{"an atomic one", edit(104, 0, 0), 118, ForwardRedirect},
		{"a later one", edit(104, 0, 9), 118, PassICMP},
		{"of ICMPv6", edit(102, ICMPv6), 118, PassICMP},
		{"of a fragment", edit(102, Fragment), 118, PassICMP},
		{"after other options", edit(68, Destination), 118, PassICMP},
		{"of version 4", edit(62, 0x45), 118, PassICMP},
		{"with seven bytes", func(b []byte) []byte { b[19]--; return b }, 118, PassICMP},
		{"with seven bytes in the linear part", edit(0), 117, PassICMP},
		{"without its header", func(b []byte) []byte { b[19] = 48; return b }, 118, PassICMP},
		{"nothing at all", func(b []byte) []byte { b[19] = 12; return b }, 118, PassICMP},
	} {
		frame := test.edit(unhex(t, needFragPart6))
		if res := established6(t).Process(frame, test.linear); res.Verdict != test.want {
			t.Errorf("%s: %v, want %v", test.name, res.Verdict, test.want)
		}
	}
}

func TestQuoteOfIPv6InLinearPart(t *testing.T) {
	frame := unhex(t, needFragWhole6)
	for _, test := range []struct {
		linear int
		want   Verdict
	}{{54, PassICMP}, {53, PassOther}, {109, PassICMP}, {110, ForwardRedirect}} {
		if res := established6(t).Process(frame, test.linear); res.Verdict != test.want {
			t.Errorf("linear part of %d: %v, want %v", test.linear, res.Verdict, test.want)
		}
	}
	for linear, kept := range map[int]bool{119: true, 120: false} {
		res := established6(t).Process(frame, linear)
		if got := be.Uint16(res.Out[118:]) == be.Uint16(frame[118:]); got != kept {
			t.Errorf("linear part of %d: TCP checksum kept: %v", linear, got)
		}
	}
}
