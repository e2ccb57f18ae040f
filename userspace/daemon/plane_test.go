package daemon

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"fairlead/userspace/control"
	"fairlead/userspace/state"
	"fairlead/userspace/view"
)

// A controlled agent is a running one that takes changes.
type controlled struct {
	*running
	control.Plane
}

// controlAgent starts an agent that keeps its state in a directory.
func controlAgent(t *testing.T, config string) *controlled {
	t.Helper()
	c := &controlled{}
	c.running = runAgentWith(t, config, func(o *Options) {
		o.StateDir = t.TempDir()
		o.ready = func(p control.Plane) { c.Plane = p }
	})
	return c
}

// restart ends the agent and starts it again.
func (c *controlled) restart() {
	c.t.Helper()
	c.end()
	c.start()
}

// must makes a change that is good, and returns its revision.
func (c *controlled) must(edits ...control.Edit) uint64 {
	c.t.Helper()
	r, err := c.Change(c.t.Context(), control.Request{Who: "test", Edits: edits})
	if err != nil {
		c.t.Fatal(err)
	}
	return r.Number
}

func (c *controlled) exported() string {
	c.t.Helper()
	text, err := c.Export()
	if err != nil {
		c.t.Fatal(err)
	}
	return string(text)
}

// served waits until the first service has these backends, with "=weight" behind each.
func (c *controlled) served(want ...string) {
	c.t.Helper()
	c.await("backends "+strings.Join(want, " "), func(v view.View) bool {
		var got []string
		for _, b := range v.Services[0].Backends {
			got = append(got, fmt.Sprintf("%s=%d", b.Address, b.Weight))
		}
		return cmp.Equal(want, got)
	})
}

func setWeight(pool, backend string, n int) control.Edit {
	return control.Edit{Op: control.OpSetWeight, Pool: pool, Backend: backend, Weight: &n}
}

func about(op control.Op, pool, backend string) control.Edit {
	return control.Edit{Op: op, Pool: pool, Backend: backend}
}

// oneSite is an HTTP service with a pool of some backends, which nobody checks.
func oneSite(backends ...string) string {
	var all []string
	for _, b := range backends {
		all = append(all, fmt.Sprintf("{address: %q}", b))
	}
	return fmt.Sprintf("services:\n  - {name: web, listen: %q, forward: http, routes: [{match: /, pool: main}]}\npools:\n  main: {backends: [%s]}\n", site, strings.Join(all, ", "))
}

func TestChangesAreInForceAndSurviveARestart(t *testing.T) {
	a, _ := page(t, "a")
	b, _ := page(t, "b")
	c := controlAgent(t, oneSite(a))
	if r := c.Revision(); r.Number != 1 || r.Who != "file" {
		t.Errorf("the first revision is %+v", r)
	}
	if n := c.must(about(control.OpAddBackend, "main", b), setWeight("main", a, 0)); n != 2 {
		t.Errorf("revision %d, want 2", n)
	}
	for range 3 {
		if _, body := fetch(t, "/x"); body != "b /x" {
			t.Errorf("answer %q", body)
		}
	}
	c.served(a+"=0", b+"=1")
	before := c.exported()
	c.restart()
	if after := c.exported(); after != before || c.Revision().Number != 2 {
		t.Errorf("revision %d exports\n%s\nwant\n%s", c.Revision().Number, after, before)
	}
	if _, body := fetch(t, "/x"); body != "b /x" {
		t.Errorf("answer %q after a restart", body)
	}
	c.must(about(control.OpDrain, "main", b), setWeight("main", a, 3))
	c.served(a+"=3", b+"=0")
	c.must(about(control.OpUndrain, "main", b), about(control.OpRemoveBackend, "main", a))
	c.served(b + "=1")
}

