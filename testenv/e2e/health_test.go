package e2e

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"fairlead/testenv"
	"fairlead/testenv/stage"
)

// The check of these tests, and how soon a backend that refuses connections
// must be out by it.
const (
	check  = "health: {type: http, path: /health, interval: 1s, timeout: 1s, rise: 1, fall: 3}"
	outIn  = 3*time.Second + time.Second + 200*time.Millisecond
	checks = `
interfaces: %s
services:
  - {name: web, listen: %s:80, backends: %s, panic-threshold: 0, ` + check + `}
`
)

// checked raises a stage with an agent that knows every backend to be up.
func checked(t *testing.T) (*stage.Stage, *stage.Process) {
	t.Helper()
	s := newStage(t, testenv.RigOptions{})
	s.Configure(checks, s.Links(), vip, s.BackendList(8080))
	agent := s.StartAgent()
	for i := range s.Backends {
		s.AwaitHealth(i, true)
	}
	return s, agent
}

// openTalks opens a connection to each backend, by its message.
func openTalks(t *testing.T, s *stage.Stage) map[string]*stage.Talk {
	t.Helper()
	talks := map[string]*stage.Talk{}
	for range s.Backends {
		talk, err := s.Dial(0, vip+":80")
		if err != nil {
			t.Fatal(err)
		}
		a, err := talk.Ask()
		if err != nil {
			t.Fatal(err)
		}
		talks[a.Message] = talk
	}
	if len(talks) != len(s.Backends) {
		t.Fatalf("%d connections went to %d backends", len(s.Backends), len(talks))
	}
	return talks
}

func TestKilledBackendIsTakenOut(t *testing.T) {
	s, _ := checked(t)
	account := s.Account()
	talks := openTalks(t, s)
	stop2, stop3 := keepTalking(t, talks["backend2"], "backend2"), keepTalking(t, talks["backend3"], "backend3")

	killed := time.Now()
	s.Servers[0].Stop(syscall.SIGKILL)
	since := s.AwaitHealth(0, false).Services[0].Backends[0].Since
	if took := since.Sub(killed); took > outIn {
		t.Errorf("the backend was taken out %s after it was killed, want %s at most", took, outIn)
	}
	wantSpread(t, s, web, 30, map[string]int{"backend2": 15, "backend3": 15})
	stop2()
	stop3()
	closeAccount(t, account)
}

func TestHungBackendIsTakenOutAndItsFlowsReset(t *testing.T) {
	s, _ := checked(t)
	talks := openTalks(t, s)
	stop2, stop3 := keepTalking(t, talks["backend2"], "backend2"), keepTalking(t, talks["backend3"], "backend3")

	s.Servers[0].Signal(syscall.SIGSTOP)
	v := s.AwaitHealth(0, false)
	if why := v.Services[0].Backends[0].LastError; why == "" {
		t.Error("the view does not say why the backend is down")
	}
	before := s.Stats()
	if _, err := talks["backend1"].Ask(); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the open connection of the hung backend: %v, want %v", err, syscall.ECONNRESET)
	}
	if after := s.Stats(); after.Verdicts["answer_reset"] == before.Verdicts["answer_reset"] {
		t.Error("the reset did not come from XDP")
	}
	wantSpread(t, s, web, 30, map[string]int{"backend2": 15, "backend3": 15})
	stop2()
	stop3()

	s.Servers[0].Signal(syscall.SIGCONT)
	s.AwaitHealth(0, true)
	wantSpread(t, s, web, 30, map[string]int{"backend1": 10, "backend2": 10, "backend3": 10})
}

func TestNoBackendIsAnsweredAtOnce(t *testing.T) {
	s := newStage(t, testenv.RigOptions{})
	drained := s.BackendList(8080, 0, 0, 0)
	s.Configure(`
interfaces: %s
services:
  - {name: web, listen: %s:80, backends: %s}
  - {name: echo, listen: %s:80, protocol: udp, backends: %s}
`, s.Links(), vip, drained, vip, drained)
	s.Loader("attach").OK(t)
	account := s.Account()
	wantRefused(t, s)
	sums := account.Close()
	if v := s.Stats().Verdicts; v["answer_reset"] != 1 || v["answer_unreachable"] != 1 || sums.Verdicts != 2 {
		t.Errorf("a SYN and a datagram made %+v, %v", sums, v)
	}
}

func TestAllBackendsDownIsAnsweredAtOnce(t *testing.T) {
	s, agent := checked(t)
	for i, p := range s.Servers {
		p.Stop(syscall.SIGKILL)
		s.AwaitHealth(i, false)
	}
	if _, err := s.Dial(0, vip+":80"); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("connect: %v, want %v", err, syscall.ECONNREFUSED)
	}
	// What was known survives the agent.
	if code := agent.Stop(syscall.SIGTERM); code != 0 {
		t.Errorf("agent ended with status %d", code)
	}
	if _, err := s.Dial(0, vip+":80"); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("connect without an agent: %v, want %v", err, syscall.ECONNREFUSED)
	}
	if out := s.Loader("status").OK(t); !strings.Contains(out, "health frozen since") {
		t.Errorf("loader status says nothing of frozen health:\n%s", out)
	}
}

// wantRefused asserts that TCP and UDP are refused by an answer.
func wantRefused(t *testing.T, s *stage.Stage) {
	t.Helper()
	if _, err := s.Dial(0, vip+":80"); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("TCP: %v, want %v", err, syscall.ECONNREFUSED)
	}
	if _, _, err := s.Echo(0, 0, fmt.Sprintf("%s:80", vip), "hello"); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("UDP: %v, want %v", err, syscall.ECONNREFUSED)
	}
}
