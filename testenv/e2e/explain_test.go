package e2e

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"fairlead/loader"
	"fairlead/testenv"
	"fairlead/testenv/stage"
	"fairlead/userspace/datapath"
)

// A foreteller explains packets in this process, by what loader explain runs.
type foreteller struct {
	s    *stage.Stage
	inst *loader.Instance
	by   map[bool]*datapath.Explainer // by whether a packet is of IPv6
}

func newForeteller(t *testing.T, s *stage.Stage) *foreteller {
	t.Helper()
	f := &foreteller{s: s, by: map[bool]*datapath.Explainer{}}
	var err error
	if f.inst, err = loader.Open(s.PinDir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, x := range f.by {
			x.Close()
		}
		_ = f.inst.Close()
	})
	return f
}

// ask explains a packet of a client.
func (f *foreteller) ask(t *testing.T, udp bool, from, to netip.AddrPort, flags uint8) (e *datapath.Explanation) {
	t.Helper()
	ipv6 := from.Addr().Is6()
	f.s.Balancer.Do(t, func() (err error) {
		if f.by[ipv6] == nil {
			if f.by[ipv6], err = datapath.NewExplainer(f.inst, ipv6); err != nil {
				return err
			}
		}
		at, err := f.inst.Ingress("", from.Addr())
		if err != nil {
			return err
		}
		e, err = f.by[ipv6].Explain(loader.Question{UDP: udp, From: from, To: to, Flags: flags, TTL: 64}, at)
		return err
	})
	return e
}

// backendOf returns the host of a backend's address.
func backendOf(s *stage.Stage, at netip.Addr) string {
	i := slices.IndexFunc(s.BackendAddrs, func(a netip.Addr) bool { return a == at || testenv.Six(a) == at })
	if i < 0 {
		return "no backend: " + at.String()
	}
	return s.Backends[i].Name
}

// askFrom connects client 0 from an address and port of its own, and returns who answered.
func askFrom(s *stage.Stage, from, to netip.AddrPort) (stage.Answer, error) {
	var c net.Conn
	err := s.Clients[0].In(func() (err error) {
		d := net.Dialer{Timeout: stage.Patience, LocalAddr: net.TCPAddrFromAddrPort(from)}
		c, err = d.DialContext(context.Background(), "tcp", to.String())
		return err
	})
	if err != nil {
		return stage.Answer{}, err
	}
	defer c.Close()
	return stage.NewTalk(c).Ask()
}

// addClients gives client 0 n more addresses of f.
func (f family) addClients(t *testing.T, s *stage.Stage, n int) (addrs []netip.Addr) {
	t.Helper()
	for i := range n {
		raw := s.ClientAddrs[0].As4()
		raw[3] = byte(10 + i)
		addrs = append(addrs, f.addr(netip.AddrFrom4(raw)))
	}
	s.Clients[0].Do(t, func() error {
		l, err := netlink.LinkByName(testenv.Uplink)
		for _, a := range addrs {
			if err == nil {
				bits := a.BitLen()
				err = netlink.AddrAdd(l, &netlink.Addr{IPNet: &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(bits, bits)}, Flags: unix.IFA_F_NODAD})
			}
		}
		return err
	})
	return addrs
}

// TestExplainForetellsConnections asks about 1000 connections by each hash, makes them
// then, and wants each where it was foretold.
func TestExplainForetellsConnections(t *testing.T) {
	inFamilies(t, func(t *testing.T, f family) {
		n := 1000
		if f.suffix == "6" {
			n = slow(200, 1000) // the same once more
		}
		s := f.stage(t, testenv.RigOptions{})
		clients := f.addClients(t, s, 50)
		for i, balance := range []string{"maglev", "source-hash"} {
			f.configure(s, fmt.Sprintf(", balance: {method: %s, seed: 7, table-size: 1021}", balance), "")
			if f.suffix == "6" && balance == "source-hash" { // whose clients are else networks of 64 bits
				f.configure(s, ", balance: {method: source-hash, seed: 7, table-size: 1021, prefix: 128}", "")
			}
			s.Loader("attach").OK(t)
			from := make([]netip.AddrPort, n)
			for k := range from {
				from[k] = netip.AddrPortFrom(clients[k%len(clients)], uint16(20000+1000*i+k))
			}
			f.wantForetold(t, s, balance, from)
		}
	})
}

