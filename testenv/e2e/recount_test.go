package e2e

import (
	"fmt"
	"testing"

	"fairlead/loader"
	"fairlead/testenv"
	"fairlead/testenv/stage"
	"fairlead/userspace/datapath"
)

// TestConnectionsAreCountedAfterAKill kills the agent while connections come and
// go, and some stay. What an agent leaves that had freed flows and not counted them
// yet, the next one puts right.
func TestConnectionsAreCountedAfterAKill(t *testing.T) {
	s := newStage(t, testenv.RigOptions{})
	s.Configure(`
interfaces: %s
services:
  - {name: web, listen: %s:80, balance: least-connections, backends: %s, health: {type: none}}
`, s.Links(), vip, s.BackendList(8080))
	agent := s.StartAgent()
	inst, err := loader.Open(s.PinDir)
	if err != nil {
		t.Fatal(err)
	}
	defer inst.Close()
	var talks []*stage.Talk
	for range slow(3, 20) {
		stop := keepAsking(t, s)
		for range 10 {
			talk, err := s.Dial(0, vip+":80")
			if err == nil {
				_, err = talk.Ask() // or the server gives it up before long
			}
			if err != nil {
				t.Fatal(err)
			}
			talks = append(talks, talk)
		}
		agent.Kill()
		miscount(t, inst.Maps())
		stop()
		agent = s.StartAgent()
		wantRecounted(t, inst.Maps(), len(talks))
	}
	for _, talk := range talks {
		if _, err := talk.Ask(); err != nil {
			t.Errorf("a connection has ended: %v", err)
		}
	}
}

// miscount leaves what an agent leaves that is killed between freeing flows and
// counting them.
func miscount(t *testing.T, maps *loader.Maps) {
	t.Helper()
	rows, err := loader.ReadArray[loader.Connections](maps.BackendConns)
	if err != nil {
		t.Fatal(err)
	}
	for row, c := range rows {
		if c.Gen == 0 {
			continue
		}
		c.Count += 7
		if err := maps.BackendConns.Put(uint32(row), c); err != nil {
			t.Fatal(err)
		}
	}
}

// wantRecounted wants the kernel's counts to be those of the flow table, and n
// connections to be open.
func wantRecounted(t *testing.T, maps *loader.Maps, n int) {
	t.Helper()
	stage.Await(t, "the counts to be right", func() error {
		v, err := datapath.ReadLive(maps)
		if err != nil {
			return err
		}
		sum := 0
		for _, b := range v.Services[0].Backends {
			if int(b.Connections) != *b.Live {
				return fmt.Errorf("%s has %d connections and %d flows", b.Address, b.Connections, *b.Live)
			}
			sum += *b.Live
		}
		if got := int(v.Services[0].Connections); sum != n || got != n {
			return fmt.Errorf("there are %d connections and %d flows, want %d", got, sum, n)
		}
		return nil
	})
}
