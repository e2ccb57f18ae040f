package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"fairlead/testenv"
	"fairlead/userspace/control"
)

// TestWhateverAddsABackendProbesIt has each way to add one meet a port where nobody
// listens.
func TestWhateverAddsABackendProbesIt(t *testing.T) {
	const dead = "127.0.0.1:1"
	a, _ := page(t, "a")
	c := controlAgent(t, oneSite(a, "127.0.0.1:2")) // which is down, and was there before
	whole := func(pools string) control.Edit {
		return control.Edit{Op: control.OpApply, Spec: "xdp: off\n" + oneSite(a, "127.0.0.1:2") + pools}
	}
	pool := func(backends string) control.Edit {
		return control.Edit{Op: control.OpPutPool, Pool: "other", Spec: "{backends: [" + backends + "]}", New: true}
	}
	for _, row := range []struct {
		name string
		edit control.Edit
		want string
	}{
		{"a backend", about(control.OpAddBackend, "main", dead), `backend 127.0.0.1:1 of "main"`},
		{"all of a pool", control.Edit{Op: control.OpSetBackends, Pool: "main", Backends: []string{a, dead}}, `backend 127.0.0.1:1 of "main"`},
		{"a pool", pool("{address: '127.0.0.1:1'}"), `backend 127.0.0.1:1 of "other"`},
		{"a pool of two", pool("{address: '127.0.0.1:1'}, {address: '127.0.0.1:3'}"), `backend 127.0.0.1:3 of "other"`},
		{
			"a service", control.Edit{Op: control.OpPutService, Service: "raw", New: true, Spec: fmt.Sprintf("{listen: '%s', forward: proxy, backends: [{address: '127.0.0.1:1'}]}", testenv.FreeAddress(t))},
			`backend 127.0.0.1:1 of "raw"`,
		},
		{"a whole configuration", whole("  other: {backends: [{address: '127.0.0.1:1'}]}\n"), `backend 127.0.0.1:1 of "other"`},
	} {
		t.Run(row.name, func(t *testing.T) {
			before := c.exported()
			r := control.Request{Who: "test", Edits: []control.Edit{row.edit}}
			_, err := c.Change(t.Context(), r)
			if !errors.Is(err, control.ErrUnhealthy) || !strings.Contains(err.Error(), row.want) || strings.Contains(err.Error(), "127.0.0.1:2 ") {
				t.Errorf("error %v, want %s", err, row.want)
			}
			if after := c.exported(); after != before {
				t.Errorf("what was refused is there:\n%s", after)
			}
			r.Force = true
			if _, err := c.Change(t.Context(), r); err != nil {
				t.Error("forced:", err)
			}
			if _, err := c.Rollback(t.Context(), 1, control.Request{Who: "test"}); err != nil {
				t.Error("a rollback asks nobody:", err)
			}
		})
	}
	if _, err := c.Change(t.Context(), control.Request{Edits: []control.Edit{whole("")}}); err != nil {
		t.Error("nobody is new:", err)
	}
}

// TestNewBackendsAreProbedSideBySide has them all be silent until the check gives up.
func TestNewBackendsAreProbedSideBySide(t *testing.T) {
	const count = 30
	a, _ := page(t, "a")
	c := controlAgent(t, oneSite(a))
	var all []string
	for range count {
		silent := httpServer(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		all = append(all, fmt.Sprintf("{address: %q}", silent))
	}
	start := time.Now()
	_, err := c.Change(t.Context(), control.Request{Edits: []control.Edit{
		{Op: control.OpPutPool, Pool: "slow", Spec: "{backends: [" + strings.Join(all, ", ") + "], health: {type: http, interval: 1s, timeout: 1s}}"},
	}})
	if took := time.Since(start); !errors.Is(err, control.ErrUnhealthy) || took > count*time.Second/2 {
		t.Errorf("%v after %v", err, took)
	}
	if err == nil || strings.Count(err.Error(), "backend 127.0.0.1:") != faultsTold || !strings.Contains(err.Error(), "20 more") {
		t.Errorf("%v; want %d backends and how many more", err, faultsTold)
	}
}

// TestNobodyPlansForAnAgentThatHasEnded has it say so, and not wait.
func TestNobodyPlansForAnAgentThatHasEnded(t *testing.T) {
	a, _ := page(t, "a")
	c := controlAgent(t, oneSite(a))
	ended := c.Plane
	c.restart()
	ctx, stop := context.WithTimeout(t.Context(), 10*time.Second)
	defer stop()
	edits := []control.Edit{{Op: control.OpSetWeight, Pool: "main", Backend: a, Weight: new(5)}}
	if _, err := ended.Plan(ctx, control.Request{Edits: edits}); !errors.Is(err, control.ErrUnavailable) || ctx.Err() != nil {
		t.Errorf("error %v, %v", err, ctx.Err())
	}
}
