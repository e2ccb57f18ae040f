package refmodel

import (
	"bytes"
	"testing"
)

// pieces cuts a good frame into two fragments, of which the first has so many
// bytes behind the IP header.
func pieces(t *testing.T, whole string, at int) (first, later []byte) {
	t.Helper()
	frame := unhex(t, whole)
	cut := func(from, to int, field uint16) []byte {
		piece := append(append([]byte{}, frame[:ethLen+ipv4.header]...), frame[from:to]...)
		ip := piece[ethLen : ethLen+ipv4.header]
		be.PutUint16(ip[2:], uint16(ipv4.header+to-from))
		be.PutUint16(ip[6:], field)
		be.PutUint16(ip[10:], 0)
		be.PutUint16(ip[10:], Checksum(ip))
		return piece
	}
	l4 := ethLen + ipv4.header
	return cut(l4, l4+at, 0x2000), cut(l4+at, len(frame), uint16(at/8))
}

// wantVerdict sends a frame.
func wantVerdict(t *testing.T, m *Model, frame []byte, want Verdict) []byte {
	t.Helper()
	res := m.Process(frame, len(frame))
	if res.Verdict != want {
		t.Fatalf("verdict is %v, want %v", res.Verdict, want)
	}
	return res.Out
}

// wantPieces asserts that two fragments together are a frame.
func wantPieces(t *testing.T, first, later []byte, whole string) {
	t.Helper()
	for _, piece := range [][]byte{first, later} {
		if Checksum(piece[ethLen:ethLen+ipv4.header]) != 0 {
			t.Errorf("the IP checksum of %x is wrong", piece)
		}
	}
	l4 := ethLen + ipv4.header
	want := unhex(t, whole)
	if got := append(append([]byte{}, first[l4:]...), later[l4:]...); !bytes.Equal(got, want[l4:]) {
		t.Errorf("the datagram is %x, want %x", got, want[l4:])
	}
	if !bytes.Equal(later[:l4][:ethLen+2], want[:ethLen+2]) || !bytes.Equal(later[ethLen+12:l4], want[ethLen+12:l4]) {
		t.Errorf("the later fragment's header is %x, want one as of %x", later[:l4], want[:l4])
	}
}

func TestFragmentsInOrder(t *testing.T) {
	m := newModel()
	first, later := pieces(t, query, 8)
	out := wantVerdict(t, m, first, ForwardTX)
	wantPieces(t, out, wantVerdict(t, m, later, ForwardTX), queryOut)

	m = newModel()
	pass(t, m, syn, synOut, ForwardRedirect)
	first, later = pieces(t, data, 24)
	out = wantVerdict(t, m, first, ForwardRedirect)
	wantPieces(t, out, wantVerdict(t, m, later, ForwardRedirect), dataOut)
	if c := m.BackendCounters[0]; c.Packets[Forward] != 3 || c.Bytes[Forward] != 40+44+21 {
		t.Errorf("counted %+v", c)
	}
}

func TestFragmentsOutOfOrder(t *testing.T) {
	m := newModel()
	m.Agent = true
	first, later := pieces(t, query, 8)
	wantVerdict(t, m, later, HoldFragment)
	wantVerdict(t, m, later, HoldFragment)
	wantVerdict(t, m, first, ForwardTX)
	if m.Held != 2 || m.Told != 1 {
		t.Errorf("the agent got %d frames and was told %d times, want 2 and 1", m.Held, m.Told)
	}
	wantVerdict(t, m, later, ForwardTX)
	wantVerdict(t, m, first, ForwardTX)
	if m.Told != 1 {
		t.Error("the agent was told again")
	}
	m.Agent = false
	be.PutUint16(later[18:], 7)
	wantVerdict(t, m, later, DropFragment)
}

