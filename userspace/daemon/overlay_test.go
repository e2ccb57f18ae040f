package daemon

import (
	"bytes"
	"log/slog"
	"net"
	"strings"
	"testing"

	"fairlead/testenv"
	"fairlead/userspace/config"
	"fairlead/userspace/control"
	"fairlead/userspace/view"
)

func TestTheViewTellsWhatStandsOnTop(t *testing.T) {
	a, _ := page(t, "a")
	c := controlAgent(t, oneSite(a))
	c.await("the file alone", func(v view.View) bool { return !v.Applied && v.Edits == 0 })
	c.must(setWeight("main", a, 3))
	c.await("a change on top", func(v view.View) bool { return !v.Applied && v.Edits == 1 })
	c.must(control.Edit{Op: control.OpApply, Spec: "xdp: off\n" + strings.Replace(oneSite(a), "web", "shop", 1)})
	c.await("another one in its place", func(v view.View) bool { return v.Applied && v.Edits == 0 && v.Revision == 3 })
}

// TestAnotherCommandLineStartsAnew has flags in the place of a file.
func TestAnotherCommandLineStartsAnew(t *testing.T) {
	_, port, _ := net.SplitHostPort(testenv.FreeAddress(t))
	servers := func(all string) *config.Quick {
		return &config.Quick{Port: config.Given{Text: port, From: "--port"}, Servers: []config.Given{{Text: all, From: "--servers"}}}
	}
	c := &controlled{}
	c.running = runAgentWith(t, "", func(o *Options) {
		o.StateDir, o.Quick = t.TempDir(), servers("127.0.0.1:1")
		o.ready = func(p control.Plane) { c.Plane = p }
	})
	edit := control.Edit{Op: control.OpSetBackends, Service: "quick", Backends: []string{"127.0.0.1:2"}}
	if _, err := c.Change(t.Context(), control.Request{Who: "test", Edits: []control.Edit{edit}, Force: true}); err != nil { // nobody listens there
		t.Fatal(err)
	}
	c.restart()
	if text := c.exported(); !strings.Contains(text, "127.0.0.1:2") {
		t.Errorf("the same command line has lost the change:\n%s", text)
	}
	c.opts.Quick = servers("127.0.0.1:3")
	c.restart()
	if text := c.exported(); !strings.Contains(text, "127.0.0.1:3") || strings.Contains(text, "127.0.0.1:2") {
		t.Errorf("another command line does not count:\n%s", text)
	}
	if r := c.Revision(); r.Number != 3 || r.Who != "file" {
		t.Errorf("revision %+v, want the third, of the file", r)
	}
	if _, err := c.Rollback(t.Context(), 2, control.Request{Who: "test"}); err != nil {
		t.Fatal(err)
	}
	if text := c.exported(); !strings.Contains(text, "127.0.0.1:2") {
		t.Errorf("a rollback does not bring the change back:\n%s", text)
	}
}

func TestAnAgentThatKeepsNothingSaysSo(t *testing.T) {
	var log bytes.Buffer
	r := runAgentWith(t, "services: []\n", func(o *Options) { o.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	r.end()
	if !strings.Contains(log.String(), `msg="changes of the API end with the process" state-dir=off`) {
		t.Errorf("the log says\n%s", &log)
	}
	r.start() // it ends with the test
}
