package e2e

import (
	"bytes"
	"net"
	"net/netip"
	"testing"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"

	"fairlead/testenv"
)

// A ping of a service address is answered by XDP, whether the host has the
// address or only its route leads here, and however long it is.
func TestPingOfServiceAddress(t *testing.T) {
	for name, test := range map[string]struct {
		more string
		mtu  int
	}{
		"an address of the host": {"", 1500},
		"an address of no host":  {"addresses: leave", 1500},
		"jumbo frames":           {"", 9000},
	} {
		t.Run(name, func(t *testing.T) {
			inFamilies(t, func(t *testing.T, f family) { testPing(t, f, test.more, test.mtu) })
		})
	}
}

func testPing(t *testing.T, f family, more string, mtu int) {
	s := f.stage(t, testenv.RigOptions{Backends: 1, Cable: []testenv.CableOption{testenv.MTU(mtu)}})
	f.configure(s, "", more)
	s.Loader("attach").OK(t)
	account := s.Account()
	network, headers := f.ping()
	c := dialFor(t, s.Clients[0], network, netip.AddrPort{}, f.vip)
	sizes := []int{0, 400, mtu - headers}
	for seq, size := range sizes {
		f.wantPong(t, c, icmp.Echo{ID: 7, Seq: seq, Data: bytes.Repeat([]byte("ping"), size)[:size]})
	}
	asked := uint64(len(sizes))
	sums := closeAccount(t, account)
	if n := s.Stats().Verdicts["answer_echo"]; n != asked || sums.Verdicts != asked || sums.XDP != asked || sums.Stack != 0 {
		t.Errorf("%d of %d pings were answered: %+v", n, asked, sums)
	}
	wantSound(t, s)
}

// ping returns the network of pings, and the length of the headers of one.
func (f family) ping() (network string, headers int) {
	if f.suffix == "6" {
		return "ip6:ipv6-icmp", 40 + 8
	}
	return "ip4:icmp", 20 + 8
}

// wantPong sends a ping and waits for its answer.
func (f family) wantPong(t *testing.T, c net.Conn, want icmp.Echo) {
	t.Helper()
	var request, reply icmp.Type = ipv4.ICMPTypeEcho, ipv4.ICMPTypeEchoReply
	protocol := unix.IPPROTO_ICMP
	if f.suffix == "6" {
		request, reply, protocol = ipv6.ICMPTypeEchoRequest, ipv6.ICMPTypeEchoReply, unix.IPPROTO_ICMPV6
	}
	ping, err := (&icmp.Message{Type: request, Body: &want}).Marshal(nil) // the kernel sums ICMPv6 itself
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
	pong, err := icmp.ParseMessage(protocol, b[:n])
	if err != nil {
		t.Fatal(err)
	}
	got, ok := pong.Body.(*icmp.Echo)
	if pong.Type != reply || !ok || got.Seq != want.Seq || !bytes.Equal(got.Data, want.Data) {
		t.Errorf("ping %d was answered by %+v", want.Seq, pong)
	}
}
