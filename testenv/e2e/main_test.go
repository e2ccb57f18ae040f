package e2e

import (
	"os"
	"os/exec"
	"testing"

	"fairlead/testenv"
	"fairlead/testenv/leak"
	"fairlead/testenv/stage"
	"fairlead/userspace/datapath"
)

// The service address of every test. No host has it before the balancer.
const (
	vip = "203.0.113.10"
	web = "http://" + vip + "/"
)

var programs stage.Programs

func TestMain(m *testing.M) {
	_, _ = datapath.Now() // whose program stays; without root there is none
	os.Exit(stage.Main(leak.Each(m), &programs))
}

// slow chooses between the quick and the thorough variant of a number.
func slow(quick, thorough int) int {
	if os.Getenv("FAIRLEAD_SLOW") != "" {
		return thorough
	}
	return quick
}

// newStage raises a stage with servers on port 8080.
func newStage(t *testing.T, o testenv.RigOptions) *stage.Stage {
	t.Helper()
	s := stage.New(t, stage.Options{RigOptions: o, Programs: programs})
	s.Serve(8080)
	return s
}

// configure writes a configuration with service web: TCP, port 80, all
// backends, without health checks. more is added to it.
func configure(s *stage.Stage, more string) {
	s.Configure(`
interfaces: %s
services:
  - {name: web, listen: %s:80, backends: %s, health: {type: none}}
%s`, s.Links(), vip, s.BackendList(8080), more)
}

// attached raises a stage and attaches service web without an agent.
func attached(t *testing.T, o testenv.RigOptions) *stage.Stage {
	t.Helper()
	s := newStage(t, o)
	configure(s, "")
	s.Loader("attach").OK(t)
	return s
}

// tool returns the path of a program that scripts/setup.sh test installs.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%v: run scripts/setup.sh test", err)
	}
	return path
}

// closeAccount ends an account and returns its sums. No frame may have been
// dropped by a verdict or by a redirect. A full ring is no fault of the
// balancer, and counted.
func closeAccount(t *testing.T, a *stage.Account) stage.Sums {
	t.Helper()
	sums := a.Close()
	if sums.Dropped != 0 || sums.Failed != 0 {
		t.Errorf("XDP dropped frames: %+v", sums)
	}
	return sums
}

// wantSound asserts that no host of the rig saw a wrong checksum.
func wantSound(t *testing.T, s *stage.Stage) {
	t.Helper()
	for _, hosts := range [][]*testenv.Host{s.Clients, s.Backends, {s.Balancer}} {
		for _, h := range hosts {
			for _, group := range []string{"Tcp", "Udp", "Icmp", "Udp6", "Icmp6"} {
				if n := s.StackCounter(h, group, "InCsumErrors"); n != 0 {
					t.Errorf("%s received %d %s packets with wrong checksums", h.Name, n, group)
				}
			}
		}
	}
}

// overAndOver calls do until it fails or the function that it returns is
// called, which returns how often it succeeded, and the failure.
func overAndOver(do func() error) (end func() (times int, err error)) {
	type result struct {
		times int
		err   error
	}
	stop, ended := make(chan struct{}), make(chan result, 1)
	go func() {
		var r result
		for {
			select {
			case <-stop:
				ended <- r
				return
			default:
			}
			if r.err = do(); r.err != nil {
				ended <- r
				return
			}
			r.times++
		}
	}()
	return func() (int, error) {
		close(stop)
		r := <-ended
		return r.times, r.err
	}
}
