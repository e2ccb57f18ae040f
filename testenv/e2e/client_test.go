package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"

	"fairlead/testenv"
	"fairlead/testenv/stage"
)

// inModes runs a test in each mode. Of generic mode there is no account, as
// GRO joins frames before they get there.
func inModes(t *testing.T, test func(t *testing.T, mode string)) {
	for _, mode := range []string{"native", "generic"} {
		t.Run(mode, func(t *testing.T) { test(t, mode) })
	}
}

// attachedIn attaches in one mode. The function that it returns asserts
// that everything went through XDP and that nothing was lost on the way.
func attachedIn(t *testing.T, s *stage.Stage, mode string) (check func()) {
	t.Helper()
	s.Loader("attach", "--mode", mode).OK(t)
	awaitNextHops(t, s)
	if mode == "generic" {
		before := s.Transmits()
		l := openLedger(s)
		return func() {
			t.Helper()
			l.wantNoneLost(t)
			if n := s.Transmits() - before; n != 0 {
				t.Errorf("the balancer's stack sent %d packets", n)
			}
			wantSound(t, s)
		}
	}
	account := s.Account()
	l := openLedger(s)
	return func() {
		t.Helper()
		wantAllXDP(t, s, account)
		l.wantNoneLost(t)
	}
}

// awaitNextHops waits until the balancer knows the Ethernet addresses that the datapath
// needs. On a busy machine that may take longer than attaching waits for it, and what
// comes before is dropped, sent again and given to the next backend.
func awaitNextHops(t *testing.T, s *stage.Stage) {
	t.Helper()
	const known = netlink.NUD_REACHABLE | netlink.NUD_STALE | netlink.NUD_DELAY | netlink.NUD_PROBE
	stage.Await(t, "next hops to answer", func() error {
		return s.Balancer.In(func() error {
			entries, err := netlink.NeighList(0, unix.AF_UNSPEC)
			for _, n := range entries {
				if n.FlagsExt&netlink.NTF_EXT_MANAGED != 0 && n.State&known == 0 {
					err = fmt.Errorf("%s has not answered", n.IP)
				}
			}
			return err
		})
	})
}

func TestCurlThroughXDP(t *testing.T) {
	inFamilies(t, func(t *testing.T, f family) {
		inModes(t, func(t *testing.T, mode string) {
			s := f.stage(t, testenv.RigOptions{})
			f.configure(s, "", "")
			check := attachedIn(t, s, mode)
			got := s.Run(s.Clients[0], tool(t, "curl"), "--silent", "--show-error", "--include", f.web()).OK(t)
			client := netip.AddrPortFrom(f.addr(s.ClientAddrs[0]), 1).String()
			for _, want := range []string{"HTTP/1.1 200 OK", "<h1>backend1</h1>", "You are " + strings.TrimSuffix(client, "1")} {
				if !strings.Contains(got, want) {
					t.Errorf("curl printed no %q in:\n%s", want, got)
				}
			}
			check()
		})
	})
}

func TestWrkThroughXDP(t *testing.T) {
	inModes(t, func(t *testing.T, mode string) {
		s := newStage(t, testenv.RigOptions{})
		configure(s, "")
		check := attachedIn(t, s, mode)
		out := s.Run(s.Clients[0], tool(t, "wrk"), "-c", "64", "-t", "2", "-d", "2s", web).OK(t)
		wantCleanWrk(t, out)
		check()
		wantFlows(t, s, 22, 22, 21) // wrk opens one connection more to see who is there
	})
}

var wrkRequests = regexp.MustCompile(`(\d+) requests in`)

// wantCleanWrk asserts that wrk saw answers and no error.
func wantCleanWrk(t *testing.T, out string) {
	t.Helper()
	m := wrkRequests.FindStringSubmatch(out)
	if m == nil || m[1] == "0" || strings.Contains(out, "Socket errors") || strings.Contains(out, "Non-2xx") {
		t.Errorf("wrk printed:\n%s", out)
	}
}

