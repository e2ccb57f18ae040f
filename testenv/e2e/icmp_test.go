package e2e

import (
	"errors"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"fairlead/testenv"
	"fairlead/testenv/stage"
)

// udpPort is where the backends of these tests do, or do not, listen.
const udpPort = 9000

// A backend says that it has no such port: to the client, of the service.
func TestClosedPortOfBackendRefuses(t *testing.T) {
	inFamilies(t, func(t *testing.T, f family) {
		s := f.udpStage(t)
		account := s.Account()
		for range s.Backends {
			c := dialFor(t, s.Clients[0], "udp"+f.suffix, netip.AddrPort{}, f.at(7))
			wantError(t, c, syscall.ECONNREFUSED)
		}
		if sums := wantAllXDP(t, s, account); sums.XDP != uint64(2*len(s.Backends)) {
			t.Errorf("%d frames for a datagram to each backend and its error: %+v", sums.XDP, sums)
		}
	})
}

// A client is gone when its answer comes, and says so to the backend.
func TestClosedPortOfClientRefuses(t *testing.T) {
	inFamilies(t, func(t *testing.T, f family) {
		s := f.udpStage(t)
		account := s.Account()
		_, server := f.talkUDP(t, s, s.Clients[0], s.ClientAddrs[0], func(client net.Conn) { client.Close() })
		wantError(t, server, syscall.ECONNREFUSED)
		if sums := wantAllXDP(t, s, account); sums.XDP != 3 {
			t.Errorf("%d frames for a datagram, its answer and an error: %+v", sums.XDP, sums)
		}
	})
}

// traceroute lives on routers that say where a packet's TTL was used up. Here
// they stand behind the balancer, on either side of it.
func TestUsedUpTTLIsTold(t *testing.T) {
	inFamilies(t, func(t *testing.T, f family) {
		t.Run("to the client", func(t *testing.T) {
			s := f.stage(t, testenv.RigOptions{Backends: 1})
			_, addr := s.Behind(t, s.Backends[0])
			s.Configure("interfaces: %s\nservices: [{name: far, listen: '%s', protocol: udp, backends: [{address: '%s'}]}]",
				s.Links(), f.at(7), netip.AddrPortFrom(f.addr(addr), udpPort))
			s.Loader("attach").OK(t)
			account := s.Account()
			c := dialFor(t, s.Clients[0], "udp"+f.suffix, netip.AddrPort{}, f.at(7))
			f.limitTTL(t, c, 2)
			wantError(t, c, syscall.EHOSTUNREACH)
			if sums := wantAllXDP(t, s, account); sums.XDP != 2 {
				t.Errorf("%d frames for a datagram and an error: %+v", sums.XDP, sums)
			}
		})
		t.Run("to the backend", func(t *testing.T) {
			s := f.udpStage(t)
			far, addr := s.Behind(t, s.Clients[0])
			account := s.Account()
			_, server := f.talkUDP(t, s, far, addr, func(net.Conn) {})
			f.limitTTL(t, server, 2)
			wantError(t, server, syscall.EHOSTUNREACH)
			if sums := wantAllXDP(t, s, account); sums.XDP != 3 {
				t.Errorf("%d frames for a datagram, its answer and an error: %+v", sums.XDP, sums)
			}
		})
	})
}

// traceroute lives on this hop, too. Either side sees the service address in its
// place: it is the one that both know, and the balancer's own may be none.
func TestUsedUpTTLAtTheBalancer(t *testing.T) {
	inFamilies(t, func(t *testing.T, f family) {
		s := f.udpStage(t)
		account := s.Account()
		client, server := f.talkUDP(t, s, s.Clients[0], s.ClientAddrs[0], func(net.Conn) {})
		for name, sender := range map[string]net.Conn{"client": client, "backend": server} {
			f.limitTTL(t, sender, 1)
			wantError(t, sender, syscall.EHOSTUNREACH)
			if from := f.whoTold(t, sender); from.String() != f.vip {
				t.Errorf("the %s hears of it from %s, want %s", name, from, f.vip)
			}
		}
		if sums := wantAllXDP(t, s, account); sums.XDP != 3 {
			t.Errorf("%d frames for three datagrams: %+v", sums.XDP, sums)
		}
		if n := s.Stats().Verdicts["answer_time_exceeded"]; n != 2 {
			t.Errorf("%d packets were answered, want 2", n)
		}
	})
}