// wantForetold asks about connections to service web, and makes them then.
func (f family) wantForetold(t *testing.T, s *stage.Stage, balance string, from []netip.AddrPort) {
	t.Helper()
	to := netip.MustParseAddrPort(f.at(80))
	want := make([]string, len(from))
	before := settled(t, s)
	foretold := newForeteller(t, s)
	for k := range from {
		e := foretold.ask(t, false, from[k], to, loader.TCPSyn)
		if e.Out == nil || e.Choice == nil || !e.Choice.Promise {
			t.Fatalf("%s: no promise, but %+v", from[k], e)
		}
		want[k] = backendOf(s, e.Out.Destination.Addr())
	}
	if diff := cmp.Diff(before, state(t, s)); diff != "" {
		t.Errorf("%s: dry runs have changed something (-before +after):\n%s", balance, diff)
	}
	right, seen := 0, map[string]bool{}
	for k := range from {
		a, err := askFrom(s, from[k], to)
		if err != nil {
			t.Fatal(err)
		}
		seen[a.Message] = true
		if a.Message == want[k] {
			right++
		}
	}
	if right != len(from) || len(seen) != len(s.Backends) {
		t.Errorf("%s: %d of %d connections were foretold, to %v", balance, right, len(from), seen)
	}
}

// TestExplainTellsPeople asks the program itself.
func TestExplainTellsPeople(t *testing.T) {
	s := newStage(t, testenv.RigOptions{})
	families[0].configure(s, ", balance: maglev", "")
	s.Loader("attach").OK(t)
	to := netip.MustParseAddrPort(vip + ":80")
	a := asked{to: to.String()}
	e := a.json(t, s)
	if e.Service == nil || e.Service.Name != "web" || e.Flow != nil || e.Choice == nil || len(e.Choice.Tries) != 1 || len(e.Choice.Rest) != 2 {
		t.Fatalf("explained as %+v", e)
	}
	chosen, from := e.Choice.Tries[0].Backend, clientAt(s, 30000, to)
	if e.Out == nil || e.Out.Destination.String() != chosen || e.Out.Source != from || e.Out.TTL != 63 {
		t.Errorf("leaves as %+v, chosen was %s", e.Out, chosen)
	}
	a.want = []string{"web: tcp " + vip + ":80", "new: this packet would make it", chosen + ", by slot ", "not where the hash leads", "forward_redirect: sent on"}
	a.check(t, s)
	got, err := askFrom(s, from, to)
	if err != nil {
		t.Fatal(err)
	}
	if want := backendOf(s, e.Out.Destination.Addr()); got.Message != want {
		t.Errorf("%s answered, not %s", got.Message, want)
	}
	for _, known := range []asked{
		{name: "to the backend", args: "--flags ack", to: a.to, want: []string{"known, ", ", to backend " + chosen, "last packet "}},
		{name: "back", args: "--flags ack", from: chosen, to: from.String(), want: []string{"known, ", ", from backend " + chosen, "leaves   from " + a.to}},
	} {
		known.check(t, s)
	}
}

// TestExplainNamesNoStrangers replaces a flow's backend, and then who has replaced it:
// the backend's row is another's by then.
func TestExplainNamesNoStrangers(t *testing.T) {
	s := newStage(t, testenv.RigOptions{})
	to := vip + ":80"
	for i, b := range s.BackendAddrs {
		s.Configure("interfaces: %s\nservices: [{name: web, listen: '%s', backends: [{address: '%s:8080'}], health: {type: none}}]", s.Links(), to, b)
		s.Loader("attach").OK(t)
		if i == 0 {
			wantAnswer(t, dialFrom(t, s, 30000, to), s.Backends[0].Name)
		}
	}
	asked{name: "replaced", args: "--flags ack", to: to, want: []string{"service  web: ", "to a backend that is gone;", "there no more", "answer_reset"},
		not: s.BackendAddrs[2].String()}.check(t, s)
}

// TestReadmeShowsWhatExplainPrints runs the examples of README.md.
func TestReadmeShowsWhatExplainPrints(t *testing.T) {
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	s := attached(t, testenv.RigOptions{})
	const begin = "$ sudo ./build/loader explain "
	examples := strings.Split(string(text), begin)[1:]
	for _, example := range examples {
		args, rest, _ := strings.Cut(example, "\n")
		want, _, _ := strings.Cut(rest, "```")
		if got := s.Loader(append([]string{"explain"}, strings.Fields(args)...)...).OK(t); got != want {
			t.Errorf("loader explain %s (-README +printed):\n%s", args, cmp.Diff(want, got))
		}
	}
	if len(examples) != 2 {
		t.Errorf("README.md has %d examples", len(examples))
	}
}
