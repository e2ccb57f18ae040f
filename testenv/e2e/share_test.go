package e2e

import (
	"context"
	"net"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/google/go-cmp/cmp"

	"fairlead/loader"
	"fairlead/testenv"
	"fairlead/testenv/stage"
)

func TestEqualShares(t *testing.T) {
	s := attached(t, testenv.RigOptions{})
	account := s.Account()
	wantSpread(t, s, web, 300, map[string]int{"backend1": 100, "backend2": 100, "backend3": 100})
	closeAccount(t, account)
	wantFlows(t, s, 100, 100, 100)
}

func TestWeightedShares(t *testing.T) {
	s := newStage(t, testenv.RigOptions{})
	s.Configure("interfaces: %s\nservices: [{name: web, listen: %s:80, backends: %s}]",
		s.Links(), vip, s.BackendList(8080, 3, 2, 1))
	s.Loader("attach").OK(t)
	account := s.Account()
	wantSpread(t, s, web, 600, map[string]int{"backend1": 300, "backend2": 200, "backend3": 100})
	closeAccount(t, account)
	wantFlows(t, s, 300, 200, 100)
}

// Each client keeps to one CPU, on which its frames are received too.
func TestSharesOfTwoCPUs(t *testing.T) {
	s := attached(t, testenv.RigOptions{Clients: 2})
	account := s.Account()
	var waits []func() error
	for cpu, h := range s.Clients {
		waits = append(waits, h.Go(func() error {
			if err := testenv.PinCPU(cpu); err != nil {
				return err
			}
			return connect(t.Context(), vip+":80", 150)
		}))
	}
	for _, wait := range waits {
		if err := wait(); err != nil {
			t.Error(err)
		}
	}
	closeAccount(t, account)
	wantFlows(t, s, 100, 100, 100)

	perCPU := flowsPerCPU(t, s)
	for cpu := range 2 {
		if perCPU[cpu] < 75 {
			t.Errorf("CPU %d made %d of 300 flows, want 75 at least; all: %v", cpu, perCPU[cpu], perCPU)
		}
	}
}

// connect opens n connections from the calling thread, one after the other.
func connect(ctx context.Context, addr string, n int) error {
	ctx, cancel := context.WithTimeout(ctx, stage.Patience)
	defer cancel()
	for range n {
		var d net.Dialer
		c, err := d.DialContext(ctx, "tcp", addr)
		if err != nil {
			return err
		}
		if err := c.Close(); err != nil {
			return err
		}
	}
	return nil
}

// flowsPerCPU returns how many flows each CPU has made.
func flowsPerCPU(t *testing.T, s *stage.Stage) []uint64 {
	t.Helper()
	inst, err := loader.Open(s.PinDir)
	if err != nil {
		t.Fatal(err)
	}
	defer inst.Close()
	flows := make([]uint64, ebpf.MustPossibleCPU())
	counters := inst.Maps().BackendCounters
	for row := range counters.MaxEntries() {
		var each []loader.Counters
		if err := counters.Lookup(row, &each); err != nil {
			t.Fatal(err)
		}
		for cpu, c := range each {
			flows[cpu] += c.Flows
		}
	}
	return flows
}

// wantSpread asserts how n requests of client 0 are shared.
func wantSpread(t *testing.T, s *stage.Stage, url string, n int, want map[string]int) {
	t.Helper()
	got, err := s.Spread(0, url, n)
	if err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%d requests of %s (-want +got):\n%s", n, url, diff)
	}
}

// wantFlows asserts how many flows the kernel has counted for each backend,
// and that those of the service are their sum.
func wantFlows(t *testing.T, s *stage.Stage, want ...uint64) {
	t.Helper()
	var got []uint64
	sum := uint64(0)
	for _, b := range s.BackendRows() {
		got = append(got, b.Flows)
		sum += b.Flows
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("flows of backends (-want +got):\n%s", diff)
	}
	if n := s.Stats().Forwarded.Flows; n != sum {
		t.Errorf("service has %d flows, its backends %d", n, sum)
	}
}
