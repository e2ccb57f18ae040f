package daemon

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"fairlead/client"
	"fairlead/testenv"
	"fairlead/testenv/testvault"
	"fairlead/userspace/admin/adminpb"
)

// supervisedAtVault starts an agent that has its state at a server.
func supervisedAtVault(t *testing.T, url, tokenFile string) *supervisor {
	t.Helper()
	config := fmt.Sprintf("addresses: leave\nvault: {address: %q, token-file: %s}\n", url, tokenFile)
	return supervisedWith(t, 5*time.Second, config, func(o *Options) { o.StateDir = "vault:secret/fairlead" })
}

// weigh changes the weight of the one backend of service tcp.
func (s *supervisor) weigh(ctx context.Context, c *client.Client, weight uint32) (revision uint64, err error) {
	made, err := c.SetWeight(ctx, &adminpb.SetWeightRequest{Pool: "tcp", Backend: s.greeter, Weight: &weight})
	return made.GetRevision(), err
}

// history returns the weights that revisions have set, by their numbers.
func (s *supervisor) history(c *client.Client) map[uint64]uint32 {
	s.t.Helper()
	weights := map[uint64]uint32{}
	for before := uint64(0); before != 1; {
		list, err := c.ListHistory(s.t.Context(), &adminpb.ListHistoryRequest{Before: before, Limit: 100})
		if err != nil {
			s.t.Fatal(err)
		}
		for _, r := range list.GetRevisions() {
			before = r.GetRevision()
			weights[before] = 0
			for _, e := range r.GetEdits() {
				weights[before] = e.GetWeight()
			}
		}
	}
	return weights
}

// A writer changes weights, one after the other, until it is stopped.
type writer struct {
	made     map[uint64]uint32 // by the revisions that were answered
	last     uint64            // of them
	n        atomic.Int64      // how many they are
	refused  map[string]int    // by what was answered
	stop     context.CancelFunc
	finished chan struct{}
}

// write starts a writer. An answer that is lost says nothing, so it goes on then.
func (s *supervisor) write() *writer {
	ctx, stop := context.WithCancel(s.t.Context())
	w := &writer{made: map[uint64]uint32{}, refused: map[string]int{}, stop: stop, finished: make(chan struct{})}
	c := calls(s.t, s.opts.RunDir)
	go func() {
		defer close(w.finished)
		for weight := uint32(1); ctx.Err() == nil; weight = weight%1000 + 1 {
			n, err := s.weigh(context.WithoutCancel(ctx), c, weight)
			if err != nil {
				w.refused[err.Error()]++
				continue
			}
			if w.made[n] != 0 || n <= w.last {
				s.t.Errorf("revision %d comes after %d", n, w.last)
			}
			w.made[n], w.last = weight, n
			w.n.Add(1)
		}
	}()
	return w
}

// end stops a writer and checks that all is kept that was answered.
func (w *writer) end(s *supervisor) {
	s.t.Helper()
	w.stop()
	<-w.finished
	kept := s.history(calls(s.t, s.opts.RunDir))
	for n, weight := range w.made {
		if kept[n] != weight {
			s.t.Errorf("revision %d has weight %d, was answered for %d", n, kept[n], weight)
		}
	}
	s.t.Logf("%d changes, refused: %v", len(w.made), w.refused)
}

// await waits until five more changes are made.
func (w *writer) await(s *supervisor) {
	s.t.Helper()
	enough := w.n.Load() + 5
	testenv.Await(s.t, "five more changes", func() bool { return w.n.Load() >= enough })
}

// TestSuccessorsTakeAStateInVaultOver has one process after the other take over while
// somebody changes weights.
func TestSuccessorsTakeAStateInVaultOver(t *testing.T) {
	testvault.OnAny(t, vaultTakenOver)
}

func vaultTakenOver(t *testing.T, url, tokenFile string) {
	s := supervisedAtVault(t, url, tokenFile)
	w := s.write()
	for range 4 {
		w.await(s)
		if status := s.awaitEnd(s.reload()); status.ExitStatus() != 0 {
			t.Errorf("the process before ended with status %d", status.ExitStatus())
		}
	}
	w.await(s)
	w.end(s)
	for _, words := range []string{"taken over from", "has taken over", "the state again", "level=ERROR"} {
		if strings.Contains(s.logged(), words) {
			t.Errorf("logged %q", words)
		}
	}
	s.stop()
}

// TestAStateInVaultStaysWithoutASuccessor has successors fail before and after they
// have the state, or their predecessor.
func TestAStateInVaultStaysWithoutASuccessor(t *testing.T) {
	server := testvault.New(t)
	s := supervisedAtVault(t, server.URL, server.TokenFile)
	weight, failed, last := uint32(1), 0, uint64(0)
	changed := func(when string) {
		t.Helper()
		n, err := s.weigh(t.Context(), calls(t, s.opts.RunDir), weight)
		if err != nil || last != 0 && n != last+1 {
			t.Fatalf("%s: revision %d after %d, %v", when, n, last, err)
		}
		weight, last = weight+1, n
	}
	changed("at first")
	for _, row := range []struct {
		name  string
		spoil func()
	}{
		{"killed before its turn", func() { s.crash("self", stepPrepared) }},
		{"killed before it has the state", func() { s.crash("self", stepTurn) }},
		{"fails when it has the state", func() {
			s.configure(s.good + "  - {name: away, listen: '192.0.2.1:80', backends: [{address: '127.0.0.1:1'}]}\n")
		}},
	} {
		row.spoil()
		s.signal(syscall.SIGUSR2)
		failed = s.awaitLog("no successor, this process goes on", failed)
		s.configure(s.good)
		s.crash("", "")
		changed(row.name)
	}
	server.Fail(func(_, _ string) testvault.Fate { return testvault.Cut })
	s.signal(syscall.SIGUSR2)
	s.awaitLog("no successor, this process goes on", failed)
	if _, err := s.weigh(t.Context(), calls(t, s.opts.RunDir), 1000); err == nil || !strings.Contains(err.Error(), "read secret/fairlead/head of vault: ") {
		t.Errorf("a change without the server: %v", err)
	}
	server.Fail(nil)
	changed("the server is back")
	for _, step := range []string{stepPrepared, stepTurn} {
		was := s.pid()
		s.crash("parent", step)
		s.signal(syscall.SIGUSR2)
		s.awaitEnd(was)
		s.awaitSuccessor(was)
		s.crash("", "")
		changed("parent killed at " + step)
		s.restart()
		changed("restarted")
	}
}
