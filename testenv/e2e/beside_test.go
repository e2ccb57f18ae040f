package e2e

import (
	"syscall"
	"testing"

	"fairlead/testenv"
)

// A command beside an agent brings the programs up to date: both of them.
func TestAttachBesideAnAgentKeepsIPv6(t *testing.T) {
	f := families[1]
	s := f.stage(t, testenv.RigOptions{})
	f.configure(s, "", "")
	agent := s.StartAgent()
	talk, err := s.Dial(0, f.at(80))
	if err != nil {
		t.Fatal(err)
	}
	defer talk.Close()
	first, err := talk.Ask()
	if err != nil {
		t.Fatal(err)
	}
	s.Loader("attach").OK(t)
	if a, err := talk.Ask(); err != nil || a.Message != first.Message {
		t.Errorf("after the command: %q, %v, want %q", a.Message, err, first.Message)
	}
	if n := s.Stats().Forwarded.Flows; n != 1 {
		t.Errorf("%d flows were made, want 1", n)
	}
	agent.Stop(syscall.SIGTERM)
}
