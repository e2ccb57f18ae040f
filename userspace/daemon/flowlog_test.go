package daemon

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/bits"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"fairlead/loader"
	"fairlead/testenv/stage"
	"fairlead/userspace/datapath"
	"fairlead/userspace/model"
	"fairlead/userspace/view"
)

// A flowLine is one of a flow log.
type flowLine struct {
	datapath.FlowEvent
	Begins, Ends uint64 // of one about lost events
}

// flowsIn returns what a flow log has.
func flowsIn(t *testing.T, name string) (all []flowLine) {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	whole := data[:bytes.LastIndexByte(data, '\n')+1] // the last line may be in the making
	for line := range strings.Lines(string(whole)) {
		var e flowLine
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		all = append(all, e)
	}
	return all
}

// awaitLines waits until a flow log has just these lines for each of some clients.
func awaitLines(t *testing.T, name string, want map[string][]string) {
	t.Helper()
	stage.Await(t, "lines of flows", func() error {
		got := map[string][]string{}
		for _, e := range flowsIn(t, name) {
			of := e.Client.String()
			got[of] = append(got[of], fmt.Sprint(e.Event, " ", e.Service, " ", e.Protocol, " ", e.Backend, e.Reason))
		}
		for client, lines := range want {
			if !slices.Equal(got[client], lines) {
				return fmt.Errorf("%s: %q, want %q", client, got[client], lines)
			}
		}
		return nil
	})
}

// awaitSample waits until the kernel tells of one flow in n.
func (b *bench) awaitSample(n uint32) {
	b.t.Helper()
	stage.Await(b.t, "events", func() (err error) {
		var have uint32
		b.withMaps(func(m *loader.Maps) error { have, err = m.ReadEventSample(); return err })
		if err == nil && have != n {
			err = fmt.Errorf("one in %d is told of, want %d", have, n)
		}
		return err
	})
}

// begunSoFar returns how many beginnings of flows the kernel has told, or lost.
func (b *bench) begunSoFar() (c loader.EventCounts) {
	b.t.Helper()
	b.withMaps(func(m *loader.Maps) (err error) { c, err = m.ReadEventCounts(); return err })
	return c
}

// made returns how many flows the kernel has made.
func (b *bench) made() (n uint64) {
	b.t.Helper()
	b.withMaps(func(m *loader.Maps) error {
		services, err := m.ReadCounters(loader.TableServices)
		for _, s := range services {
			n += s.Flows
		}
		return err
	})
	return n
}

// TestFlowsOfTheKernelAreLogged: each connection of clients once, at its beginning and
// at its end, however short it was; and nothing is told if nobody listens.
func TestFlowsOfTheKernelAreLogged(t *testing.T) {
	b := newBench(t, 2)
	name := filepath.Join(t.TempDir(), "flows")
	rest := b.interfaces() + "services:\n" + b.service("web", "tcp", 80)
	b.configure(rest)
	b.greetAll()
	b.start()
	b.seen("backends to be up", up(true, true))
	before, at := b.opened(80)
	if c := b.begunSoFar(); c != (loader.EventCounts{}) {
		t.Errorf("events %+v without a flow log", c)
	}
	b.configure("flow-log: {file: "+name+"}\n", rest)
	b.signal(syscall.SIGHUP)
	b.awaitSample(1)
	of := func(at int) string { return fmt.Sprintf(" web tcp %s:8080", b.BackendAddrs[at]) }
	want := map[string][]string{before.LocalAddr().String(): {"end" + of(at)}}
	for range 100 {
		c, at := b.opened(80)
		want[c.LocalAddr().String()] = []string{"begin" + of(at), "end" + of(at)}
		c.Close()
	}
	before.Close()
	awaitLines(t, name, want)
	for _, e := range flowsIn(t, name) {
		if e.Event == "end" && (e.State != "closed" || e.Client.String() != before.LocalAddr().String() && (e.Seconds <= 0 || e.Seconds > 60)) {
			t.Errorf("a short flow ended as %+v", e)
		}
	}
	if c := b.begunSoFar(); c != (loader.EventCounts{Begun: 100, Ended: 101}) {
		t.Errorf("the kernel has told %+v, want 100 beginnings and 101 ends", c)
	}
	b.configure(rest)
	b.signal(syscall.SIGHUP)
	b.awaitSample(0)
	c, _ := b.opened(80)
	c.Close()
	if c := b.begunSoFar(); c.Begun != 100 {
		t.Errorf("%d beginnings were told, one of them to nobody", c.Begun)
	}
	b.stop()
}

// TestTheSampleIsTheKernels: looks at the flow table and the kernel tell of the same flows.
func TestTheSampleIsTheKernels(t *testing.T) {
	b := newBench(t, 1)
	name := filepath.Join(t.TempDir(), "flows")
	b.configure("flow-log: {file: "+name+", sample: 2}\n", b.interfaces(), "services:\n", b.service("web", "tcp", 80))
	b.greetAll()
	b.start()
	b.seen("the backend to be up", up(true))
	b.awaitSample(2)
	want := map[string][]string{}
	for range 40 {
		c, _ := b.opened(80)
		want[c.LocalAddr().String()] = nil
	}
	begin := []string{fmt.Sprintf("begin web tcp %s:8080", b.BackendAddrs[0])}
	taken := 0
	b.withMaps(func(m *loader.Maps) error {
		table, err := m.FlowTable()
		if err != nil {
			return err
		}
		table.Each(func(e loader.Entry) bool {
			if e.Dir() == loader.LBFlowDirDIR_FORWARD && m.ControlView().Sampled(&e, 2) {
				client := netip.AddrPortFrom(loader.Address(e.Key.Saddr).Addr(), bits.ReverseBytes16(e.Key.Sport))
				want[client.String()] = begin
				taken++
			}
			return true
		})
		return table.Close()
	})
	if taken == 0 || taken == len(want) {
		t.Fatalf("%d of %d flows are of the sample", taken, len(want))
	}
	awaitLines(t, name, want)
}