func TestChangesThatAreRefusedChangeNothing(t *testing.T) {
	a, _ := page(t, "a")
	sick, ill := page(t, "sick")
	ill.Store(true)
	c := controlAgent(t, oneSite(a)+"  other: {backends: [{address: '127.0.0.1:1'}], "+quickHealth+"}\n")
	c.await("a pool that nobody sends to", func(v view.View) bool {
		return len(v.Pools) == 1 && v.Pools[0].Name == "other" && len(v.Pools[0].Backends) == 1 && v.Revision == 1
	})
	before := c.exported()
	for _, row := range []struct {
		name    string
		request control.Request
		want    string
		is      error
	}{
		{"nothing", control.Request{}, "it has no edits", control.ErrInvalid},
		{"no pool", control.Request{Edits: []control.Edit{about(control.OpDrain, "x", a)}}, `pool "x": not found`, control.ErrNotFound},
		{"there already", control.Request{Edits: []control.Edit{about(control.OpAddBackend, "main", a)}}, "already exists", control.ErrExists},
		{"bad weight", control.Request{Edits: []control.Edit{setWeight("main", a, 1001)}}, `change: pools.main.backends[0].weight: "1001" is not a number from 0 to 1000`, control.ErrInvalid},
		{"the last one", control.Request{Edits: []control.Edit{about(control.OpRemoveBackend, "main", a)}}, "no backends", control.ErrInvalid},
		{"half good", control.Request{Edits: []control.Edit{setWeight("main", a, 5), setWeight("main", a, -1)}}, `"-1" is not a number`, control.ErrInvalid},
		{"another revision", control.Request{Expect: 7, Edits: []control.Edit{setWeight("main", a, 5)}}, "revision conflict: revision 1 is in force, not 7", control.ErrConflict},
		{"sick", control.Request{Edits: []control.Edit{about(control.OpAddBackend, "other", sick)}}, "backend " + sick + ` of "other": backend fails its check: status 503`, control.ErrUnhealthy},
		{"a bad whole", control.Request{Edits: []control.Edit{{Op: control.OpApply, Spec: "xdp: off\nservices: 1\n"}}}, "the configuration applied:2:11: services:", control.ErrInvalid},
		{"another mode", control.Request{Edits: []control.Edit{{Op: control.OpApply, Spec: "xdp: generic\nservices: []\n"}}}, "restart the agent", errRestart},
		{"another mode, which is the caller's fault", control.Request{Edits: []control.Edit{{Op: control.OpApply, Spec: "xdp: generic\nservices: []\n"}}}, "restart the agent", control.ErrRefused},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, err := c.Change(t.Context(), row.request)
			if err == nil || !strings.Contains(err.Error(), row.want) || !errors.Is(err, row.is) {
				t.Errorf("error %v, want %q", err, row.want)
			}
			if errors.Is(row.is, control.ErrUnhealthy) || len(row.request.Edits) == 0 {
				return // a plan probes nobody, and may be of nothing
			}
			if _, err := c.Plan(t.Context(), row.request); err == nil || !strings.Contains(err.Error(), row.want) || !errors.Is(err, row.is) {
				t.Errorf("a plan's error %v, want %q", err, row.want)
			}
		})
	}
	if after := c.exported(); after != before || c.Revision().Number != 1 {
		t.Errorf("revision %d exports\n%s\nwant\n%s", c.Revision().Number, after, before)
	}
	if _, err := c.Change(t.Context(), control.Request{Force: true, Expect: 1, Edits: []control.Edit{about(control.OpAddBackend, "other", sick)}}); err != nil {
		t.Error("forced:", err)
	}
	ill.Store(false)
	c.must(about(control.OpRemoveBackend, "other", sick))
	c.must(about(control.OpAddBackend, "other", sick))
	if after, _ := c.Export(); !strings.Contains(string(after), sick) || c.Revision().Number != 4 {
		t.Errorf("revision %d exports\n%s", c.Revision().Number, after)
	}
}

func TestARollbackRestoresAnIdenticalExport(t *testing.T) {
	a, _ := page(t, "a")
	b, _ := page(t, "b")
	d, _ := page(t, "d")
	c := controlAgent(t, oneSite(a, b))
	exports := map[uint64]string{1: c.exported()}
	note := func() { exports[c.Revision().Number] = c.exported() }
	c.must(setWeight("main", a, 5))
	note()
	c.must(about(control.OpAddBackend, "main", d), about(control.OpRemoveBackend, "main", b))
	note()
	c.reload(oneSite(d, b) + "flow-table: 2048\n") // which lacks what edits are about
	await(t, "the file's revision", func() bool { return c.Revision().Number == 4 })
	note()
	c.must(control.Edit{Op: control.OpApply, Spec: "xdp: off\n" + oneSite(b)})
	note()
	c.must(setWeight("main", b, 9))
	note()
	c.must(control.Edit{Op: control.OpApply})
	note()
	if exports[7] == exports[4] || exports[3] == exports[4] || !strings.Contains(exports[7], "2048") {
		t.Fatalf("revisions 3, 4 and 7 are\n%s\n%s\n%s", exports[3], exports[4], exports[7])
	}
	for _, restart := range []bool{false, true} {
		for n := uint64(1); n <= 7; n++ {
			r, err := c.Rollback(t.Context(), n, control.Request{Who: "me"})
			if err != nil {
				t.Fatal(err)
			}
			if restart {
				c.restart()
			}
			if got := c.exported(); got != exports[n] || r.Rollback != n || c.Revision().Number != r.Number {
				t.Errorf("revision %d, which restores %d, exports\n%s\nwant\n%s", r.Number, n, got, exports[n])
			}
		}
	}
	if _, err := c.Rollback(t.Context(), 99, control.Request{}); !errors.Is(err, control.ErrNotFound) {
		t.Errorf("no such revision: %v", err)
	}
	if _, body := fetch(t, "/x"); body == "" {
		t.Error("nobody serves")
	}
}

