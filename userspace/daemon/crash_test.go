package daemon

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"fairlead/userspace/control"
)

// TestACrashLeavesTheOldConfigurationOrTheNewOne kills the agent at the steps of a
// change, one after the other, and looks at what the next one has.
func TestACrashLeavesTheOldConfigurationOrTheNewOne(t *testing.T) {
	b := newBench(t, 3)
	b.greetAll()
	// Nobody probes, so that all steps are those of the change.
	unchecked := strings.NewReplacer("health: {type: tcp, interval: 200ms, timeout: 200ms, rise: 1, fall: 2}", "health: {type: none}")
	b.configure(b.interfaces(), "services:\n", unchecked.Replace(b.service("web", "tcp", 80)), unchecked.Replace(b.service("db", "tcp", 81)))
	backend := func(i int) string { return fmt.Sprintf("%s:8080", b.BackendAddrs[i]) }
	light := []control.Edit{setWeight("web", backend(0), 7), about(control.OpRemoveBackend, "web", backend(2)), setWeight("db", backend(1), 9)}
	heavy := append([]control.Edit{
		{Op: control.OpRemoveService, Service: "db"},
		{Op: control.OpPutService, Service: "new", Spec: fmt.Sprintf("{listen: '203.0.113.11:82', backends: [{address: '%s'}]}", backend(1))},
	}, light[:2]...)
	text, err := os.ReadFile(b.opts.Config)
	if err != nil {
		t.Fatal(err)
	}
	whole := []control.Edit{{Op: control.OpApply, Spec: strings.Replace(strings.Replace(string(text), "name: db", "name: new", 1), "8080'}", "8080', weight: 7}", 1)}}
	step := 13
	if os.Getenv("FAIRLEAD_SLOW") != "" {
		step = 1
	}
	for name, edits := range map[string][]control.Edit{"light": light, "heavy": heavy, "whole": whole} {
		t.Run(name, func(t *testing.T) {
			inner := *b
			inner.t = t
			seen := map[uint64]int{}
			for k, over := 1, false; !over; k += step {
				over = inner.crash(k, edits, seen)
			}
			t.Logf("the old configuration %d times, the new one %d times", seen[1], seen[2])
			if seen[1] == 0 || seen[2] == 0 {
				t.Error("only one of the two was ever there")
			}
		})
	}
}

// crash has an agent die at the k-th step of a change, starts it again, and notes
// which revision it has. It reports whether the change had fewer steps.
func (b *bench) crash(k int, edits []control.Edit, seen map[uint64]int) (over bool) {
	b.t.Helper()
	b.opts.StateDir = b.t.TempDir()
	b.start()
	before := b.remote().exported(b.t)
	b.stop()
	b.t.Setenv(crashAt, fmt.Sprint(k))
	b.start()
	_, err := b.remote().do(call{Request: control.Request{Edits: edits, Force: true}})
	if over = err == nil; over {
		b.kill()
	} else {
		_ = b.cmd.Wait() // says that it was killed
	}
	os.Unsetenv(crashAt)
	b.start()
	defer b.stop()
	res, err := b.remote().do(call{Export: true})
	if err != nil {
		b.t.Fatal(err)
	}
	seen[res.Revision.Number]++
	if old := res.Revision.Number == 1; old != (res.Export == before) || old == strings.Contains(res.Export, "weight: 7") {
		b.t.Errorf("step %d: revision %d exports\n%s", k, res.Revision.Number, res.Export)
	}
	if over && res.Revision.Number != 2 {
		b.t.Errorf("revision %d after an answer", res.Revision.Number)
	}
	b.wantKernel(res.Export, &storm{})
	return over
}
