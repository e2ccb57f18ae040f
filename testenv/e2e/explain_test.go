package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"fairlead/loader"
	"fairlead/testenv"
	"fairlead/testenv/stage"
	"fairlead/userspace/datapath"
)

// setBalance lets every service choose in this way.
func setBalance(t *testing.T, inst *loader.Instance, balance loader.LBBalance) {
	t.Helper()
	services := inst.Maps().Services
	for row := range services.MaxEntries() {
		var s loader.Service
		if err := services.Lookup(row, &s); err != nil {
			t.Fatal(err)
		}
		if s.State == uint8(loader.LBServiceStateSERVICE_NONE) {
			continue
		}
		s.Balance, s.Seed = uint8(balance), 7
		s.SourceMask = loader.Address{Word: [4]uint32{^uint32(0), ^uint32(0), ^uint32(0), ^uint32(0)}}
		if err := services.Put(row, s); err != nil {
			t.Fatal(err)
		}
	}
}

// opened opens the instance of a stage.
func opened(t *testing.T, s *stage.Stage) *loader.Instance {
	t.Helper()
	inst, err := loader.Open(s.PinDir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = inst.Close() })
	return inst
}

// foretell returns to which addresses dry runs send SYNs from n ports of a client.
func foretell(t *testing.T, s *stage.Stage, inst *loader.Instance, first uint16, n int) []netip.Addr {
	t.Helper()
	var to []netip.Addr
	s.Balancer.Do(t, func() error {
		at, err := inst.Ingress("", s.ClientAddrs[0])
		if err != nil {
			return err
		}
		dry, err := inst.Rehearse(false)
		if err != nil {
			return err
		}
		defer dry.Close()
		for i := range n {
			a, err := dry.Ask(loader.Question{
				From: netip.AddrPortFrom(s.ClientAddrs[0], first+uint16(i)), To: netip.MustParseAddrPort(vip + ":80"),
				Flags: loader.TCPSyn, TTL: 64,
			}, at)
			if err != nil {
				return err
			}
			addr, _ := netip.AddrFromSlice(a.Frame[30:34])
			to = append(to, addr)
		}
		return nil
	})
	return to
}

// connectFrom connects client 0 from a port of its own, and returns who answered.
func connectFrom(s *stage.Stage, port uint16) (string, error) {
	var c net.Conn
	err := s.Clients[0].In(func() (err error) {
		d := net.Dialer{Timeout: stage.Patience, LocalAddr: &net.TCPAddr{Port: int(port)}}
		c, err = d.DialContext(context.Background(), "tcp", vip+":80")
		return err
	})
	if err != nil {
		return "", err
	}
	defer c.Close()
	a, err := stage.NewTalk(c).Ask()
	return a.Message, err
}

// TestExplainForetellsConnections asks about 1000 connections by each hash, makes them
// then, and wants each where it was foretold.
func TestExplainForetellsConnections(t *testing.T) {
	const n = 1000
	s := attached(t, testenv.RigOptions{})
	inst := opened(t, s)
	names := map[netip.Addr]string{}
	for i, addr := range s.BackendAddrs {
		names[addr] = s.Backends[i].Name
	}
	for i, balance := range []loader.LBBalance{loader.LBBalanceBALANCE_HASH, loader.LBBalanceBALANCE_SOURCE_HASH} {
		setBalance(t, inst, balance)
		first := uint16(20000 + i*n)
		before := s.Stats()
		want := foretell(t, s, inst, first, n)
		if diff := cmp.Diff(before, s.Stats()); diff != "" {
			t.Errorf("balance %d: dry runs were counted (-before +after):\n%s", balance, diff)
		}
		right, seen := 0, map[string]bool{}
		for i, addr := range want {
			who, err := connectFrom(s, first+uint16(i))
			if err != nil {
				t.Fatal(err)
			}
			seen[who] = true
			if who == names[addr] {
				right++
			}
		}
		if right != n {
			t.Errorf("balance %d: %d of %d connections were foretold", balance, right, n)
		}
		if balance == loader.LBBalanceBALANCE_HASH && len(seen) != len(s.Backends) {
			t.Errorf("only %v had connections", seen)
		}
	}
}

// TestExplainTellsPeople asks the program itself.
func TestExplainTellsPeople(t *testing.T) {
	s := attached(t, testenv.RigOptions{})
	setBalance(t, opened(t, s), loader.LBBalanceBALANCE_HASH)
	from := fmt.Sprintf("%s:30000", s.ClientAddrs[0])
	ask := func(args ...string) string {
		t.Helper()
		return s.Loader(append([]string{"explain", "--from", from, "--to", vip + ":80"}, args...)...).OK(t)
	}
	var e datapath.Explanation
	if err := json.Unmarshal([]byte(ask("-o", "json")), &e); err != nil {
		t.Fatal(err)
	}
	if e.Service == nil || e.Service.Name != "web" || e.Flow != nil || e.Choice == nil || len(e.Choice.Tries) != 1 || len(e.Choice.Rest) != 2 {
		t.Fatalf("explained as %+v", e)
	}
	chosen := e.Choice.Tries[0].Backend
	if e.Out == nil || e.Out.Destination.String() != chosen || e.Out.Source.String() != from || e.Out.TTL != 63 {
		t.Errorf("leaves as %+v, chosen was %s", e.Out, chosen)
	}
	text := ask()
	for _, want := range []string{"web: " + vip + ":80 tcp", "not known", chosen + ", by slot ", "not chosen", "forward_redirect: sent on"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in:\n%s", want, text)
		}
	}
	who, err := connectFrom(s, 30000)
	if err != nil {
		t.Fatal(err)
	}
	if at := e.Out.Destination.Addr(); s.Backends[slices.Index(s.BackendAddrs, at)].Name != who {
		t.Errorf("%s answered, not %s", who, at)
	}
	if text := ask("--flags", "ack"); !strings.Contains(text, "known: ") {
		t.Errorf("the connection's flow is not told:\n%s", text)
	}
	if text := s.Loader("explain", "--from", from, "--to", vip+":81").OK(t); !strings.Contains(text, "pass_other") {
		t.Errorf("another port:\n%s", text)
	}
}
