package e2e

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"fairlead/loader"
	"fairlead/testenv"
	"fairlead/testenv/stage"
	"fairlead/userspace/datapath"
)

// An asked packet, and what loader explain must say of it.
type asked struct {
	name string
	args string // beside --from and --to
	from string // "": client 0's address of to's family, port 30000
	to   string
	want []string // parts of the text
	not  string   // no part of it
}

// clientAt is where packets of client 0 to a service come from.
func clientAt(s *stage.Stage, port uint16, to netip.AddrPort) netip.AddrPort {
	f := families[0]
	if to.Addr().Is6() {
		f = families[1]
	}
	return netip.AddrPortFrom(f.addr(s.ClientAddrs[0]), port)
}

// ask asks loader explain.
func (a asked) ask(t *testing.T, s *stage.Stage) string {
	t.Helper()
	if a.from == "" {
		a.from = clientAt(s, 30000, netip.MustParseAddrPort(a.to)).String()
	}
	return s.Loader(append([]string{"explain", "--from", a.from, "--to", a.to}, strings.Fields(a.args)...)...).OK(t)
}

// json asks for JSON.
func (a asked) json(t *testing.T, s *stage.Stage) (e datapath.Explanation) {
	t.Helper()
	a.args += " -o json"
	if out := a.ask(t, s); json.Unmarshal([]byte(out), &e) != nil {
		t.Fatalf("no JSON: %s", out)
	}
	return e
}

// check asks, and wants the text to be as the row says.
func (a asked) check(t *testing.T, s *stage.Stage) {
	t.Helper()
	text := a.ask(t, s)
	t.Logf("%s:\n%s", a.name, text)
	for _, want := range a.want {
		if !strings.Contains(text, want) {
			t.Errorf("%s: %q is not in:\n%s", a.name, want, text)
		}
	}
	if a.not != "" && strings.Contains(text, a.not) {
		t.Errorf("%s: %q is in:\n%s", a.name, a.not, text)
	}
}

// A configured service, whose health is not looked at.
type configured struct{ name, listen, keys, backends string }

// attachServices attaches services without an agent.
func attachServices(t *testing.T, s *stage.Stage, services []configured) {
	t.Helper()
	var b strings.Builder
	for _, c := range services {
		fmt.Fprintf(&b, "  - {name: %s, listen: '%s', health: {type: none}, %s, backends: %s}\n", c.name, c.listen, c.keys, c.backends)
	}
	s.Configure("interfaces: %s\nservices:\n%s", s.Links(), b.String())
	s.Loader("attach").OK(t)
}

