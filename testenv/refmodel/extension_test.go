package refmodel

import (
	"slices"
	"testing"
)

// extended is the SYN with extension headers, of which the last names TCP.
func extended(t *testing.T, first byte, headers ...[]byte) []byte {
	t.Helper()
	frame := unhex(t, syn6)
	all := slices.Concat(headers...)
	frame[20] = first
	be.PutUint16(frame[18:], uint16(20+len(all)))
	return slices.Insert(frame, 54, all...)
}

// header is an extension header of so many bytes; from its third on it begins
// with some.
func header(next byte, size int, with ...byte) []byte {
	b := make([]byte, size)
	b[0], b[1] = next, byte(size/8-1)
	copy(b[2:], with)
	return b
}

func TestExtensionHeaders(t *testing.T) {
	end := header(TCP, 8)
	opts := header(Destination, 8)
	long := header(TCP, 8)
	long[1] = 3 // four bytes more than there are
	fragment := func(with ...byte) []byte { return header(TCP, 8, with...) }
	for _, test := range []struct {
		name  string
		frame []byte
		want  Verdict
	}{
		{"none", extended(t, TCP), ForwardRedirect},
		{"hop-by-hop options", extended(t, HopByHop, end), ForwardRedirect},
		{"destination options", extended(t, Destination, header(TCP, 24)), ForwardRedirect},
		{"all, in the order of RFC 8200", extended(t, HopByHop, opts, header(Routing, 16), header(Fragment, 24), header(Destination, 8), end), ForwardRedirect},
		{"hop-by-hop options behind others", extended(t, Destination, header(HopByHop, 8), end), PassMalformed},
		{"hop-by-hop options twice", extended(t, HopByHop, header(HopByHop, 8), end), PassMalformed},
		{"a routing header that is used up", extended(t, Routing, header(TCP, 24, 4, 0)), ForwardRedirect},
		{"a routing header of type 0 that is used up", extended(t, Routing, header(TCP, 24, 0, 0)), ForwardRedirect},
		{"a routing header with segments left", extended(t, Routing, header(TCP, 24, 4, 1)), PassOptions},
		{"an atomic fragment", extended(t, Fragment, fragment()), ForwardRedirect},
		{"an atomic fragment with reserved bits", extended(t, Fragment, header(TCP, 8, 0, 6, 1, 2, 3, 4)), ForwardRedirect},
		{"a first fragment", extended(t, Fragment, fragment(0, 1)), ForwardRedirect},
		{"a last fragment", extended(t, Fragment, fragment(0, 8)), DropFragment},
		{"a far fragment", extended(t, Fragment, fragment(0x80, 0)), DropFragment},
		{"a first fragment with options behind", extended(t, Fragment, header(Destination, 8, 0, 1), end), ForwardRedirect},
		{"a last fragment of who knows what", extended(t, Fragment, header(Destination, 8, 0, 8)), DropFragment},
		{"a fragment of ICMPv6", extended(t, Fragment, header(ICMPv6, 8, 0, 8)), PassFragment},
		{"a fragment of a fragment", extended(t, Fragment, header(Destination, 8, 0, 1), header(Fragment, 8), fragment(0, 1)), PassFragment},
		{"a fragment whose headers do not end", extended(t, Fragment, header(Destination, 8, 0, 1), long), PassMalformed},
		{"six headers", extended(t, Destination, opts, opts, opts, opts, opts, end), ForwardRedirect},
		{"seven headers", extended(t, Destination, opts, opts, opts, opts, opts, opts, end), PassOptions},
		{"256 bytes", extended(t, Destination, header(Destination, 128), header(TCP, 128)), ForwardRedirect},
		{"264 bytes", extended(t, Destination, header(Destination, 128), header(TCP, 136)), PassOptions},
		{"a header beyond the packet", extended(t, Destination, long), PassMalformed},
		{"a fragment header whose second byte is no length", extended(t, Fragment, long), ForwardRedirect},
		{"no next header", extended(t, Destination, header(NoHeader, 8)), PassOther},
		{"authentication", extended(t, Destination, header(51, 8)), PassOther},
		{"ICMP of IPv4", extended(t, Destination, header(ICMP, 8)), PassOther},
		{"ICMPv6", extended(t, Destination, header(ICMPv6, 8)), PassICMP},
		{"UDP of 20 bytes", extended(t, Destination, header(UDP, 8)), PassOther}, // no listener
	} {
		t.Run(test.name, func(t *testing.T) {
			res := newModel6().Process(test.frame, len(test.frame))
			if res.Verdict != test.want {
				t.Fatalf("verdict is %v, want %v", res.Verdict, test.want)
			}
			if n := len(test.frame); res.Verdict == ForwardRedirect && (string(res.Out[54:n-20]) != string(test.frame[54:n-20]) || string(res.Out[n-20:]) != string(unhex(t, syn6Out)[54:])) {
				t.Errorf("%x left, from %x", res.Out, test.frame)
			}
		})
	}
}

