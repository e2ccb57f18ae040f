package refmodel

import (
	"encoding/hex"
	"testing"
)

// edit returns the SYN with bytes at an offset replaced.
func edit(at int, with ...byte) func([]byte) []byte {
	return func(b []byte) []byte { copy(b[at:], with); return b }
}

func TestOddPackets(t *testing.T) {
	tagged := func(b []byte) []byte {
		return append(append(append([]byte(nil), b[:12]...), 0x81, 0, 0, 5), b[12:]...)
	}
	for _, test := range []struct {
		name string
		edit func([]byte) []byte
		want Verdict
	}{
		{"a plain SYN is forwarded", edit(0), ForwardRedirect},
		{"ARP", edit(12, 8, 6), PassOther},
		{"version 6", edit(14, 0x65), PassOther},
		{"cut inside the Ethernet header", func(b []byte) []byte { return b[:13] }, PassOther},
		{"cut inside the IP header", func(b []byte) []byte { return b[:33] }, PassOther},
		{"cut inside the TCP header", func(b []byte) []byte { return b[:53] }, PassMalformed},
		{"a VLAN tag", tagged, PassVLAN},
		{"two VLAN tags", func(b []byte) []byte { return tagged(tagged(b)) }, PassVLAN},
		{"three VLAN tags", func(b []byte) []byte { return tagged(tagged(tagged(b))) }, PassOther},
		{"header of 16 bytes", edit(14, 0x44), PassMalformed},
		{"options", edit(14, 0x46), PassOptions},
		{"options, longer than the packet", edit(14, 0x4f), PassMalformed},
		{"first fragment", edit(20, 0x20, 0), ForwardRedirect},
		{"later fragment", edit(20, 0, 1), DropFragment},
		{"a fragment of GRE", func(b []byte) []byte { b[20], b[23] = 0x20, 47; return b }, PassFragment},
		{"don't fragment is no fragment", edit(20, 0x40, 0), ForwardRedirect},
		{"the reserved bit is no fragment", edit(20, 0x80, 0), ForwardRedirect},
		{"ICMP", edit(23, ICMP), PassICMP},
		{"GRE to a service address", edit(23, 47), PassOther},
		{"total length beyond the frame", edit(16, 0, 41), PassMalformed},
		{"seven bytes after the IP header", edit(16, 0, 27), PassMalformed},
		{"eight bytes after the IP header", edit(16, 0, 28), DropMalformed},
		{"data offset of 4", edit(46, 0x40), DropMalformed},
		{"data offset beyond the packet", edit(46, 0x60), DropMalformed},
		{"TTL of 1", edit(22, 1), AnswerTimeExceeded},
		{"TTL of 2", edit(22, 2), ForwardRedirect},
		{"source of loopback", edit(26, 127), DropSource},
		{"source of multicast", edit(26, 224), DropSource},
		{"source of the destination", edit(26, vip.AsSlice()...), DropSource},
		{"source without a way back", edit(26, 9), DropSource},
		{"another port", edit(36, 0, 81), PassOther},
		{"no SYN", edit(47, ACK), PassNoFlow},
		{"SYN and ACK", edit(47, SYN|ACK), PassNoFlow},
		{"padding", func(b []byte) []byte { return append(b, 1, 2, 3) }, ForwardRedirect},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := newModel()
			frame := test.edit(unhex(t, syn))
			if res := m.Process(frame, len(frame)); res.Verdict != test.want {
				t.Errorf("verdict is %v, want %v", res.Verdict, test.want)
			}
			if m.Verdicts[test.want] != 1 {
				t.Errorf("verdict not counted: %v", m.Verdicts)
			}
		})
	}
}

func TestLinearPart(t *testing.T) {
	frame := append(unhex(t, syn), make([]byte, 100)...)
	frame[17] = 140
	for _, test := range []struct {
		linear int
		want   Verdict
	}{{54, ForwardRedirect}, {53, PassMalformed}, {34, PassMalformed}, {33, PassOther}} {
		if res := newModel().Process(frame, test.linear); res.Verdict != test.want {
			t.Errorf("linear part of %d: %v, want %v", test.linear, res.Verdict, test.want)
		}
	}
}

func TestClockGoesBack(t *testing.T) {
	m := newModel()
	m.Now = 0xffffffff
	pass(t, m, syn, synOut, ForwardRedirect)
	m.Now -= 2
	pass(t, m, synAck, synAckOut, ForwardTX)
	pass(t, m, data, dataOut, ForwardRedirect)
	m.Now += 2000
	pass(t, m, synAck, synAckOut, ForwardTX)
	m.Now += 2001
	pass(t, m, synAck, "", PassOther)
}

func TestUpdateOfRFC1624(t *testing.T) {
	var c change
	c.replace([]byte{0x55, 0x55}, []byte{0x32, 0x85})
	if got := c.apply(0xdd2f); got != 0x0000 {
		t.Errorf("checksum is %#04x, want 0x0000 (RFC 1624, section 4)", got)
	}
}

func TestChecksumOfRFC1071(t *testing.T) {
	bytes, _ := hex.DecodeString("0001f203f4f5f6f7")
	if got := ^Checksum(bytes); got != 0xddf2 {
		t.Errorf("sum is %#04x, want 0xddf2 (RFC 1071, section 3)", got)
	}
	if got := ^Checksum([]byte{1}); got != 0x0100 {
		t.Errorf("sum of one byte is %#04x, want 0x0100", got)
	}
}

func TestUDPChecksum(t *testing.T) {
	send := func(sum uint16) uint16 {
		frame := unhex(t, query)
		be.PutUint16(frame[40:], sum)
		out := newModel().Process(frame, len(frame)).Out
		return be.Uint16(out[40:])
	}
	key := Tuple{Src: client, Dst: vip, SPort: 5000, DPort: 53, Proto: UDP}
	leave := key
	leave.Dst = dns
	l4, _ := Delta(key, leave)
	if got := send(0); got != 0 {
		t.Errorf("checksum 0 became %#04x", got)
	}
	if got := send(l4); got != 0xffff {
		t.Errorf("checksum that becomes 0 was sent as %#04x, want 0xffff", got)
	}
	if got := send(0x35e8); got != 0x66ee {
		t.Errorf("a checksum one too low became %#04x, want 0x66ee", got)
	}
}
