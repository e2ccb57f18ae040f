package daemon

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"fairlead/userspace/control"
)

// TestARollbackFromElsewhereReachesNothingNewOfTheHost restores what was in force before.
func TestARollbackFromElsewhereReachesNothingNewOfTheHost(t *testing.T) {
	a, _ := page(t, "a")
	c := controlAgent(t, oneSite(a))
	log := filepath.Join(t.TempDir(), "acc.log")
	c.must(control.Edit{Op: control.OpApply, Spec: "xdp: off\naccess-log: {file: " + log + "}\n" + oneSite(a)})
	c.must(control.Edit{Op: control.OpApply})
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("sesame"), 0o600); err != nil {
		t.Fatal(err)
	}
	c.must(control.Edit{Op: control.OpPutPool, Pool: "spare", Spec: "{backends: [{address: '" + a + "'}], health: {type: http, headers: {X-Auth: 'file:" + token + "'}}}"})
	c.must(control.Edit{Op: control.OpRemovePool, Pool: "spare"})
	c.must(setWeight("main", a, 5))
	if err := os.Remove(log); err != nil {
		t.Fatal(err)
	}
	remote := control.Request{Who: "certificate CN=ops", Remote: true}
	for number, what := range map[uint64]string{2: "change: file: ", 4: "change: headers.X-Auth: "} {
		before := c.exported()
		_, err := c.Rollback(t.Context(), number, remote)
		if !errors.Is(err, control.ErrInvalid) || !strings.HasPrefix(err.Error(), what) || !strings.Contains(err.Error(), "make this change on the host") {
			t.Errorf("rollback to %d: %v, want %s…", number, err, what)
		}
		if c.exported() != before || c.Revision().Number != 6 {
			t.Errorf("revision %d: what was refused is there", c.Revision().Number)
		}
	}
	if _, err := os.Lstat(log); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the log is there: %v", err)
	}
	for _, number := range []uint64{1, 3, 5} { // which name nothing
		if _, err := c.Rollback(t.Context(), number, remote); err != nil {
			t.Errorf("rollback to %d: %v", number, err)
		}
	}
	if _, err := c.Rollback(t.Context(), 2, control.Request{Who: "root"}); err != nil {
		t.Fatalf("on the host: %v", err)
	}
	c.must(setWeight("main", a, 6))
	if _, err := c.Rollback(t.Context(), 2, remote); err != nil {
		t.Errorf("what is in force names it: %v", err)
	}
}