func TestTheHistoryHasWhoAndWhat(t *testing.T) {
	a, _ := page(t, "a")
	c := controlAgent(t, oneSite(a))
	for i := range 5 {
		c.must(setWeight("main", a, i+2))
	}
	all, err := c.History(0, 3)
	if err != nil || len(all) != 3 {
		t.Fatal(all, err)
	}
	if r := all[0]; r.Number != 6 || r.Who != "test" || len(r.Edits) != 1 || !strings.Contains(r.Difference, "weight: 6") || !strings.Contains(r.Difference, "\n-") {
		t.Errorf("the newest is %+v", r)
	}
	all, err = c.History(3, 10)
	if err != nil || len(all) != 2 || all[1].Number != 1 || all[1].Who != "file" || all[1].Difference != "" || all[0].Difference == "" {
		t.Errorf("before 3: %+v, %v", all, err)
	}
	if all, err := c.History(1, 10); len(all) > 0 || err != nil {
		t.Errorf("before all: %+v, %v", all, err)
	}
	difference, err := c.Plan(t.Context(), control.Request{Edits: []control.Edit{setWeight("main", a, 77)}})
	if err != nil || !strings.Contains(difference, "weight: 77") || c.Revision().Number != 6 {
		t.Errorf("plan %s, %v", difference, err)
	}
	if difference, err := c.Plan(t.Context(), control.Request{Edits: []control.Edit{setWeight("main", a, 6)}}); difference != "" || err != nil {
		t.Errorf("plan of nothing new %s, %v", difference, err)
	}
}

// TestTheLogSaysWhatWasSet and not only of whom.
func TestTheLogSaysWhatWasSet(t *testing.T) {
	for want, edit := range map[string]control.Edit{
		"set-weight web 10.0.0.1:80 3":             setWeight("web", "10.0.0.1:80", 3),
		"set-backends web 10.0.0.1:80,10.0.0.2:80": {Op: control.OpSetBackends, Pool: "web", Backends: []string{"10.0.0.1:80", "10.0.0.2:80"}},
		"drain web 10.0.0.1:80":                    about(control.OpDrain, "web", "10.0.0.1:80"),
		"put-route site / main":                    {Op: control.OpPutRoute, Service: "site", Match: "/", Pool: "main", Spec: "{}"},
	} {
		if got := changeText(&control.Revision{Edits: []control.Edit{edit}}); got != want {
			t.Errorf("the log says %q of what is %q", got, want)
		}
	}
}

func TestTheHistoryHasNoSecretsOfEdits(t *testing.T) {
	a, _ := page(t, "a")
	c := controlAgent(t, oneSite(a))
	c.must(control.Edit{Op: control.OpPutPool, Pool: "spare", Spec: fmt.Sprintf("{backends: [{address: %q}], health: {type: http, headers: {Authorization: Bearer sesame}}}", a)})
	c.must(control.Edit{Op: control.OpApply, Spec: "xdp: off\n" + oneSite(a) + fmt.Sprintf("  other: {backends: [{address: %q}], health: {type: http, headers: {X-Auth: sesame}}}\n", a)})
	look := func(when string) {
		t.Helper()
		all, err := c.History(0, 10)
		if err != nil || len(all) != 3 {
			t.Fatal(all, err)
		}
		for _, r := range append(all, c.Revision()) {
			if text := fmt.Sprintf("%+v", r); strings.Contains(text, "sesame") {
				t.Errorf("%s revision %d shows a secret: %s", when, r.Number, text)
			}
		}
		if !strings.Contains(all[1].Edits[0].Spec, "Authorization: (secret)") {
			t.Errorf("%s the edit is %+v", when, all[1].Edits[0])
		}
	}
	look("running:")
	c.restart()
	look("restarted:")
	if !strings.Contains(c.exported(), "sesame") {
		t.Error("the configuration in force lost its secret")
	}
}

