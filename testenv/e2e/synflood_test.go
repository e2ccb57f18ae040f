package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"fairlead/loader"
	"fairlead/testenv"
	"fairlead/testenv/livegen"
	"fairlead/testenv/stage"
)

// A siege is a flood of SYNs with random sources, and the connections that must
// live through it.
type siege struct {
	family
	table     int  // flows; 0 is the default
	answered  bool // by the backends; else they throw away what forged sources send
	live      int  // connections that are open before, and silent meanwhile
	perSecond int  // new connections
	lasts     time.Duration
}

var (
	// soon is how long a new connection may take to get an answer.
	soon = time.Duration(slow(60, 3)) * time.Second
)

// forged are the addresses that a flood seems to come from.
func (f family) forged() netip.Prefix {
	if f.suffix == "6" {
		return netip.MustParsePrefix("2001:db8:f::/111")
	}
	return netip.MustParsePrefix("198.18.0.0/15")
}

// What limits an answered flood are the backends' stacks, which make a cookie
// and a packet of each SYN: the thorough variant also has backends that do not.
func TestSYNFlood(t *testing.T) {
	inFamilies(t, func(t *testing.T, f family) {
		for _, answered := range []bool{true, false}[:slow(1, 2)] {
			for _, table := range []int{0, 4096} {
				t.Run(fmt.Sprintf("table of %d, answered %t", table, answered), func(t *testing.T) {
					lasts := time.Duration(slow(2, 10)) * time.Second
					siege{f, table, answered, slow(50, 1000), slow(20, 100), lasts}.run(t)
				})
			}
		}
	})
}

func (f siege) run(t *testing.T) {
	s := besieged(t, f)
	account := s.Account()
	talks := f.openLive(t, s)
	before := tallyOf(t, s)
	stops := []func() livegen.Result{f.floodSYNs(t, s, 0, 80), f.floodSYNs(t, s, 1, 80)}
	made, fails := f.connect(t, s)
	var rate, taken float64
	for _, stop := range stops {
		r := stop()
		rate += float64(r.Sent+r.Lost) / r.Took.Seconds()
		taken += r.PPS()
	}
	t.Logf("%.0f SYNs a second offered, %.0f taken by the cables; %s", rate, taken, tallyOf(t, s).sub(before))
	if least := slow(0, 500_000); !f.answered && rate < float64(least) {
		t.Errorf("%.0f SYNs a second, want %d", rate, least)
	}
	if 100*len(fails) > made {
		t.Errorf("%d of %d new connections had no answer within %s: %v", len(fails), made, soon, errors.Join(fails...))
	}
	var broken []error
	for _, talk := range talks {
		if _, err := talk.Ask(); err != nil {
			broken = append(broken, err)
		}
	}
	if len(broken) > 0 {
		t.Errorf("%d of %d live connections are broken: %v", len(broken), len(talks), errors.Join(broken...))
	}
	sums := account.Close()
	if n := s.Stats().Verdicts["drop_table_full"]; sums.Dropped != n || sums.Failed != 0 {
		t.Errorf("%d SYNs found no place, but %+v", n, sums)
	}
	t.Logf("%+v", sums)
}

// besieged raises a stage whose balancer sends answers to forged sources to
// client 0, which throws them away. What backends send when the balancer has
// forgotten the flow, such as a SYN-ACK once more, goes nowhere: its stack would
// forward that as it is.
func besieged(t *testing.T, f siege) *stage.Stage {
	t.Helper()
	// CPUs that share a queue of a veth lose count of what it refuses.
	s := f.stage(t, testenv.RigOptions{Clients: 3, Cable: []testenv.CableOption{testenv.Queues(runtime.NumCPU())}})
	s.Balancer.Route(t, s.ClientLinks[0], f.forged(), f.addr(s.ClientAddrs[0]))
	for i, h := range s.Backends {
		rule := netlink.NewRule()
		rule.Family, rule.Type, rule.IifName = f.number(), unix.RTN_BLACKHOLE, s.BackendLinks[i]
		s.Balancer.Do(t, func() error { return netlink.RuleAdd(rule) })
		h.Sysctl(t, "net.ipv4.tcp_syncookies", "1")
		h.Sysctl(t, "net.ipv4.tcp_synack_retries", "1")
		if !f.answered {
			h.Discard(f.forged())
		}
	}
	more := ""
	if f.table != 0 {
		more = fmt.Sprintf("flow-table: %d\n", f.table)
	}
	s.Configure("interfaces: %s\nservices: [{name: web, listen: '%s', backends: %s, health: {type: none}}]\n%s",
		s.Links(), f.at(80), f.backends(s, 8080), more)
	s.Loader("attach").OK(t)
	return s
}

