package e2e

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/google/go-cmp/cmp"

	"fairlead/loader"
	"fairlead/testenv"
	"fairlead/testenv/stage"
	"fairlead/userspace/datapath"
)

// programsOf returns the programs of the kernel that use the flow table of a stage.
func programsOf(t *testing.T, s *stage.Stage) (ids []ebpf.ProgramID) {
	t.Helper()
	inst, err := loader.Open(s.PinDir)
	if err != nil {
		t.Fatal(err)
	}
	defer inst.Close()
	info, err := inst.Maps().Flows.Info()
	if err != nil {
		t.Fatal(err)
	}
	flows, _ := info.ID()
	for id, err := ebpf.ProgramGetNextID(0); ; id, err = ebpf.ProgramGetNextID(id) {
		if errors.Is(err, fs.ErrNotExist) {
			return ids
		}
		uses, perr := usesMap(id, flows)
		if err = errors.Join(err, perr); err != nil {
			t.Fatal(err)
		}
		if uses {
			ids = append(ids, id)
		}
	}
}

// usesMap reports whether a program, if it is still there, uses a map.
func usesMap(id ebpf.ProgramID, m ebpf.MapID) (bool, error) {
	p, err := ebpf.NewProgramFromID(id)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer p.Close()
	info, err := p.Info()
	if err != nil {
		return false, err
	}
	maps, _ := info.MapIDs()
	return slices.Contains(maps, m), nil
}

// state returns what a dry run must leave as it is: what the host has, rows, flows and
// counters, but for frames of the host's own, which come at any time.
func state(t *testing.T, s *stage.Stage) string {
	t.Helper()
	stats := s.Stats()
	for _, own := range []string{"pass_other", "pass_icmp"} {
		delete(stats.Verdicts, own)
	}
	return fmt.Sprintln(kernelState(t, s), stats.Forwarded, stats.Verdicts, liveFlows(t, s))
}

// settled returns the state once no flow goes on any more.
func settled(t *testing.T, s *stage.Stage) string {
	t.Helper()
	stage.Await(t, "the end of all flows", func() error {
		if flows := liveFlows(t, s); len(flows) > 0 {
			return fmt.Errorf("there are %v", flows)
		}
		return nil
	})
	return state(t, s)
}

// TestExplainLeavesNothing asks, and interrupts and kills who asks while it loads its
// own program.
func TestExplainLeavesNothing(t *testing.T) {
	s := attached(t, testenv.RigOptions{})
	if _, err := s.Get(0, web); err != nil {
		t.Fatal(err)
	}
	want, before := settled(t, s), programsOf(t, s)
	check := func(what string) {
		t.Helper()
		stage.Await(t, "its programs to go", func() error {
			if now := programsOf(t, s); !slices.Equal(now, before) {
				return fmt.Errorf("%s: programs %v, before %v", what, now, before)
			}
			return nil
		})
		if diff := cmp.Diff(want, state(t, s)); diff != "" {
			t.Errorf("%s left something behind (-before +after):\n%s", what, diff)
		}
	}
	args := []string{"explain", "--from", s.ClientAddrs[0].String() + ":30000", "--to", vip + ":80"}
	s.Loader(args...).OK(t)
	check("explain")
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGKILL} {
		for range slow(2, 10) {
			p := s.Start(s.Balancer, programs.Loader, args...)
			awaitMaps(t, p)
			_ = syscall.Kill(p.PID(), sig) // it may have ended
			t.Logf("%v: status %d, printed %q", sig, p.Wait(), p.Output())
			check(sig.String())
		}
	}
}

// awaitMaps waits until a process has opened maps, or has ended.
func awaitMaps(t *testing.T, p *stage.Process) {
	t.Helper()
	stage.Await(t, "open maps", func() error {
		dir := fmt.Sprintf("/proc/%d/fd", p.PID())
		files, err := os.ReadDir(dir)
		if err != nil || len(files) == 0 { // a zombie has none
			return nil
		}
		for _, f := range files {
			if to, _ := os.Readlink(filepath.Join(dir, f.Name())); strings.Contains(to, "bpf-map") {
				return nil
			}
		}
		return errors.New("none yet")
	})
}

// coherent wants the packet to leave for the backend that was chosen.
func coherent(t *testing.T, s *stage.Stage, what string, choice, out string) {
	t.Helper()
	if choice != out || !slices.ContainsFunc(s.BackendAddrs, func(a netip.Addr) bool { return out == a.String()+":8080" }) {
		t.Errorf("%s: %s was chosen, but the packet leaves for %s", what, choice, out)
	}
}

// TestExplainBesideUpgrades asks while the program is exchanged.
func TestExplainBesideUpgrades(t *testing.T) {
	s := attached(t, testenv.RigOptions{})
	for i := range slow(3, 50) {
		upgrade := s.Start(s.Balancer, programs.Loader, "attach")
		e := asked{to: vip + ":80"}.json(t, s)
		if e.Choice == nil || e.Out == nil {
			t.Fatalf("told %+v", e)
		}
		coherent(t, s, fmt.Sprint(i), e.Choice.Tries[0].Backend, e.Out.Destination.String())
		if code := upgrade.Wait(); code != 0 {
			t.Errorf("upgrade %d ended with status %d", i, code)
		}
	}
}

