package fuzz

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"fairlead/testenv"
	"fairlead/testenv/lbtest"
)

// defaultSeed is what make test runs with, so that it is the same every time.
const defaultSeed = 20260101

// fromEnv is a number of the environment.
func fromEnv(tb testing.TB, name string, otherwise uint64) uint64 {
	tb.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		tb.Fatalf("read %s: %v", name, err)
	}
	return n
}

// TestDatapath is the comparison of C and model. FAIRLEAD_FUZZ_N is the number
// of packets, FAIRLEAD_FUZZ_SEED repeats a run, FAIRLEAD_FUZZ_EPISODE from
// there on; FAIRLEAD_SLOW=1 sends ten million under a new seed.
func TestDatapath(t *testing.T) {
	testenv.RequireRoot(t)
	packets, seed := uint64(200_000), uint64(defaultSeed)
	if os.Getenv("FAIRLEAD_SLOW") == "1" {
		packets, seed = 10_000_000, rand.Uint64()
	}
	packets = fromEnv(t, "FAIRLEAD_FUZZ_N", packets)
	seed = fromEnv(t, "FAIRLEAD_FUZZ_SEED", seed)
	q := &queue{packets: int(packets), first: fromEnv(t, "FAIRLEAD_FUZZ_EPISODE", 0)}
	t.Logf("FAIRLEAD_FUZZ_SEED=%d FAIRLEAD_FUZZ_EPISODE=%d FAIRLEAD_FUZZ_N=%d", seed, q.first, packets)
	start := time.Now()
	f := workTogether(t, q, seed)
	if t.Failed() {
		return
	}
	for _, family := range f.families {
		t.Logf("%d packets to worlds of %s compared", f.seen[family].packets, family.name)
	}
	if packets >= 200_000 { // a third of them to worlds of each kind
		checkCoverage(t, f)
	}
	t.Logf("seed %d: %s", seed, q.progress(0, start))
}

// TestSeededFaults builds one fault after the other into the C. The fuzzer has
// to find each before so many packets and to name the first that shows it; without
// the fault that packet must not differ.
func TestSeededFaults(t *testing.T) {
	seed := fromEnv(t, "FAIRLEAD_FUZZ_SEED", defaultSeed)
	for _, test := range []struct {
		family  *family
		faults  []lbtest.Fault
		packets int
	}{
		{&ipv4, lbtest.Faults, 100_000},
		{&ipv4, lbtest.FaultsDry, 100_000},
		{&ipv6, lbtest.FaultsDry, 300_000},
		{&ipv6, lbtest.Faults6, 100_000},
		{&ipv6, lbtest.Shared(), 300_000}, // IPv4's packets come to them sooner
		{&mixed6, lbtest.FaultsMixed, 300_000},
	} {
		k := newKernel(t, test.faults[0].N)
		for _, fault := range test.faults {
			t.Run(test.family.name+" "+fault.Text, func(t *testing.T) {
				testenv.PinThread(t)
				k.fault = fault.N
				findFault(t, k, newFuzzer(k, seed, test.family), test.packets)
			})
		}
	}
}

// findFault lets f look for the fault of k, its target, which must not differ
// without.
func findFault(t *testing.T, k *kernel, f *fuzzer, packets int) {
	t.Helper()
	fault := k.fault
	d, err := f.run(packets)
	switch {
	case err != nil:
		t.Fatal(err)
	case d == nil:
		t.Fatalf("fault %d was not found in %d packets", fault, f.packets)
	case d.Packet == 0:
		t.Fatalf("fault %d was found, but not its packet:\n%s", fault, d.Text)
	}
	k.fault = 0
	_, text, err := f.replay(d.Episode, d.items)
	if err != nil {
		t.Fatal(err)
	}
	if text != "" {
		t.Fatalf("packet %d differs without fault %d, too:\n%s", d.Packet, fault, text)
	}
	t.Logf("fault %d shows at packet %d: %s", fault, d.Packet, describe(d.Frame))
}
