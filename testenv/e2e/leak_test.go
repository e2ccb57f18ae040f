package e2e

import (
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"fairlead/client"
	"fairlead/testenv"
	"fairlead/testenv/leak"
	"fairlead/testenv/stage"
	"fairlead/userspace/admin/adminpb"
)

// TestTheAgentForgetsWhoHasGone has clients of every kind come and go, and calls and
// readings of the configuration: the agent has as much open afterwards as before, but
// for connections to backends that wait for the next request.
func TestTheAgentForgetsWhoHasGone(t *testing.T) {
	s := newStage(t, testenv.RigOptions{})
	s.Configure(`
interfaces: %s
timeouts: {udp-new: 1s, udp-established: 1s}
services:
  - {name: kernel, listen: '%[2]s:80', backends: %[3]s, health: {type: none}}
  - {name: tcp, listen: '%[2]s:81', forward: proxy, backends: %[3]s, health: {type: none}}
  - {name: http, listen: '%[2]s:82', forward: http, backends: %[3]s, health: {type: none}}
  - {name: udp, listen: '%[2]s:83', protocol: udp, forward: proxy, backends: %[3]s, health: {type: none}}
`, s.Links(), vip, s.BackendList(8080))
	agent := s.StartAgent()
	for port := 80; port < 83; port++ {
		wantNoMore(t, agent, fmt.Sprint("connections to port ", port), 3*8, func() {
			if _, err := s.Spread(0, fmt.Sprintf("http://%s:%d/", vip, port), slow(200, 5000)); err != nil {
				t.Error(err)
			}
		})
	}
	wantNoMore(t, agent, "flows", 5, func() {
		for range slow(50, 1000) {
			if _, _, err := s.Echo(0, 0, vip+":83", "hello"); err != nil {
				t.Fatal(err)
			}
		}
	})
	wantNoMore(t, agent, "calls", 5, func() {
		for range slow(50, 1000) {
			c, err := client.New(filepath.Join(s.RunDir, "admin.sock"), client.TLS{})
			if err != nil {
				t.Fatal(err)
			}
			_, err = c.GetHealth(t.Context(), &adminpb.GetHealthRequest{})
			c.Close()
			if err != nil {
				t.Fatal(err)
			}
		}
	})
	wantNoMore(t, agent, "readings of the configuration", 5, func() {
		for n := range slow(10, 100) {
			agent.Signal(syscall.SIGHUP)
			stage.Await(t, "the configuration to be taken", func() error {
				if got := strings.Count(agent.Output(), "configuration taken"); got <= n {
					return fmt.Errorf("taken %d times", got)
				}
				return nil
			})
		}
	})
	if code := agent.Stop(syscall.SIGTERM); code != 0 {
		t.Errorf("agent ended with status %d", code)
	}
}

// wantNoMore does something to a process, and waits until it has no more open than
// before, but for so much.
func wantNoMore(t *testing.T, p *stage.Process, what string, more int, do func()) {
	t.Helper()
	look := func() leak.Snapshot {
		now, err := leak.Take(p.PID())
		if err != nil {
			t.Fatal(err)
		}
		return now
	}
	before := look()
	do()
	stage.Await(t, what+" to be forgotten", func() error {
		if now := look(); now.Len() > before.Len()+more {
			return fmt.Errorf("%d things are open, %d before", now.Len(), before.Len())
		}
		return nil
	})
}