// TestAFloodLosesEventsAndCountsThem: what there is no room for is counted, told, and
// found in the flow table later.
func TestAFloodLosesEventsAndCountsThem(t *testing.T) {
	b := newBench(t, 1)
	name := filepath.Join(t.TempDir(), "flows")
	b.configure("flow-log: {file: "+name+"}\n", b.interfaces(), "services:\n", b.service("echo", "udp", 53))
	b.greetAll()
	b.echoUDP(0)
	b.start()
	b.seen("the backend to be up", up(true))
	b.awaitSample(1)
	b.floodUDP(1)
	stage.Await(t, "its line, which is written after the first look at the flow table", func() error {
		if all := flowsIn(t, name); len(all) == 0 {
			return errors.New("none")
		}
		return nil
	})
	b.signal(syscall.SIGSTOP)
	b.floodUDP(24000)
	b.signal(syscall.SIGCONT)
	made := b.made()
	var begun, found, lost uint64
	stage.Await(t, "lines of flows", func() error {
		begun, found, lost = 0, 0, 0
		for _, e := range flowsIn(t, name) {
			switch {
			case e.Event == "lost":
				lost += e.Begins
			case e.Event == "begin" && e.Reason == "":
				begun++
			case e.Event == "begin":
				found++
			}
		}
		if begun+lost != made || found != lost {
			return fmt.Errorf("%d beginnings, %d were lost and %d found, of %d flows", begun, lost, found, made)
		}
		return nil
	})
	if lost == 0 {
		t.Errorf("nothing was lost of %d events", begun)
	}
	if c := b.begunSoFar(); c.Begun != begun || c.BegunLost != lost {
		t.Errorf("the kernel counts %+v, the log has %d and %d", c, begun, lost)
	}
}

// floodUDP sends a datagram from each of n ports of a client.
func (b *bench) floodUDP(n int) {
	b.t.Helper()
	b.Clients[0].Do(b.t, func() error {
		to := net.UDPAddrFromAddrPort(netip.AddrPortFrom(vip, 53))
		for port := range n {
			c, err := net.DialUDP("udp", &net.UDPAddr{Port: 10000 + port}, to)
			if err == nil {
				_, err = c.Write([]byte("x"))
				err = errors.Join(err, c.Close())
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// TestASuccessorGoesOnWithTheFlowLog: no flow is left out, and none is told of twice.
func TestASuccessorGoesOnWithTheFlowLog(t *testing.T) {
	b := newBench(t, 2)
	name := filepath.Join(t.TempDir(), "flows")
	b.configure("flow-log: {file: "+name+"}\n", b.interfaces(), "services:\n", b.service("web", "tcp", 80))
	b.greetAll()
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil { // who waits for a successor
		t.Fatal(err)
	}
	b.start()
	b.seen("backends to be up", up(true, true))
	b.awaitSample(1)
	want := map[string][]string{}
	visit := func() error {
		c, at, err := b.connect(80)
		if err != nil {
			return err
		}
		of := fmt.Sprintf(" web tcp %s:8080", b.BackendAddrs[at])
		want[c.LocalAddr().String()] = []string{"begin" + of, "end" + of}
		return c.Close()
	}
	stop := visitors(t, visit)
	pid := b.cmd.Process.Pid
	for range 2 {
		pid = b.succeeded(pid, view.RungNative)
	}
	b.awaitEnd(b.cmd.Process.Pid)
	came := stop()
	awaitLines(t, name, want)
	if c := b.begunSoFar(); c != (loader.EventCounts{Begun: uint64(len(want)), Ended: uint64(len(want))}) || came < 10 {
		t.Errorf("the kernel has told %+v of %d visits", c, came)
	}
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	b.awaitEnd(pid)
	b.awaitSample(0)
}

func TestTheKernelIsHushedOnce(t *testing.T) {
	var looked atomic.Int64
	l := newFlowLog(func(func(*loader.Maps) error) error { looked.Add(1); return nil }, time.Hour, slog.New(slog.DiscardHandler))
	use := func(conf model.FlowLog) {
		t.Helper()
		keep, err := l.prepare(conf)
		if err != nil {
			t.Fatal(err)
		}
		keep(true)
	}
	l.follow(true)
	for range 3 {
		use(model.FlowLog{})
	}
	if n := looked.Load(); n != 1 {
		t.Errorf("looked for the maps %d times, want once", n)
	}
	use(model.FlowLog{File: filepath.Join(t.TempDir(), "flows"), Sample: 1})
	if l.hush {
		t.Error("the kernel will not be told when the log ends")
	}
	l.close()
	l.follow(false)
	looked.Store(0)
	if l.follow(true); looked.Load() != 1 {
		t.Errorf("looked for other maps %d times, want once", looked.Load())
	}
}
