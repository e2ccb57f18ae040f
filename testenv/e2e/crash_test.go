package e2e

import (
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"fairlead/testenv/stage"
)

// Commands are killed at random moments. Whatever they leave, the next command
// mends it.
func TestKilledCommandsAreMended(t *testing.T) {
	s, before := unpreparedHost(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	kill := func(program string, args ...string) {
		p := s.Start(s.Balancer, program, args...)
		time.Sleep(time.Duration(random.Int64N(int64(120 * time.Millisecond)))) // the random moment
		p.Kill()
	}
	for round := range slow(6, 60) {
		kill(programs.Loader, "attach", "--set-sysctl")
		wantAttach(t, s, round)
		kill(programs.Loader, "attach")
		wantAttach(t, s, round)
		kill(programs.Loader, "detach")
		wantClean(t, s, before, round)

		kill(programs.Fairlead, "run", "--set-sysctl")
		agent := s.StartAgent("--set-sysctl")
		if _, err := s.Get(0, web); err != nil {
			t.Fatalf("round %d: with an agent: %v", round, err)
		}
		if code := agent.Stop(syscall.SIGTERM); code != 0 {
			t.Fatalf("round %d: agent ended with status %d", round, code)
		}
		kill(programs.Loader, "detach")
		wantClean(t, s, before, round)
	}
}

func wantAttach(t *testing.T, s *stage.Stage, round int) {
	t.Helper()
	s.Loader("attach", "--set-sysctl").OK(t)
	if _, err := s.Get(0, web); err != nil {
		t.Fatalf("round %d: after attach: %v", round, err)
	}
}

// wantClean detaches what may be left, and asserts that nothing is left.
func wantClean(t *testing.T, s *stage.Stage, before string, round int) {
	t.Helper()
	if r := s.Loader("detach"); r.Code > 1 {
		t.Fatalf("round %d: detach: status %d: %s", round, r.Code, r.Stderr)
	}
	stage.Await(t, "the host to be as before", func() error {
		if diff := cmp.Diff(before, hostState(t, s)); diff != "" {
			return fmt.Errorf("round %d left (-before +after):\n%s", round, diff)
		}
		return nil
	})
}
