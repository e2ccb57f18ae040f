package e2e

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"fairlead/testenv"
	"fairlead/testenv/stage"
)

// A way is by which flows are made, as a configuration says it.
type way struct {
	top, forward string
	xdp          bool
}

// inWays runs a test with an agent and two clients in each way.
func inWays(t *testing.T, test func(t *testing.T, s *stage.Stage, w way)) {
	for name, w := range map[string]way{
		"xdp":            {"", "dnat", true},
		"xdp off":        {"xdp: off", "dnat", false},
		"forward: proxy": {"", "proxy", false},
	} {
		t.Run(name, func(t *testing.T) { test(t, newStage(t, testenv.RigOptions{Clients: 2}), w) })
	}
}

// configure writes services web (TCP, port 80) and echo (UDP, port 7), with
// these lists and limits.
func (w way) configure(s *stage.Stage, clients string) {
	s.Configure(`
interfaces: %s
%s
services:
  - {name: web, listen: %s:80, forward: %s, backends: %s, health: {type: none}, clients: %s}
  - {name: echo, listen: %s:7, protocol: udp, forward: %[4]s, backends: %[5]s, clients: %[6]s}
`, s.Links(), w.top, vip, w.forward, s.BackendList(8080), clients, vip)
}

// A tally is what became of flows that clients wanted.
type tally struct{ made, denied, limited uint64 }

// tally returns what was counted so far, for UDP or for TCP.
func (w way) tally(s *stage.Stage, udp bool) (sum tally, err error) {
	if w.xdp {
		v := s.Stats()
		return tally{v.Forwarded.Flows, v.Verdicts["drop_denied"], v.Verdicts["drop_source_limit"]}, nil
	}
	v, err := s.View()
	if udp {
		return tally{v.Proxy.UDP.Opened, v.Proxy.UDP.Denied, v.Proxy.UDP.SourceLimit}, err
	}
	p := v.Proxy.TCP
	return tally{p.Accepted - p.Denied - p.SourceLimit, p.Denied, p.SourceLimit}, err
}

// await waits until so many flows are judged, and returns how.
func (w way) await(t *testing.T, s *stage.Stage, udp bool, n uint64) (sum tally) {
	t.Helper()
	stage.Await(t, fmt.Sprintf("%d flows to be judged", n), func() (err error) {
		if sum, err = w.tally(s, udp); err == nil && sum.made+sum.denied+sum.limited < n {
			err = fmt.Errorf("the tally is %+v", sum)
		}
		return err
	})
	return sum
}

// greet sends one datagram to an address from each of n ports of a client. The
// function that it returns asserts that so many are answered.
func greet(t *testing.T, s *stage.Stage, client, n int, to string) (wantAnswers func(uint64)) {
	t.Helper()
	var conns []net.Conn
	for range n {
		s.Clients[client].Do(t, func() error {
			c, err := net.Dial("udp", to)
			if err != nil {
				return err
			}
			t.Cleanup(func() { c.Close() })
			conns = append(conns, c)
			_, err = c.Write([]byte("hello"))
			return errors.Join(err, c.SetReadDeadline(time.Now().Add(stage.Patience)))
		})
	}
	var answered atomic.Uint64
	var readers sync.WaitGroup
	for _, c := range conns {
		readers.Go(func() {
			if _, err := c.Read(make([]byte, 100)); err == nil {
				answered.Add(1)
			}
		})
	}
	return func(want uint64) {
		t.Helper()
		stage.Await(t, "the answers", func() error {
			if got := answered.Load(); got < want {
				return fmt.Errorf("%d datagrams are answered, want %d", got, want)
			}
			return nil
		})
		for _, c := range conns {
			c.Close()
		}
		readers.Wait()
		if got := answered.Load(); got != want {
			t.Errorf("%d datagrams are answered, want %d", got, want)
		}
	}
}

func TestDeniedClientsGetNothing(t *testing.T) {
	inWays(t, func(t *testing.T, s *stage.Stage, w way) {
		w.configure(s, fmt.Sprintf("{allow: [10.1.0.0/16], deny: [%s]}", s.ClientAddrs[1]))
		agent := s.StartAgent()
		wantTally := func(udp bool, want tally) {
			t.Helper()
			if got := w.await(t, s, udp, want.made+want.denied+want.limited); got != want {
				t.Errorf("%+v, want %+v", got, want)
			}
		}
		allowed, denied := greet(t, s, 0, 4, vip+":7"), greet(t, s, 1, 5, vip+":7")
		allowed(4)
		wantTally(true, tally{made: 4, denied: 5})
		denied(0)

		open, err := s.Dial(0, vip+":80")
		if err != nil {
			t.Fatal(err)
		}
		wantAnswer(t, open, "backend1")
		knock(t, s, w, 1, 3)
		sum := tally{made: 1, denied: 3}
		if w.xdp { // which counts both protocols together
			sum = tally{made: 5, denied: 8}
		}
		wantTally(false, sum)

		others := make([]string, 40) // more than the map was made for
		for i := range others {
			others[i] = fmt.Sprintf("192.0.2.%d", i)
		}
		w.configure(s, fmt.Sprintf("{allow: [%s]}", strings.Join(others, ", ")))
		agent.Signal(syscall.SIGHUP)
		agent.AwaitOutput("configuration taken")
		knock(t, s, w, 0, 2)
		sum.denied += 2
		wantTally(false, sum)
		wantAnswer(t, open, "backend1") // what is open goes on
	})
}

// knock asks for n connections to service web that are refused: by a reset of
// the proxy, by silence of XDP, for which a SYN each must do.
func knock(t *testing.T, s *stage.Stage, w way, client, n int) {
	t.Helper()
	for i := range n {
		if w.xdp {
			s.Clients[client].Inject(t, testenv.Uplink, testenv.TCPFrame(testenv.FrameSpec{
				DstMAC: testenv.MAC(s.ClientAddrs[client].Prev()), Flags: testenv.SYN,
				Src: netip.AddrPortFrom(s.ClientAddrs[client], uint16(20000+i)), Dst: netip.MustParseAddrPort(vip + ":80"),
			}))
			continue
		}
		talk, err := s.Dial(client, vip+":80")
		if err == nil {
			_, err = talk.Ask()
		}
		if !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
			t.Errorf("a connection that is refused ended with %v, want a reset", err)
		}
	}
}

func TestEachNetworkMakesItsShareOfFlows(t *testing.T) {
	const rate, burst, n = 1, 3, 20
	inWays(t, func(t *testing.T, s *stage.Stage, w way) {
		w.configure(s, fmt.Sprintf("{limit: {rate: %d, burst: %d, prefix: 24}}", rate, burst))
		s.StartAgent()
		before := tally{}
		for client := range s.Clients { // each is a network of its own
			start := time.Now()
			wantAnswers := greet(t, s, client, n, vip+":7")
			sum := w.await(t, s, true, uint64(client+1)*n)
			made, limited := sum.made-before.made, sum.limited-before.limited
			const tick = 10 * time.Millisecond // of the slowest kernel clock
			if most := burst + rate*(time.Since(start)+tick).Seconds(); made < burst || float64(made) > most {
				t.Errorf("%d flows are made, want %d to %.2f", made, burst, most)
			}
			if made+limited != n || sum.denied != 0 {
				t.Errorf("of %d flows %d are made and %d limited; %+v", n, made, limited, sum)
			}
			wantAnswers(made)
			before = sum
		}
	})
}