// TestExplainBesideAnAgent asks while an agent gives backends other weights.
func TestExplainBesideAnAgent(t *testing.T) {
	s := newStage(t, testenv.RigOptions{})
	write := func(weights ...int) {
		s.Configure("interfaces: %s\nservices: [{name: web, listen: %s:80, backends: %s, health: {type: none}, balance: {method: maglev, table-size: 101}}]",
			s.Links(), vip, s.BackendList(8080, weights...))
	}
	write(1, 1, 1)
	agent := s.StartAgent()
	round := 0
	churn := overAndOver(func() error {
		round++
		write(1+round%3, round%2, 1)
		return syscall.Kill(agent.PID(), syscall.SIGHUP)
	})
	to := netip.MustParseAddrPort(vip + ":80")
	foretold := newForeteller(t, s)
	for i := range slow(200, 5000) {
		from := clientAt(s, uint16(20000+i), to)
		e := foretold.ask(t, false, from, to, loader.TCPSyn)
		if e.Choice == nil || e.Out == nil {
			t.Fatalf("told %+v", e)
		}
		coherent(t, s, from.String(), e.Choice.Tries[0].Backend, e.Out.Destination.String())
	}
	if n, err := churn(); err != nil {
		t.Errorf("after %d changes: %v", n, err)
	}
	agent.Stop(syscall.SIGTERM)
}

// TestExplainTellsWhoIsPassedOver keeps connections open until backends have their
// fill, and wants each where it was foretold.
func TestExplainTellsWhoIsPassedOver(t *testing.T) {
	s := newStage(t, testenv.RigOptions{})
	families[0].configure(s, ", balance: {method: maglev, table-size: 101, max-load: 101}", "")
	s.Loader("attach").OK(t)
	foretold := newForeteller(t, s)
	to := netip.MustParseAddrPort(vip + ":80")
	passed := 0
	for i := range 30 {
		from := clientAt(s, uint16(20000+i), to)
		e := foretold.ask(t, false, from, to, loader.TCPSyn)
		for _, o := range e.Choice.Rest {
			if o.Why == datapath.WhyOver {
				passed++
			}
		}
		wantAnswer(t, dialFrom(t, s, int(from.Port()), to.String()), backendOf(s, e.Out.Destination.Addr()))
	}
	if passed == 0 {
		t.Error("nobody was passed over for its load")
	}
}

// TestExplainRefusesInOneLine gives the program what it cannot explain.
func TestExplainRefusesInOneLine(t *testing.T) {
	s := newStage(t, testenv.RigOptions{Backends: 1})
	s.Configure("interfaces: [client1]\nservices: [{name: web, listen: %s:80, backends: %s}]", vip, s.BackendList(8080))
	from, to := s.ClientAddrs[0].String()+":30000", vip+":80"
	refuse := func(r stage.Result, code int, want string) {
		t.Helper()
		if r.Code != code || r.Stdout != "" || r.Stderr != "loader: "+want+"\n" {
			t.Errorf("%s: status %d, stdout %q, stderr %q, want status %d and %q", r.Command, r.Code, r.Stdout, r.Stderr, code, want)
		}
	}
	refuse(s.Loader("explain", "--from", from, "--to", to), 1, "open "+s.PinDir+": not attached; loader status shows what is attached")
	s.Loader("attach").OK(t)
	for _, row := range []struct {
		args, want string
		code       int
	}{
		{"--from 10.1.1.300:1 --to " + to, `--from is "10.1.1.300:1": use ADDRESS:PORT, such as 203.0.113.10:80 or [2001:db8::10]:80`, 2},
		{"--from " + from + " --to [2001:db8::1]:80", "--from " + from + " and --to [2001:db8::1]:80 are of two families: use IPv4 or IPv6 for both", 2},
		{"--from " + from + " --to " + vip + ":0", `--to is "` + vip + `:0": no packet has port 0, use 1 to 65535`, 2},
		{"--proto icmp --from " + from + " --to " + to, `--proto is "icmp": use tcp or udp`, 2},
		{"-i nosuch0 --from " + from + " --to " + to, `find interface nosuch0: no such interface; ip link shows those that there are`, 2},
		{"-i backend1 --from " + from + " --to " + to, "ask at interface backend1: not attached; loader status shows what is attached", 1},
		{"--from " + s.BackendAddrs[0].String() + ":1 --to " + to,
			"ask at interface backend1, where the route to " + s.BackendAddrs[0].String() + " leads (or say --interface): not attached; loader status shows what is attached", 1},
	} {
		refuse(s.Loader(append([]string{"explain"}, strings.Fields(row.args)...)...), row.code, row.want)
	}
	cmd := s.Command(programs.Loader, "explain", "--from", from, "--to", to)
	cmd.SysProcAttr.Credential = &syscall.Credential{Uid: 65534, Gid: 65534}
	refuse(s.RunCommand(s.Balancer, cmd), 1, "lock "+s.PinDir+": not enough privileges: run as root, or with CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON")
}
