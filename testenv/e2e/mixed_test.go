package e2e

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"fairlead/testenv"
	"fairlead/testenv/stage"
)

// betweenStage raises a stage with both families, and returns the one that the
// backends of f's clients are of.
func (f family) betweenStage(t *testing.T, o testenv.RigOptions) (*stage.Stage, family) {
	t.Helper()
	return families[1].stage(t, o), f.other()
}

func (f family) is6() bool { return f.suffix == "6" }

// other is the other family.
func (f family) other() family {
	if f.is6() {
		return families[0]
	}
	return families[1]
}

// configureBetween writes a configuration whose backends are of the other family.
// health is that of both services.
func (f family) configureBetween(s *stage.Stage, other family, health string) {
	s.Configure(`
interfaces: %s
services:
  - {name: web, listen: '%s', forward: full-nat, backends: %s, health: %s}
  - {name: echo, listen: '%s', protocol: udp, forward: full-nat, backends: %s, health: %s}`,
		s.Links(), f.at(80), other.backends(s, 8080), health, f.at(7), other.backends(s, 8080), health)
}

func TestClientsOfOneFamilyReachServersOfTheOther(t *testing.T) {
	inFamilies(t, func(t *testing.T, f family) {
		inModes(t, func(t *testing.T, mode string) {
			s, other := f.betweenStage(t, testenv.RigOptions{})
			f.configureBetween(s, other, "{type: none}")
			check := attachedIn(t, s, mode)
			wantDisguised(t, s, f, other)
			check()
		})
	})
}

// A backend of the other family that is killed is taken out, which its flows
// are told, and comes back.
func TestKilledServerOfTheOtherFamilyIsTakenOut(t *testing.T) {
	inFamilies(t, func(t *testing.T, f family) {
		s, other := f.betweenStage(t, testenv.RigOptions{Backends: 2})
		f.configureBetween(s, other, "{type: http, path: /health, interval: 200ms, timeout: 200ms, rise: 1, fall: 2}")
		agent := s.StartAgent()
		s.AwaitHealth(0, true)
		s.AwaitHealth(1, true)
		account := s.Account()
		talk := firstBackendsTalk(t, s, f)
		s.Servers[0].Stop(syscall.SIGKILL)
		s.AwaitHealth(0, false)
		if a, err := talk.Ask(); err == nil {
			t.Errorf("a flow of the dead server was answered by %q", a.Message)
		}
		for i := range 4 {
			if a, err := s.Get(0, f.web()); err != nil || a.Message != s.Backends[1].Name {
				t.Errorf("request %d was answered by %q: %v", i, a.Message, err)
			}
		}
		closeAccount(t, account)
		wantSound(t, s)
		agent.Stop(syscall.SIGTERM)
	})
}

// firstBackendsTalk opens a connection to the first backend.
func firstBackendsTalk(t *testing.T, s *stage.Stage, f family) *stage.Talk {
	t.Helper()
	for range s.Backends {
		talk, err := s.Dial(0, f.at(80))
		if err != nil {
			t.Fatal(err)
		}
		if a, err := talk.Ask(); err == nil && a.Message == s.Backends[0].Name {
			return talk
		}
	}
	t.Fatal("no connection went to the first backend")
	return nil
}

// The proxy, on purpose or where XDP is not, serves with backends of any family.
func TestProxyServesWithServersOfTheOtherFamily(t *testing.T) {
	inFamilies(t, func(t *testing.T, f family) {
		for _, by := range []struct{ forward, xdp string }{{"proxy", "auto"}, {"full-nat", "off"}} {
			s, other := f.betweenStage(t, testenv.RigOptions{Backends: 1})
			s.Configure(`
interfaces: %s
xdp: %s
services:
  - {name: web, listen: '%s', forward: %s, backends: %s, health: {type: none}}
  - {name: echo, listen: '%s', protocol: udp, forward: %s, backends: %s}`,
				s.Links(), by.xdp, f.at(80), by.forward, other.backends(s, 8080), f.at(7), by.forward, other.backends(s, 8080))
			agent := s.StartAgent()
			if a, err := s.Get(0, f.web()); err != nil || a.Message != s.Backends[0].Name {
				t.Errorf("forward %s, xdp %s: answered by %q: %v", by.forward, by.xdp, a.Message, err)
			}
			if message, _, err := s.Echo(0, 0, f.at(7), "hello"); err != nil || message != s.Backends[0].Name {
				t.Errorf("forward %s, xdp %s: a datagram was answered by %q: %v", by.forward, by.xdp, message, err)
			}
			agent.Stop(syscall.SIGTERM)
		}
	})
}