func TestOddPacketsOfIPv6(t *testing.T) {
	tagged := func(b []byte) []byte { return slices.Insert(b, 12, 0x88, 0xa8, 0, 5) }
	for _, test := range []struct {
		name string
		edit func([]byte) []byte
		want Verdict
	}{
		{"version 4", edit(14, 0x45), PassOther},
		{"type of IPv4", edit(12, 8, 0), PassOther},
		{"to a group", edit(0, 3), PassOther},
		{"cut inside the IPv6 header", func(b []byte) []byte { return b[:53] }, PassOther},
		{"cut inside the TCP header", func(b []byte) []byte { return b[:73] }, PassMalformed},
		{"a VLAN tag", tagged, PassVLAN},
		{"two VLAN tags, and cut", func(b []byte) []byte { return tagged(tagged(b))[:70] }, PassVLAN},
		{"three VLAN tags", func(b []byte) []byte { return tagged(tagged(tagged(b))) }, PassOther},
		{"payload length beyond the frame", edit(18, 0, 21), PassMalformed},
		{"a jumbogram's length", edit(18, 0, 0), PassMalformed},
		{"seven bytes after the header", edit(18, 0, 7), PassMalformed},
		{"eight bytes after the header", edit(18, 0, 8), DropMalformed},
		{"hop limit of 1", edit(21, 1), AnswerTimeExceeded},
		{"hop limit of 2", edit(21, 2), ForwardRedirect},
		{"to nobody we know", edit(53, 11), PassOther},
		{"a fragment to nobody we know", func(b []byte) []byte { b[53], b[20] = 11, Fragment; return b }, PassOther},
		{"padding", func(b []byte) []byte { return append(b, 1, 2, 3) }, ForwardRedirect},
		{"no SYN", edit(67, ACK), PassNoFlow},
		{"data offset beyond the packet", edit(66, 0x60), DropMalformed},
	} {
		t.Run(test.name, func(t *testing.T) {
			frame := test.edit(unhex(t, syn6))
			if res := newModel6().Process(frame, len(frame)); res.Verdict != test.want {
				t.Errorf("verdict is %v, want %v", res.Verdict, test.want)
			}
		})
	}
}

func TestLinearPartOfIPv6(t *testing.T) {
	options := extended(t, Destination, header(TCP, 16))
	for _, test := range []struct {
		name   string
		frame  []byte
		linear int
		want   Verdict
	}{
		{"all but the payload", unhex(t, data6), 74, PassNoFlow},
		{"a byte of TCP less", unhex(t, data6), 73, PassMalformed},
		{"all but the payload of UDP", unhex(t, query6), 62, ForwardTX},
		{"a byte of UDP less", unhex(t, query6), 61, PassMalformed},
		{"no whole IPv6 header", unhex(t, data6), 53, PassOther},
		{"extension headers", append(options, 0), 90, ForwardRedirect},
		{"a byte of TCP after extension headers less", options, 89, PassMalformed},
		{"a whole fragment header", extended(t, Fragment, header(TCP, 8, 0, 8)), 62, DropFragment},
		{"a byte of the fragment header less", extended(t, Fragment, header(TCP, 8, 0, 8)), 61, PassMalformed},
		{"no tag's packet", slices.Insert(unhex(t, syn6), 12, 0x81, 0, 0, 5), 60, PassVLAN},
	} {
		if res := newModel6().Process(test.frame, test.linear); res.Verdict != test.want {
			t.Errorf("%s: verdict is %v, want %v", test.name, res.Verdict, test.want)
		}
	}
}

// TestNoErrorAboutExtensionHeaders: resets yes, ICMPv6 no, and what is not sent
// takes nothing from the limit.
func TestNoErrorAboutExtensionHeaders(t *testing.T) {
	m := newModel6()
	m.Services[1].Slots.Length, m.Services[2].Slots.Length = 0, 0
	asks := unhex(t, query6)
	asks[20] = Destination
	asks = slices.Insert(asks, 54, header(UDP, 8)...)
	be.PutUint16(asks[18:], 21)
	if res := m.Process(asks, len(asks)); res.Verdict != DropNoBackend || m.Replies.Count != 0 {
		t.Errorf("verdict is %v, %d replies", res.Verdict, m.Replies.Count)
	}
	hello := extended(t, HopByHop, header(TCP, 16))
	res := m.Process(hello, len(hello))
	if want := unhex(t, synReset6); res.Verdict != AnswerReset || string(res.Out) != string(want) {
		t.Errorf("verdict is %v, out\n%x, want\n%x", res.Verdict, res.Out, want)
	}
	m = newModel6()
	fib := m.FIB
	m.FIB = func(src, dst Addr) (FIBResult, Hop) {
		answer, hop := fib(src, dst)
		hop.MTU = 75
		return answer, hop
	}
	if res := m.Process(hello, len(hello)); res.Verdict != DropTooBig || m.Replies.Count != 0 {
		t.Errorf("verdict is %v, %d replies", res.Verdict, m.Replies.Count)
	}
}