func TestIperfThroughXDP(t *testing.T) {
	inModes(t, func(t *testing.T, mode string) {
		s, iperf := iperfService(t)
		check := attachedIn(t, s, mode)
		for _, direction := range []string{"--no-delay", "--reverse"} {
			iperf(direction)
		}
		check()
	})
}

// iperfService raises a stage with an iperf3 server, which has a service, not
// attached yet, and returns a client of it. iperf3 opens a control and a data
// connection, which must meet: the service has one backend.
func iperfService(t *testing.T) (s *stage.Stage, run func(direction string)) {
	t.Helper()
	s = newStage(t, testenv.RigOptions{Backends: 1})
	s.Configure("interfaces: %s\nservices: [{name: iperf, listen: %s:5201, backends: %s}]", s.Links(), vip, s.BackendList(5201))
	iperf := tool(t, "iperf3")
	s.Start(s.Backends[0], iperf, "--server", "--forceflush").AwaitOutput("Server listening")
	return s, func(direction string) {
		t.Helper()
		// A window that no ring of a cable, 256 frames, can overflow from.
		out := s.Run(s.Clients[0], iperf, "--client", vip, "--time", "1", "--window", "64K", "--json", direction).OK(t)
		var report struct {
			End struct {
				Received struct {
					Bytes uint64 `json:"bytes"`
				} `json:"sum_received"`
			} `json:"end"`
		}
		if err := json.Unmarshal([]byte(out), &report); err != nil {
			t.Fatalf("iperf3: %v\n%s", err, out)
		}
		if report.End.Received.Bytes < 1<<20 {
			t.Errorf("iperf3 %s received %d bytes:\n%s", direction, report.End.Received.Bytes, out)
		}
	}
}

func TestDigThroughXDP(t *testing.T) {
	s := newStage(t, testenv.RigOptions{})
	s.Configure("interfaces: %s\nservices: [{name: dns, listen: %s:53, protocol: udp, backends: %s}]", s.Links(), vip, s.BackendList(5353))
	s.Loader("attach").OK(t)
	for i, h := range s.Backends {
		go answerDNS(h.ListenPacket(t, "udp4", ":5353"), byte(i+1))
	}
	account := s.Account()
	dig := tool(t, "dig")
	var got []string
	for range 6 {
		out := s.Run(s.Clients[0], dig, "+short", "+tries=1", "+timeout=20", "@"+vip, "www.example.com").OK(t)
		got = append(got, strings.TrimSpace(out))
	}
	want := "192.0.2.1 192.0.2.2 192.0.2.3 192.0.2.1 192.0.2.2 192.0.2.3"
	if strings.Join(got, " ") != want {
		t.Errorf("dig got %v, want %s", got, want)
	}
	sums := wantAllXDP(t, s, account)
	if sums.XDP != 12 {
		t.Errorf("%d frames for 6 questions and their answers: %+v", sums.XDP, sums)
	}
}

// answerDNS answers every question for an address with 192.0.2.last, until c
// is closed.
func answerDNS(c net.PacketConn, last byte) {
	buf := make([]byte, 1500)
	for {
		n, from, err := c.ReadFrom(buf)
		if err != nil {
			return
		}
		var m dnsmessage.Message
		if m.Unpack(buf[:n]) != nil || len(m.Questions) != 1 {
			continue
		}
		m.Response, m.Additionals = true, nil
		m.Answers = []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: m.Questions[0].Name, Class: dnsmessage.ClassINET, TTL: 1},
			Body:   &dnsmessage.AResource{A: [4]byte{192, 0, 2, last}},
		}}
		if answer, err := m.Pack(); err == nil {
			_, _ = c.WriteTo(answer, from) // a client that is gone shows as a failed query
		}
	}
}

// wantAllXDP ends an account and asserts that nothing took another way than
// XDP, nothing was dropped by a verdict and every checksum was right.
func wantAllXDP(t *testing.T, s *stage.Stage, account *stage.Account) stage.Sums {
	t.Helper()
	sums := closeAccount(t, account)
	if sums.XDP == 0 || sums.XDP+sums.Held != sums.Verdicts || sums.Stack > sums.Chores {
		t.Errorf("some frames took other ways than XDP: %+v", sums)
	}
	wantSound(t, s)
	return sums
}
