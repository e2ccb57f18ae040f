package e2e

import (
	"fmt"
	"sync"
	"syscall"
	"testing"

	"fairlead/testenv"
	"fairlead/testenv/stage"
	"fairlead/userspace/view"
)

func TestUpgradesLoseNothing(t *testing.T) {
	s := newStage(t, testenv.RigOptions{})
	openSinks(t, s)
	configure(s, sinks+s.BackendList(sinkPort)+"}")
	s.Loader("attach").OK(t)

	underTraffic(t, s, func() {
		for range slow(10, 100) {
			s.Loader("attach").OK(t)
		}
	})
}

func TestKilledAgentsLoseNothing(t *testing.T) {
	s := newStage(t, testenv.RigOptions{})
	openSinks(t, s)
	s.Configure(`
interfaces: %s
services:
  - {name: web, listen: %s:80, backends: %s, health: {type: http, path: /health, interval: 500ms}}
%s`, s.Links(), vip, s.BackendList(8080), sinks+s.BackendList(sinkPort)+"}")
	agent := s.StartAgent()
	for i := range s.Backends {
		s.AwaitView("first health", func(v *view.View) bool { return v.Services[0].Backends[i].Known })
	}
	underTraffic(t, s, func() {
		for range slow(3, 10) {
			if code := agent.Stop(syscall.SIGKILL); code != -1 {
				t.Errorf("killed agent ended with status %d", code)
			}
			agent = s.StartAgent()
		}
		s.Loader("attach").OK(t) // beside the agent
	})
	if code := agent.Stop(syscall.SIGTERM); code != 0 {
		t.Errorf("agent ended with status %d", code)
	}
	if _, err := s.Get(0, web); err != nil {
		t.Errorf("without an agent: %v", err)
	}
}

// underTraffic carries out change while a flood runs and a connection is in
// use, and asserts that both go on as if nothing happened.
func underTraffic(t *testing.T, s *stage.Stage, change func()) {
	t.Helper()
	account := s.Account()
	before := s.Stats().Verdicts
	talk, err := s.Dial(0, vip+":80")
	if err != nil {
		t.Fatal(err)
	}
	first, err := talk.Ask()
	if err != nil {
		t.Fatal(err)
	}
	stop := keepTalking(t, talk, first.Message)
	flood := startFlood(t, s, slow(20_000, 1_000_000))

	change()

	sent := flood.stop(t)
	stop()
	sums := closeAccount(t, account)
	t.Logf("%.0f packets a second; %+v", sent.PPS(), sums)
	if want := uint64(sent.Sent); sums.Arrived+sums.Overflow < want {
		t.Errorf("%d frames sent, but all that arrived are %+v", want, sums)
	}
	if rate := slow(0, 500_000); sent.PPS() < float64(rate) {
		t.Errorf("%.0f packets a second, want %d", sent.PPS(), rate)
	}
	after := s.Stats().Verdicts
	for _, v := range []string{"pass_off", "pass_draining", "pass_no_flow", "pass_standby", "pass_proxy"} {
		if n := after[v] - before[v]; n != 0 {
			t.Errorf("%d packets got the verdict %s", n, v)
		}
	}
}

// keepTalking asks over and over until the function that it returns is called,
// and asserts that the same server answers each time.
func keepTalking(t *testing.T, talk *stage.Talk, message string) (stop func()) {
	t.Helper()
	end := overAndOver(func() error {
		a, err := talk.Ask()
		if err == nil && a.Message != message {
			err = fmt.Errorf("%s answered, want %s", a.Message, message)
		}
		return err
	})
	return sync.OnceFunc(func() {
		t.Helper()
		if asked, err := end(); err != nil {
			t.Errorf("the open connection broke after %d answers: %v", asked, err)
		}
	})
}
