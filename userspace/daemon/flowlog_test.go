package daemon

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"fairlead/loader"
	"fairlead/testenv/stage"
	"fairlead/userspace/datapath"
	"fairlead/userspace/model"
)

// flowsIn returns what a flow log tells of clients, by their addresses.
func flowsIn(t *testing.T, name string) map[string][]string {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]string{}
	for line := range strings.Lines(string(data)) {
		var e datapath.FlowEvent
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		all[e.Client.String()] = append(all[e.Client.String()], fmt.Sprint(e.Event, " ", e.Service, " ", e.Protocol, " ", e.Backend))
	}
	return all
}

// TestFlowsOfTheKernelAreLogged: each connection of clients once, at its beginning and
// at its end.
func TestFlowsOfTheKernelAreLogged(t *testing.T) {
	b := newBench(t, 2)
	dir := t.TempDir()
	own, name := filepath.Join(dir, "agents"), filepath.Join(dir, "flows")
	b.configure("flow-log: {file: "+own+", sample: 1000000}\n", b.interfaces(), "services:\n", b.service("web", "tcp", 80))
	b.greetAll()
	b.start()
	b.seen("backends to be up", up(true, true))
	before, at := b.opened(80)
	looks := make(chan struct{}, 1000)
	l := newFlowLog(func(f func(*loader.Maps) error) error {
		defer func() { looks <- struct{}{} }()
		return onInstance(b.opts.PinDir, f)
	}, 20*time.Millisecond, slog.New(slog.DiscardHandler))
	keep, err := l.prepare(model.FlowLog{File: name, Sample: 1})
	if keep(true); err != nil {
		t.Fatal(err)
	}
	defer l.close()
	<-looks // what is there has begun before
	of := func(at int) string { return fmt.Sprintf(" web tcp %s:8080", b.BackendAddrs[at]) }
	open, want := []net.Conn{before}, map[string][]string{before.LocalAddr().String(): {"end" + of(at)}}
	for range 4 {
		c, at := b.opened(80)
		open = append(open, c)
		want[c.LocalAddr().String()] = []string{"begin" + of(at), "end" + of(at)}
	}
	stage.Await(t, "beginnings", func() error {
		if got := flowsIn(t, name); len(got) != 4 {
			return fmt.Errorf("%v", got)
		}
		return nil
	})
	for _, c := range open {
		c.Close()
	}
	stage.Await(t, "ends", func() error {
		got := flowsIn(t, name)
		for client, events := range want {
			if !slices.Equal(got[client], events) {
				return fmt.Errorf("%s: %q, want %q", client, got[client], events)
			}
		}
		return nil
	})
	if _, err := os.Stat(own); err != nil {
		t.Error(errors.Join(errors.New("the agent has no flow log"), err))
	}
}
