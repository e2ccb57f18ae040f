package kernel

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"

	"fairlead/loader"
	"fairlead/testenv"
)

// TestForwardingIsTheAgentsToSwitchOn where one runs: --set-sysctl of a command is no
// way out then.
func TestForwardingIsTheAgentsToSwitchOn(t *testing.T) {
	r := testenv.NewRig(t, testenv.RigOptions{Backends: 1})
	state, dir := stateOf(r), pins(t)
	lock, err := loader.LockAgent(t.Context(), dir, Digest(state))
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Unlock()
	attached(t, r, state, Options{Dir: dir, Agent: true})
	r.Balancer.Sysctl(t, "net.ipv4.conf.client1.forwarding", "0")
	for _, set := range []bool{false, true} {
		r.Balancer.Do(t, func() error {
			_, _, err = Attach(t.Context(), state, Options{Dir: dir, SetSysctl: set})
			return nil
		})
		want := fmt.Sprintf(", or send SIGHUP to the agent, process %d", os.Getpid())
		if !errors.Is(err, ErrForwarding) || !strings.Contains(err.Error(), want) {
			t.Errorf("--set-sysctl %t: %v", set, err)
		}
	}
	detach(t, r, dir)
}

// TestNothingIsAttachedBesideAnAgentThatHasNothing after loader detach: it would not
// fill the maps.
func TestNothingIsAttachedBesideAnAgentThatHasNothing(t *testing.T) {
	r := testenv.NewRig(t, testenv.RigOptions{Backends: 1})
	state, dir := stateOf(r), pins(t)
	lock, err := loader.LockAgent(t.Context(), dir, Digest(state))
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Unlock()
	r.Balancer.Do(t, func() error {
		_, _, err = Attach(t.Context(), state, Options{Dir: dir})
		return nil
	})
	if want := fmt.Sprintf("send SIGHUP to process %d", os.Getpid()); !errors.Is(err, ErrAgentDetached) || !strings.Contains(err.Error(), want) {
		t.Errorf("attach gave %v", err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s: %v", dir, err)
	}
}