func (f siege) openLive(t *testing.T, s *stage.Stage) []*stage.Talk {
	t.Helper()
	var talks []*stage.Talk
	for range f.live {
		talk, err := s.Dial(2, f.at(80))
		if err == nil {
			_, err = talk.Ask()
		}
		if err != nil {
			t.Fatal(err)
		}
		talks = append(talks, talk)
	}
	return talks
}

// floodSYNs lets a client send SYNs from 2^32 sources to a port as fast as it
// can, until the function that it returns is called.
func (f family) floodSYNs(t *testing.T, s *stage.Stage, client int, port uint16) (stop func() livegen.Result) {
	t.Helper()
	own, forged := s.ClientAddrs[client], f.forged()
	g := livegen.New(t, livegen.Options{
		Host: s.Clients[client], Iface: testenv.Uplink,
		Frame: testenv.TCPFrame(testenv.FrameSpec{
			SrcMAC: testenv.MAC(own), DstMAC: testenv.MAC(own.Prev()), Flags: testenv.SYN,
			Src: netip.AddrPortFrom(forged.Addr(), 1<<15), Dst: netip.AddrPortFrom(netip.MustParseAddr(f.vip), port),
		}),
		Vary: livegen.Vary{Ports: 1 << 15, Addrs: 1 << (forged.Addr().BitLen() - forged.Bits()), Random: true},
	})
	var total livegen.Result
	start := time.Now()
	end := overAndOver(func() error {
		r, err := g.Send(1 << 17)
		total.Sent += r.Sent
		total.Lost += r.Lost
		return err
	})
	return func() livegen.Result {
		t.Helper()
		if _, err := end(); err != nil {
			t.Errorf("flood: %v", err)
		}
		total.Took = time.Since(start)
		return total
	}
}

// connect opens connections, each of which must be answered soon, and returns
// how many, and what went wrong.
func (f siege) connect(t *testing.T, s *stage.Stage) (made int, fails []error) {
	t.Helper()
	made = int(f.lasts.Seconds()) * f.perSecond
	errs := make([]error, made)
	var wg sync.WaitGroup
	tick := time.NewTicker(f.lasts / time.Duration(made))
	defer tick.Stop()
	for i := range errs {
		<-tick.C
		wg.Go(func() { errs[i] = f.askSoon(s.Clients[2]) })
	}
	wg.Wait()
	return made, slices.DeleteFunc(errs, func(err error) bool { return err == nil })
}

// askSoon opens a connection for one answer.
func (f family) askSoon(h *testenv.Host) error {
	ctx, cancel := context.WithTimeout(context.Background(), soon)
	defer cancel()
	c, err := h.DialContext(ctx, "tcp", f.at(80))
	if err != nil {
		return err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	_, err = stage.NewTalk(c).Ask()
	return err
}

type toll struct {
	evictions [loader.Evictions]uint64
	verdicts  [loader.Verdicts]uint64
}

func tallyOf(t *testing.T, s *stage.Stage) (n toll) {
	t.Helper()
	inst, err := loader.Open(s.PinDir)
	if err != nil {
		t.Fatal(err)
	}
	defer inst.Close()
	if n.evictions, err = inst.Maps().ReadEvictions(); err != nil {
		t.Fatal(err)
	}
	if n.verdicts, err = inst.Maps().ReadVerdicts(); err != nil {
		t.Fatal(err)
	}
	return n
}

func (n toll) sub(m toll) string {
	text := "evictions"
	for i, v := range n.evictions {
		text += fmt.Sprintf(" %s %d", loader.Eviction(i), v-m.evictions[i])
	}
	text += ", verdicts"
	for i, v := range n.verdicts {
		if v != m.verdicts[i] {
			text += fmt.Sprintf(" %s %d", loader.Verdict(i), v-m.verdicts[i])
		}
	}
	return text
}