func TestExplainSaysWhatOfEachService(t *testing.T) {
	s := newStage(t, testenv.RigOptions{Backends: 2})
	four, at := s.BackendList(8080), families[0].at
	attachServices(t, s, []configured{
		{"turns", at(80), "balance: round-robin", four}, {"chance", at(81), "balance: random", four},
		{"two", at(82), "balance: p2c", four}, {"least", at(83), "balance: least-connections", four},
		{"tied", at(84), "affinity: {source: 1h}", four}, {"bounded", at(85), "balance: {method: maglev, max-load: 101}", four},
		{"hidden", at(86), "forward: full-nat", four}, {"proxied", at(87), "forward: proxy", four},
		{"deny", at(88), "clients: {deny: [10.1.1.0/24]}", four}, {"allow", at(89), "clients: {allow: [10.9.0.0/16]}", four},
		{"idle", at(90), "balance: round-robin", s.BackendList(8080, 0, 0)}, {"half", at(91), "balance: round-robin", s.BackendList(8080, 1, 0)},
		{"echo", at(7), "protocol: udp", four},
	})
	if _, err := s.Get(0, "http://"+at(84)+"/"); err != nil { // so its network has a backend
		t.Fatal(err)
	}
	for _, a := range []asked{
		{name: "in turn", to: at(80), want: []string{"service        turns: tcp " + vip + ":80", "flow           new", "next would be  ", " of 2 (round-robin)", ": not its turn", "sent on"}},
		{name: "by chance", to: at(81), want: []string{"next would be  ", "(random)", "not drawn"}},
		{name: "the better of two", to: at(82), want: []string{"next would be  ", "the less busy of slots", "0 flows, weight 1 (p2c)"}},
		{name: "the best", to: at(83), want: []string{"next would be  ", "the fewest flows for its weight: 0 flows, weight 1", "not less busy: 0 flows"}},
		{name: "affinity", to: at(84), want: []string{"choice   ", "which the client's network has had before (affinity)", "the client's network stays where it is"}},
		{name: "bounded", to: at(85), want: []string{"next would be  ", "its flows are within max-load 101% (maglev)"}},
		{name: "full NAT", to: at(86), want: []string{"leaves         from 10.2.", "the backend sees this host instead of the client (full NAT)"}},
		{name: "the proxy's", to: at(87), want: []string{"proxied: tcp 203.0.113.10:87, which nobody serves (it is the proxy's, and no agent runs)", "none is known", "pass_proxy"}, not: "leaves"},
		{name: "denied", to: at(88), want: []string{"client   denied, as 10.1.1.0/24", "drop_denied: dropped: the service does not allow this client"}},
		{name: "not allowed", to: at(89), want: []string{"client   denied, as everybody who is not allowed", "drop_denied"}},
		{name: "nobody", to: at(90), want: []string{"choice   none: no backend can serve", ":8080: gets no new flows", "answer_reset: answered with a TCP reset: no backend can serve"}},
		{name: "one drains", to: at(91), want: []string{":8080: gets no new flows: it drains, or waits"}},
		{name: "no SYN", args: "--flags ack", to: at(80), want: []string{"TCP ACK from", "flow     none is known", "pass_no_flow"}},
		{name: "UDP", args: "--proto udp", to: at(7), want: []string{"packet         UDP from", "echo: udp", "sent on"}},
		{name: "another protocol", args: "--proto udp", to: at(90), want: []string{
			"none at udp 203.0.113.10:90; the address has idle (tcp 203.0.113.10:90), ", " and 10 more", "pass_other: left to this host"}, not: "leaves"},
		{name: "another address", to: "203.0.113.99:80", want: []string{"none: no service has the address 203.0.113.99"}},
		{name: "TTL 1", args: "--ttl 1", to: at(80), want: []string{"answer   from 203.0.113.10 to 10.1.1.2, TTL 64", "answer_time_exceeded"}},
		{name: "the host's own source", from: "10.1.1.1:30000", args: "-i client1", to: at(80), want: []string{"drop_source: dropped: its source is no client's"}},
	} {
		a.check(t, s)
	}
	inst, err := loader.Open(s.PinDir)
	if err != nil {
		t.Fatal(err)
	}
	defer inst.Close()
	inst.SetMode(loader.ModeOff)
	asked{name: "switched off", to: at(80), want: []string{"pass_off: left to this host: Fairlead is switched off (loader status)"}, not: "service"}.check(t, s)
	inst.SetMode(loader.ModeDraining)
	asked{name: "draining", to: at(80), want: []string{"pass_draining: left to this host: Fairlead is being detached"}}.check(t, s)
}

// bothFamilies attaches services of both families and between them.
func bothFamilies(t *testing.T) *stage.Stage {
	t.Helper()
	s := families[1].stage(t, testenv.RigOptions{Backends: 2})
	four, six, at, at6 := s.BackendList(8080), s.BackendList6(8080), families[0].at, families[1].at
	attachServices(t, s, []configured{
		{"web", at(80), "balance: maglev", four}, {"echo", at(7), "protocol: udp", four}, {"hidden", at(81), "forward: full-nat", four},
		{"to6", at(82), "forward: full-nat", six}, {"echo-to6", at(8), "protocol: udp, forward: full-nat", six},
		{"web6", at6(80), "balance: source-hash", six}, {"echo6", at6(7), "protocol: udp", six}, {"hidden6", at6(81), "forward: full-nat", six},
		{"to4", at6(82), "forward: full-nat", four}, {"echo-to4", at6(8), "protocol: udp, forward: full-nat", four},
	})
	return s
}

