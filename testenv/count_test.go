package testenv

import (
	"bytes"
	"net/netip"
	"testing"
)

func TestDiscardedFramesAreCountedOnly(t *testing.T) {
	outside6 := spec6()
	outside6.Src = netip.MustParseAddrPort("[2001:db8:1::1]:1234")
	outside4 := spec
	outside4.Src = netip.MustParseAddrPort("192.0.2.129:1234")
	for _, row := range []struct {
		name            string
		from            netip.Prefix
		inside, outside [][]byte
	}{
		{
			"IPv4", netip.MustParsePrefix("192.0.2.0/25"),
			[][]byte{TCPFrame(spec), UDPFrame(spec)}, [][]byte{TCPFrame(outside4), TCPFrame(spec6())},
		},
		{
			"IPv6", netip.MustParsePrefix("2001:db8::/48"),
			[][]byte{TCPFrame(spec6()), UDPFrame(spec6())}, [][]byte{TCPFrame(outside6), TCPFrame(spec)},
		},
		{"a whole word", netip.MustParsePrefix("2001:db8::/32"), [][]byte{TCPFrame(outside6)}, [][]byte{TCPFrame(spec)}},
	} {
		t.Run(row.name, func(t *testing.T) {
			sender, receiver := NewHost(t, "sender"), NewHost(t, "receiver")
			Cable(t, sender, "192.0.2.1/24", receiver, "192.0.2.2/24")
			receiver.Discard(row.from)
			counter := receiver.CountFrames(t, "sender")
			sniffer := receiver.Sniff(t, "sender")
			sender.Inject(t, "receiver", append(row.inside, row.outside...)...)
			for _, want := range row.outside {
				if got, err := sniffer.Next(within(t)); err != nil || !bytes.Equal(got, want) {
					t.Fatalf("seen %x, %v, want %x", got, err, want)
				}
			}
			n := counter.Counts()
			if got, want := n.IPv4+n.IPv6, len(row.inside)+len(row.outside); got != uint64(want) {
				t.Errorf("counted %d frames, want %d", got, want)
			}
		})
	}
}