func TestLaterFragments(t *testing.T) {
	for _, test := range []struct {
		name   string
		before func(*Model, []byte) // the first fragment was forwarded
		want   Verdict
	}{
		{"in time", func(m *Model, _ []byte) { m.Now += 1250 }, ForwardTX},
		{"too late", func(m *Model, _ []byte) { m.Now += 1251 }, HoldFragment},
		{"another id", func(_ *Model, f []byte) { f[19]++ }, HoldFragment},
		{"another protocol", func(_ *Model, f []byte) { f[23] = TCP }, HoldFragment},
		{"another source", func(_ *Model, f []byte) { f[29]++ }, HoldFragment},
		{"to nobody", func(_ *Model, f []byte) { f[33]++ }, PassOther},
		{"from a backend", func(m *Model, f []byte) { f[33]++; m.VIPs[client] = AddressBackend }, HoldFragment},
		{"to a backend", func(m *Model, f []byte) { f[33]++; m.VIPs[AddrFrom(f[30:34])] = AddressBackend }, PassOther},
		{"nobody to hold it", func(m *Model, f []byte) { f[19]++; m.Agent = false }, DropFragment},
		{"TTL of 1", func(_ *Model, f []byte) { f[22] = 1 }, DropTTL},
		{"the flow is gone", func(m *Model, _ []byte) { clear(m.Flows) }, DropFlowEnded},
		{"the backend is down", func(m *Model, _ []byte) { m.Backends[1].State = BackendDown }, DropFlowEnded},
		{"too big", func(m *Model, _ []byte) { m.entries()[0].Hop.MTU, m.entries()[1].Hop.MTU = 24, 24 }, DropTooBig},
		{"of ICMP", func(_ *Model, f []byte) { f[23] = ICMP }, PassFragment},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := newModel()
			m.Agent = true
			first, later := pieces(t, query, 8)
			wantVerdict(t, m, first, ForwardTX)
			test.before(m, later)
			wantVerdict(t, m, later, test.want)
		})
	}
}

func TestFatesOfFirstFragments(t *testing.T) {
	for _, test := range []struct {
		name  string
		given func(*Model)
		first Verdict
		later Verdict
	}{
		{"passed", func(m *Model) { m.Services[2].State = ServiceProxy }, PassProxy, PassProxy},
		{"dropped", func(m *Model) { m.Services[2].Flags |= FlagListed }, DropDenied, DropFragment},
		{"answered", func(m *Model) { m.Services[2].Slots.Length = 0 }, AnswerUnreachable, DropFragment},
		{"no service's", func(m *Model) { clear(m.Listeners) }, PassOther, PassOther},
		{"nobody's", func(m *Model) { clear(m.Listeners); clear(m.VIPs) }, PassOther, PassOther},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := newModel()
			test.given(m)
			first, later := pieces(t, query, 8)
			wantVerdict(t, m, first, test.first)
			wantVerdict(t, m, later, test.later)
			if remembered := len(m.Fragments) == 1; remembered != (test.name != "nobody's") {
				t.Errorf("remembered: %v", m.Fragments)
			}
		})
	}
}

func TestTinyFragment(t *testing.T) {
	m := newModel()
	first, later := pieces(t, syn, 16)
	wantVerdict(t, m, first, DropMalformed)
	wantVerdict(t, m, later, DropFragment)
}

func TestFragmentRival(t *testing.T) {
	m := newModel()
	first, later := pieces(t, query, 8)
	wantVerdict(t, m, first, ForwardTX)
	m.FragmentRivals, m.Fragments = m.Fragments, map[FragmentKey]Fate{}
	wantVerdict(t, m, later, ForwardTX)
}

// fragment6 is the fragment of an IPv6 frame that has these bytes of its payload.
func fragment6(frame []byte, says uint8, from, to int, more byte) []byte {
	l4 := ethLen + ipv6.header
	out := append([]byte{}, frame[:l4]...)
	out = append(out, says, 0, byte(from>>8), byte(from)|more, 1, 2, 3, 4)
	out = append(out, frame[l4+from:l4+to]...)
	be.PutUint16(out[ethLen+4:], uint16(len(out)-l4))
	out[ethLen+6] = Fragment
	return out
}

func TestFragmentsOfIPv6(t *testing.T) {
	in, left := unhex(t, query6), unhex(t, query6Out)
	for _, inOrder := range []bool{true, false} {
		m := newModel6()
		m.Agent = true
		first, later := fragment6(in, UDP, 0, 8, 1), fragment6(in, Routing, 8, 13, 0) // says what nobody asks
		if !inOrder {
			wantVerdict(t, m, later, HoldFragment)
		}
		if out := wantVerdict(t, m, first, ForwardTX); !bytes.Equal(out, fragment6(left, UDP, 0, 8, 1)) {
			t.Errorf("the first fragment left as %x", out)
		}
		if out := wantVerdict(t, m, later, ForwardTX); !bytes.Equal(out, fragment6(left, Routing, 8, 13, 0)) {
			t.Errorf("the later fragment left as %x", out)
		}
		later[ethLen+ipv6.header+7]++
		wantVerdict(t, m, later, HoldFragment)
	}
}