// grown is what a packet of the other family's path MTU has in f.
func (f family) grown(mtu int) int {
	if f.suffix == "6" {
		return mtu + 20
	}
	return mtu - 20
}

// A router of the client's family tells the service what is too big; the server
// hears of it in its own.
func TestDownloadBehindSmallMTUOfTheOtherFamily(t *testing.T) {
	inFamilies(t, func(t *testing.T, f family) {
		s, other := f.betweenStage(t, testenv.RigOptions{Backends: 1})
		far, _ := s.Behind(t, s.Clients[0])
		s.Clients[0].SetMTU(t, "far", smallMTU)
		transfers := serveRawTo(t, s, f, other, "full-nat")
		account := s.Account()
		client, server, _ := transfers.open(t, far)
		wantWhole(t, server, client)
		if got, want := pathMTU(t, server), other.grown(smallMTU); got != want {
			t.Errorf("the server believes in a path MTU of %d, want %d", got, want)
		}
		wantAllXDP(t, s, account)
		wantSound(t, s)
	})
}

// The balancer's own link to the server is the narrow one.
func TestUploadThroughSmallMTUOfTheOtherFamily(t *testing.T) {
	inFamilies(t, func(t *testing.T, f family) {
		s, other := f.betweenStage(t, testenv.RigOptions{Backends: 1})
		s.Balancer.SetMTU(t, s.BackendLinks[0], smallMTU)
		transfers := serveRawTo(t, s, f, other, "full-nat")
		account := s.Account()
		client, server, _ := transfers.open(t, s.Clients[0])
		wantWhole(t, client, server)
		if got, want := pathMTU(t, client), f.grown(smallMTU); got != want {
			t.Errorf("the client believes in a path MTU of %d, want %d", got, want)
		}
		wantAllXDP(t, s, account)
		wantSound(t, s)
	})
}

// Datagrams of 9000 bytes go to a backend of the other family and come back. A
// fragment of IPv4 leaves room for what IPv6 adds to it.
func TestBigDatagramsBetweenFamilies(t *testing.T) {
	inFamilies(t, func(t *testing.T, f family) {
		inModes(t, func(t *testing.T, mode string) {
			s, other := f.betweenStage(t, testenv.RigOptions{Backends: 1})
			f.configureBetween(s, other, "{type: none}")
			four := s.Clients[0]
			if f.is6() {
				four = s.Backends[0]
			}
			four.SetMTU(t, testenv.Uplink, 1472)
			s.Loader("attach", "--mode", mode).OK(t)
			text := strings.Repeat("fairlead ", 1000)
			for i := range 30 {
				if _, _, err := s.Echo(0, uint16(30000+i%10), f.at(7), text); err != nil {
					t.Fatalf("datagram %d: %v; verdicts: %v", i, err, s.Stats().Verdicts)
				}
			}
			if v := s.Stats(); v.Kinds["drop"] != 0 || v.Verdicts["pass_fragment"] != 0 {
				t.Errorf("XDP dropped or passed fragments: %v", v.Verdicts)
			}
			wantSound(t, s)
		})
	})
}

// One fragment of each of many datagrams comes after one of each other.
func TestInterleavedFragmentsBetweenFamilies(t *testing.T) {
	inFamilies(t, func(t *testing.T, f family) {
		for _, turned := range []bool{false, true} {
			t.Run(fmt.Sprintf("out of order %t", turned), func(t *testing.T) {
				interleave(t, f, f.other(), "full-nat", turned)
			})
		}
	})
}

// A host of IPv6 takes no datagram without a checksum, or with a wrong one.
func TestDatagramsWithoutChecksumReachServersOfIPv6(t *testing.T) {
	four, six := families[0], families[1]
	s := newExchangeStage(t, four, six)
	e := newExchangeWith(t, s, four, six, "full-nat")
	s.Loader("attach").OK(t)
	to := net.UDPAddrFromAddrPort(netip.MustParseAddrPort(four.at(7)))
	for i, c := range e.clients {
		raw, err := c.(*net.UDPConn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		cerr := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_NO_CHECK, 1) })
		if err := errors.Join(cerr, err); err != nil {
			t.Fatal(err)
		}
		if _, err := c.WriteTo([]byte(text(i)), to); err != nil {
			t.Fatal(err)
		}
	}
	e.want(e.server, len(e.clients), func(int, netip.AddrPort) {})
	if v := s.Stats().Verdicts; v["drop_family"] != 0 {
		t.Errorf("verdicts are %v", v)
	}
	wantSound(t, s)
}
