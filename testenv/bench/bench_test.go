package main

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/google/go-cmp/cmp"

	"fairlead/loader"
	"fairlead/testenv"
	"fairlead/testenv/livegen"
)

// What is measured does what it says; how fast it is, is no matter here.

func newBench(t *testing.T) *bench {
	t.Helper()
	return &bench{TB: t, ctx: t.Context(), out: io.Discard, log: io.Discard}
}

// requirePrograms skips the test without programs that `make test` installs.
func requirePrograms(t *testing.T, names ...string) {
	t.Helper()
	testenv.RequireRoot(t)
	for _, n := range names {
		if _, err := exec.LookPath(n); err != nil && os.Getenv("FAIRLEAD_TEST_ROOT") != "" {
			t.Fatal(err)
		} else if err != nil {
			t.Skip(err)
		}
	}
}

func TestPacketPrograms(t *testing.T) {
	p := newPacketBench(newBench(t))
	for _, name := range []string{"run_empty", "run_restore", "run_swap", "run_lookup"} {
		p.repeat(name, p.four.ack, 10, xdpTX)
	}
	p.repeat("run_lookup", p.four.syn, 10, xdpTX) // the same tuple
	p.repeat("run_lookup", p.four.synAck, 10, 0)  // one that is not in the table
	p.repeat("run_forward", p.four.ack, 10, xdpRedirect)
	p.repeat("run_forward", p.four.synAck, 10, 0)
	p.hit("run_hit", p.four, 1000)
	p.hit("run_hit_both", p.four, 1000)
	p.make(1000)
	p.hit("run_hit", p.four, 10) // new flows have not become part of it
	p.repeat("run_restore6", p.six.ack, 10, xdpTX)
	p.repeat("run_restore6", p.four.ack, 10, 0) // too short
	p.hit("run_hit6", p.six, 1000)
}

// once runs a program and returns the packet that it leaves.
func (p *packetBench) once(prog *ebpf.Program, frame []byte, repeat uint32) []byte {
	p.Helper()
	opts := ebpf.RunOptions{Data: frame, DataOut: make([]byte, 256), Repeat: repeat}
	p.host.Do(p, func() error {
		_, err := prog.Run(&opts)
		return err
	})
	return opts.DataOut
}

func TestEachRunSeesThePacketAnew(t *testing.T) {
	p := newPacketBench(newBench(t))
	p.open(p.four)
	p.open(p.six)
	p.setTemplate(p.four.ack)
	if diff := cmp.Diff(p.four.ack, p.once(p.programs["run_restore"], p.four.synAck, 1)); diff != "" {
		t.Errorf("restored packet (-want +got):\n%s", diff)
	}
	want := p.once(p.live, p.four.ack, 1)
	if err := testenv.VerifyFrame(want); err != nil || bytes.Equal(want, p.four.ack) {
		t.Fatalf("translated packet is % x: %v", want, err)
	}
	for _, name := range []string{"run_hit", "run_hit_both"} {
		if diff := cmp.Diff(want, p.once(p.programs[name], p.four.ack, 5)); diff != "" {
			t.Errorf("packet after five runs of %s (-want +got):\n%s", name, diff)
		}
	}
	swapped := append(append(append([]byte{}, p.four.ack[6:12]...), p.four.ack[0:6]...), p.four.ack[12:]...)
	if diff := cmp.Diff(swapped, p.once(p.programs["run_swap"], p.four.ack, 2)); diff != "" {
		t.Errorf("packet with MAC addresses swapped (-want +got):\n%s", diff)
	}
	p.setTemplate(p.six.ack)
	if diff := cmp.Diff(p.six.ack, p.once(p.programs["run_restore6"], p.six.synAck, 1)); diff != "" {
		t.Errorf("restored packet of IPv6 (-want +got):\n%s", diff)
	}
	want = p.once(p.live, p.six.ack, 1)
	if err := testenv.VerifyFrame(want); err != nil || bytes.Equal(want, p.six.ack) {
		t.Fatalf("translated packet of IPv6 is % x: %v", want, err)
	}
	if diff := cmp.Diff(want, p.once(p.programs["run_hit6"], p.six.ack, 5)); diff != "" {
		t.Errorf("packet of IPv6 after five runs (-want +got):\n%s", diff)
	}
}

func TestFramesArrive(t *testing.T) {
	requirePrograms(t, "nft")
	const n = 5000
	b := newBench(t)
	fairlead, maps := fairleadRoad(b)
	for name, r := range map[string]*road{
		"redirect": redirectRoad(b, "redirect"), "look-up": redirectRoad(b, "lookup_redirect"),
		"fairlead": fairlead, "nftables": nftablesRoad(b),
	} {
		for _, g := range []*livegen.Generator{r.one, r.many} {
			got := r.send(g, n)
			if got.sent+got.lost != n || got.arrived > got.sent || got.arrived < got.sent/2 || got.took <= 0 {
				t.Errorf("%s: %d frames became %+v", name, n, got)
			}
		}
	}
	verdicts, err := maps.ReadVerdicts()
	if err != nil {
		t.Fatal(err)
	}
	rows, err := maps.ReadCounters(loader.TableServices)
	if err != nil {
		t.Fatal(err)
	}
	if got := verdicts[loader.LBVerdictFORWARD_REDIRECT]; got > 2*n || got < n {
		t.Errorf("the datapath redirected %d of %d frames", got, 2*n)
	}
	if rows[0].Flows == 0 || rows[0].Flows > manyFlows {
		t.Errorf("%d flows were made, want at most %d", rows[0].Flows, manyFlows)
	}
}