// TestWhatWasAppliedIsKeptOnce: in the file it is the document, and the history says it
// as ever.
func TestWhatWasAppliedIsKeptOnce(t *testing.T) {
	a, _ := page(t, "a")
	c := controlAgent(t, oneSite(a))
	c.must(control.Edit{Op: control.OpApply, Spec: "xdp: off # whose comments nobody keeps\n" + oneSite(a) + "  spare: {backends: [{address: '127.0.0.1:1'}], health: {type: none}}\n"})
	c.must(setWeight("main", a, 3))
	c.restart()
	all, err := c.History(0, 2)
	if err != nil || len(all) != 2 || len(all[1].Edits) != 1 || !strings.Contains(all[1].Edits[0].Spec, "spare:") || !strings.Contains(all[1].Difference, "spare:") {
		t.Errorf("the history is %+v, %v", all, err)
	}
	c.end()
	defer c.start() // which the test's end waits for
	f, broken, err := state.OpenFile(c.opts.StateDir)
	if broken != nil || err != nil {
		t.Fatal(broken, err)
	}
	defer f.Close()
	entries, err := f.Entries(t.Context(), 1, 3)
	if err != nil || len(entries) != 3 {
		t.Fatal(entries, err)
	}
	if text := fmt.Sprintf("%+v", entries); strings.Contains(text, "spare") {
		t.Errorf("the entries have a copy of the document: %s", text)
	}
}

// TestWhoHasChangedSomethingSeesIt asks at once after each change.
func TestWhoHasChangedSomethingSeesIt(t *testing.T) {
	a, _ := page(t, "a")
	c := controlAgent(t, oneSite(a))
	for i := range 100 {
		c.must(setWeight("main", a, 2+i))
		if b := c.Now(t.Context()).Services[0].Backends[0]; b.Weight != 2+i {
			t.Fatalf("weight %d after a change to %d", b.Weight, 2+i)
		}
	}
}

// TestWhatChangesNothingIsNoRevision asks for everything twice.
func TestWhatChangesNothingIsNoRevision(t *testing.T) {
	a, _ := page(t, "a")
	b, _ := page(t, "b")
	c := controlAgent(t, oneSite(a))
	document := control.Edit{Op: control.OpApply, Spec: "xdp: off\n" + oneSite(b)}
	want := uint64(1)
	for _, row := range []struct {
		name   string
		edits  []control.Edit
		change bool
	}{
		{"undrain of who takes part", []control.Edit{about(control.OpUndrain, "main", a)}, false},
		{"weight", []control.Edit{setWeight("main", a, 5)}, true},
		{"the same weight", []control.Edit{setWeight("main", a, 5)}, false},
		{"drain", []control.Edit{about(control.OpDrain, "main", a)}, true},
		{"drain again, and the same weight", []control.Edit{about(control.OpDrain, "main", a), setWeight("main", a, 5)}, false},
		{"one of two", []control.Edit{about(control.OpDrain, "main", a), setWeight("main", a, 6)}, true},
		{"backends", []control.Edit{{Op: control.OpSetBackends, Pool: "main", Backends: []string{a, b}}}, true},
		{"the same backends", []control.Edit{{Op: control.OpSetBackends, Pool: "main", Backends: []string{a, b}}}, false},
		{"a weight of one of them", []control.Edit{setWeight("main", a, 7)}, true},
		{"the same backends, which keep their weights", []control.Edit{{Op: control.OpSetBackends, Pool: "main", Backends: []string{a, b}}}, false},
		{"a document", []control.Edit{document}, true},
		{"the same document", []control.Edit{document}, false},
		{"reset", []control.Edit{{Op: control.OpApply}}, true},
		{"reset again", []control.Edit{{Op: control.OpApply}}, false},
	} {
		if row.change {
			want++
		}
		if got := c.must(row.edits...); got != want || c.Revision().Number != want {
			t.Errorf("%s: revision %d, and %d in force, want %d", row.name, got, c.Revision().Number, want)
		}
	}
	if r, err := c.Rollback(t.Context(), want, control.Request{Who: "test"}); r.Number != want || err != nil {
		t.Errorf("rollback to what is in force: revision %d, error %v", r.Number, err)
	}
	if _, err := c.Change(t.Context(), control.Request{Who: "test", Expect: 1, Edits: []control.Edit{document}}); !errors.Is(err, control.ErrConflict) {
		t.Errorf("error %v, want a conflict", err)
	}
}