// whoTold is the sender of the error that a socket has heard of.
func (f family) whoTold(t *testing.T, c net.Conn) (from netip.Addr) {
	t.Helper()
	raw, err := c.(*net.UDPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	oob, n := make([]byte, 512), 0
	rerr := raw.Read(func(fd uintptr) bool {
		_, n, _, _, err = unix.Recvmsg(int(fd), nil, oob, unix.MSG_ERRQUEUE)
		return true
	})
	if err := errors.Join(err, rerr); err != nil {
		t.Fatal(err)
	}
	all, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil {
		t.Fatal(err)
	}
	at, end := 20, 24 // in what follows struct sock_extended_err
	if f.suffix == "6" {
		at, end = 24, 40
	}
	for _, m := range all {
		if len(m.Data) >= end && m.Header.Type == f.errorMessage() {
			from, _ = netip.AddrFromSlice(m.Data[at:end])
		}
	}
	return from
}

// errorMessage is the type of a control message with an error.
func (f family) errorMessage() int32 {
	if f.suffix == "6" {
		return unix.IPV6_RECVERR
	}
	return unix.IP_RECVERR
}

// udpStage raises a stage with a UDP service on port 7.
func (f family) udpStage(t *testing.T) *stage.Stage {
	t.Helper()
	s := f.stage(t, testenv.RigOptions{})
	s.Configure("interfaces: %s\nservices: [{name: udp, listen: '%s', protocol: udp, backends: %s}]",
		s.Links(), f.at(7), f.backends(s, udpPort))
	s.Loader("attach").OK(t)
	return s
}

// talkUDP sends a datagram to the first backend, whose socket is connected to
// the client, calls then with the client's socket, and returns both.
func (f family) talkUDP(t *testing.T, s *stage.Stage, from *testenv.Host, addr netip.Addr, then func(client net.Conn)) (client, server net.Conn) {
	t.Helper()
	own := netip.AddrPortFrom(f.addr(addr), 40000)
	server = dialFor(t, s.Backends[0], "udp"+f.suffix, f.serverAddr(s, 0, udpPort), own.String())
	client = dialFor(t, from, "udp"+f.suffix, own, f.at(7))
	if _, err := client.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if _, err := server.Read(make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	then(client)
	return client, server
}

// dialFor opens a socket on a host, from an address if that is valid. The test
// closes it.
func dialFor(t *testing.T, h *testenv.Host, network string, from netip.AddrPort, to string) net.Conn {
	t.Helper()
	var d net.Dialer
	if from.IsValid() {
		d.LocalAddr = net.UDPAddrFromAddrPort(from)
	}
	var c net.Conn
	h.Do(t, func() (err error) {
		c, err = d.DialContext(t.Context(), network, to)
		return err
	})
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(stage.Patience)); err != nil {
		t.Fatal(err)
	}
	return c
}

// limitTTL lets packets of a socket get as far as the balancer (1) or the router
// behind it (2), and the socket hear of that.
func (f family) limitTTL(t *testing.T, c net.Conn, hops int) {
	t.Helper()
	level, ttl, errs := unix.IPPROTO_IP, unix.IP_TTL, unix.IP_RECVERR
	if f.suffix == "6" {
		level, ttl, errs = unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, unix.IPV6_RECVERR
	}
	raw, err := c.(*net.UDPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	cerr := raw.Control(func(fd uintptr) {
		err = errors.Join(
			unix.SetsockoptInt(int(fd), level, ttl, hops),
			unix.SetsockoptInt(int(fd), level, errs, 1))
	})
	if err := errors.Join(cerr, err); err != nil {
		t.Fatal(err)
	}
}

// wantError sends a datagram and asserts which error comes back.
func wantError(t *testing.T, c net.Conn, want error) {
	t.Helper()
	if _, err := c.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Read(make([]byte, 100)); !errors.Is(err, want) {
		t.Errorf("%d bytes, %v, want %v", n, err, want)
	}
}