// TestExplainInBothFamilies shares a stage, which takes long to raise.
func TestExplainInBothFamilies(t *testing.T) {
	s := bothFamilies(t)
	wantWordsOfFamilies(t, s)
	wantAllForetold(t, s)
}

func wantWordsOfFamilies(t *testing.T, s *stage.Stage) {
	t.Helper()
	at, at6 := families[0].at, families[1].at
	for _, a := range []asked{
		{name: "IPv6", to: at6(80), want: []string{"web6: tcp [2001:db8:ff::10]:80", "choice   [2001:db8:", "(source-hash)", "not where the hash leads", "leaves   from [2001:db8:"}},
		{name: "UDP of IPv6", args: "--proto udp", to: at6(7), want: []string{"echo6: udp", "sent on"}},
		{name: "to IPv6", to: at(82), want: []string{"translated from IPv4 to IPv6; the backend sees this host", "sent on"}},
		{name: "to IPv4", to: at6(82), want: []string{"translated from IPv6 to IPv4; the backend sees this host", "sent on"}},
		{name: "no service of IPv6", to: at6(99), want: []string{"none at tcp [2001:db8:ff::10]:99; the address has web6 (tcp [2001:db8:ff::10]:80)"}},
	} {
		a.check(t, s)
	}
}

// A foretold packet, and what was said of it.
type foretold struct {
	udp      bool
	from, to netip.AddrPort
	said     *datapath.Explanation
}

// wantAllForetold asks about a packet to each service, then sends them, and wants who
// answers, and whom that one saw, to be as it was foretold.
func wantAllForetold(t *testing.T, s *stage.Stage) {
	t.Helper()
	before, by := state(t, s), newForeteller(t, s)
	var all []foretold
	for _, f := range families {
		for i, port := range []uint16{80, 81, 82, 7, 8} {
			to, udp := netip.MustParseAddrPort(f.at(port)), port < 80
			from := clientAt(s, uint16(31000+i), to)
			e := by.ask(t, udp, from, to, loader.TCPSyn)
			if e.Out == nil {
				t.Fatalf("%s: told %+v", to, e)
			}
			all = append(all, foretold{udp, from, to, e})
		}
	}
	if diff := cmp.Diff(before, state(t, s)); diff != "" {
		t.Errorf("dry runs have changed something (-before +after):\n%s", diff)
	}
	for _, f := range all {
		f.check(t, s, by)
	}
}

// check sends the packet, and asks about the flow that it makes.
func (f *foretold) check(t *testing.T, s *stage.Stage, by *foreteller) {
	t.Helper()
	backend := f.said.Out.Destination
	who, seen := arrive(t, s, f.udp, f.from, f.to)
	if who != backendOf(s, backend.Addr()) || seen != f.said.Out.Source {
		t.Errorf("%s: %s saw %s, foretold was %+v", f.to, who, seen, f.said.Out)
	}
	if e := by.ask(t, f.udp, f.from, f.to, loader.TCPAck); e.Flow == nil || e.Flow.Backend != backend.String() || e.Flow.Direction != "forward" {
		t.Errorf("%s: its flow is told as %+v", f.to, e.Flow)
	}
	// The answer goes the other way, from the service to the client.
	if e := by.ask(t, f.udp, backend, seen, loader.TCPAck); e.Out == nil || e.Out.Source != f.to || e.Out.Destination != f.from || e.Flow.Direction != "reply" {
		t.Errorf("%s: its answer is told as %+v", f.to, e)
	}
}

// arrive sends a request or a datagram, and returns who answered and whom it saw.
func arrive(t *testing.T, s *stage.Stage, udp bool, from, to netip.AddrPort) (who string, seen netip.AddrPort) {
	t.Helper()
	var err error
	if udp {
		who, seen, err = s.Echo(0, from.Port(), to.String(), "hello")
	} else {
		var a stage.Answer
		if a, err = askFrom(s, from, to); err == nil {
			who = a.Message
			seen, err = netip.ParseAddrPort(a.Client)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return who, seen
}
