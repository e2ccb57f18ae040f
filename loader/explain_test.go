package loader

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"fairlead/testenv"
)

var asked = Question{
	From: netip.MustParseAddrPort("198.51.100.1:40000"), To: netip.MustParseAddrPort("203.0.113.10:80"), Flags: TCPSyn, TTL: 64,
}

func TestRehearsalRunsTheAttachedProgram(t *testing.T) {
	b := newBench(t)
	b.attach(Options{Interfaces: []string{"d0"}, Sizes: Sizes{Flows6: 64}}, realProgram)
	i := b.open()
	six := Question{From: netip.MustParseAddrPort("[2001:db8::1]:1"), To: netip.MustParseAddrPort("[2001:db8::2]:80"), TTL: 64, UDP: true, Length: 61}
	b.Do(t, func() error {
		at, err := i.Ingress("d0", asked.From.Addr())
		if err != nil {
			return err
		}
		for _, q := range []Question{asked, six} {
			dry, err := i.Rehearse(q.From.Addr().Is6())
			if err != nil {
				return err
			}
			defer dry.Close()
			a, err := dry.Ask(q, at)
			if err != nil {
				return err
			}
			if Verdict(a.Verdict) != LBVerdictPASS_OTHER || len(a.Frame) != 14+max(q.Least(), int(q.Length)) {
				t.Errorf("%v: verdict %v, %d bytes", q.From, Verdict(a.Verdict), len(a.Frame))
			}
		}
		_, err = i.Ingress("lo", asked.From.Addr())
		if !errors.Is(err, ErrNotAttached) {
			t.Errorf("an interface without the program: %v", err)
		}
		return nil
	})
	verdicts, err := i.Maps().ReadVerdicts()
	if err != nil {
		t.Fatal(err)
	}
	if verdicts[LBVerdictPASS_OTHER] != 0 {
		t.Errorf("%d packets were counted", verdicts[LBVerdictPASS_OTHER])
	}
}

// TestEveryDatagramHasAChecksum wants one that comes to 0 to be 0xffff: 0 says that
// there is none.
func TestEveryDatagramHasAChecksum(t *testing.T) {
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	q, found := asked, false
	q.UDP, q.Flags = true, 0
	for port := 1; port < 65536; port++ {
		q.From = netip.AddrPortFrom(q.From.Addr(), uint16(port))
		switch binary.BigEndian.Uint16(q.frame(mac, mac)[etherHeader+ipv4Header+6:]) {
		case 0:
			t.Fatalf("from port %d: no checksum", port)
		case 0xffff:
			found = true
		}
	}
	if !found {
		t.Error("no port makes the checksum 0")
	}
}

func TestRehearsalRefusesAnotherProgram(t *testing.T) {
	b := newBench(t)
	b.attach(Options{Interfaces: []string{"d0"}}, otherProgram)
	i := b.open()
	if _, err := i.Rehearse(false); !errors.Is(err, ErrProgram) {
		t.Errorf("another program is taken: %v", err)
	}
}

// TestOthersPayNothingForDryRuns looks for what only dry runs use, told and scratch,
// in what the verifier has made of the program.
func TestOthersPayNothingForDryRuns(t *testing.T) {
	testenv.RequireRoot(t)
	for _, o := range []struct {
		name string
		load func() (*ebpf.CollectionSpec, error)
	}{{LBProgFairlead, LoadLB}, {LBProgFairleadBoth, LoadLB}, {LBProgFairleadMixed, LoadLB}, {LB6ProgFairlead6, LoadLB6}, {LB46ProgFairlead46, LoadLB46}} {
		// Before 6.8 functions that nobody calls stay: without_ended of bpf/dry.h.
		if n := dryInstructions(t, o.load, o.name, false); n > 1 {
			t.Errorf("%s: %d instructions are for dry runs", o.name, n)
		}
		if dryInstructions(t, o.load, o.name, true) == 0 {
			t.Errorf("%s: a dry run tells nothing", o.name)
		}
	}
}

// dryInstructions returns how many of a program's instructions, as they run, refer to variables.
func dryInstructions(t *testing.T, load func() (*ebpf.CollectionSpec, error), name string, dry bool) (n int) {
	t.Helper()
	spec, err := load()
	if err == nil {
		err = spec.Variables[LBVarDryRun].Set(dry)
	}
	if err != nil {
		t.Fatal(err)
	}
	spec.Programs = map[string]*ebpf.ProgramSpec{name: spec.Programs[name]}
	coll, err := ebpf.NewCollection(spec)
	if err != nil {
		t.Fatal(err)
	}
	defer coll.Close()
	variables, err := coll.Maps[".bss"].Info()
	if err != nil {
		t.Fatal(err)
	}
	id, _ := variables.ID()
	info, err := coll.Programs[name].Info()
	if err != nil {
		t.Fatal(err)
	}
	all, err := info.Instructions()
	if err != nil {
		t.Fatal(err)
	}
	for _, in := range all {
		if in.OpCode.IsDWordLoad() && in.Src == asm.PseudoMapValue && uint32(in.Constant) == uint32(id) {
			n++
		}
	}
	t.Logf("%s, dry %v: %d instructions, %d about variables", name, dry, len(all), n)
	return n
}
