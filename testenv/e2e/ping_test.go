package e2e

import (
	"bytes"
	"net"
	"net/netip"
	"testing"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"

	"fairlead/testenv"
)

// pingHeaders is what a ping has beside its payload: IP and ICMP.
const pingHeaders = 20 + 8

// A ping of a service address is answered by XDP, whether the host has the
// address or only its route leads here, and however long it is.
func TestPingOfServiceAddress(t *testing.T) {
	for name, test := range map[string]struct {
		more  string
		sizes []int
		cable []testenv.CableOption
	}{
		"an address of the host": {"", []int{0, 400, 1500 - pingHeaders}, nil},
		"an address of no host":  {"addresses: leave", []int{0, 400, 1500 - pingHeaders}, nil},
		"jumbo frames":           {"", []int{1501, 9000 - pingHeaders}, []testenv.CableOption{testenv.MTU(9000)}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t, testenv.RigOptions{Backends: 1, Cable: test.cable})
			configure(s, test.more)
			s.Loader("attach").OK(t)
			account := s.Account()
			c := dialFor(t, s.Clients[0], "ip4:icmp", netip.AddrPort{}, vip)
			for seq, size := range test.sizes {
				wantPong(t, c, icmp.Echo{ID: 7, Seq: seq, Data: bytes.Repeat([]byte("ping"), size)[:size]})
			}
			asked := uint64(len(test.sizes))
			sums := closeAccount(t, account)
			if n := s.Stats().Verdicts["answer_echo"]; n != asked || sums.Verdicts != asked || sums.XDP != asked || sums.Stack != 0 {
				t.Errorf("%d of %d pings were answered: %+v", n, asked, sums)
			}
			wantSound(t, s)
		})
	}
}

// wantPong sends a ping and waits for its answer.
func wantPong(t *testing.T, c net.Conn, want icmp.Echo) {
	t.Helper()
	ping, err := (&icmp.Message{Type: ipv4.ICMPTypeEcho, Body: &want}).Marshal(nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write(ping); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 1<<16)
	n, _, err := c.(net.PacketConn).ReadFrom(b) // without the IP header, unlike Read
	if err != nil {
		t.Fatal(err)
	}
	pong, err := icmp.ParseMessage(unix.IPPROTO_ICMP, b[:n])
	if err != nil {
		t.Fatal(err)
	}
	got, ok := pong.Body.(*icmp.Echo)
	if pong.Type != ipv4.ICMPTypeEchoReply || !ok || got.Seq != want.Seq || !bytes.Equal(got.Data, want.Data) {
		t.Errorf("ping %d was answered by %+v", want.Seq, pong)
	}
}
