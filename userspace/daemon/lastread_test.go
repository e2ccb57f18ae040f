package daemon

import (
	"errors"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"fairlead/testenv/stage"
	"fairlead/userspace/control"
	"fairlead/userspace/view"
)

// TestAFileOfASecretIsGone has a change go on that has nothing to do with it, and a
// silent backend go.
func TestAFileOfASecretIsGone(t *testing.T) {
	a, _ := page(t, "a")
	b, _ := page(t, "b")
	dir, log := t.TempDir(), &stage.Output{}
	token, none := filepath.Join(dir, "token"), filepath.Join(dir, "none")
	if err := os.WriteFile(token, []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	text := oneSite(b) + "registration: {listen: " + registerAt + ", tokens: [{token: \"file:" + token + "\", pool: main}]}\n"
	c := &controlled{}
	c.running = runAgentWith(t, text, func(o *Options) {
		o.StateDir, o.Log = t.TempDir(), slog.New(slog.NewTextHandler(log, nil))
		o.ready = func(p control.Plane) { c.Plane = p }
	})
	if status := registerOnce(t, secret, a, 1); status != http.StatusCreated {
		t.Fatalf("status %d", status)
	}
	if err := os.Remove(token); err != nil {
		t.Fatal(err)
	}
	c.must(about(control.OpDrain, "main", b))
	c.served(b + "=0")
	c.must(control.Edit{Op: control.OpApply, Spec: "xdp: off\n" + strings.Replace(text, "web", "shop", 1)})
	if status := registerOnce(t, secret, a, 60); status != http.StatusCreated {
		t.Errorf("with the token of before: status %d", status)
	}
	before := c.Revision().Number
	edit := control.Edit{Op: control.OpPutPool, Pool: "more", Spec: "{backends: [{address: '" + a + "'}], health: {type: none, headers: {X-Auth: 'file:" + none + "'}}}"}
	if _, err := c.Change(t.Context(), control.Request{Edits: []control.Edit{edit}}); err == nil || !strings.Contains(err.Error(), "cannot be read") {
		t.Errorf("a secret that is not there: %v", err)
	}
	if got := c.Revision().Number; got != before {
		t.Errorf("revision %d, want %d", got, before)
	}
	if got := strings.Count(log.String(), "what it had last counts"); got != 1 || strings.Contains(log.String(), secret) {
		t.Errorf("told %d times in\n%s", got, log)
	}
	c.reload(text)
	c.await("the file is refused", func(v view.View) bool { return strings.Contains(v.ConfigError, "cannot be read") })
}

// TestAPageAndAListOfUsersAreGone has changes go on that have nothing to do with them,
// and the history be told: also where nothing in force names them any more.
func TestAPageAndAListOfUsersAreGone(t *testing.T) {
	a, _ := page(t, "a")
	dir := t.TempDir()
	shown, users := filepath.Join(dir, "503.html"), filepath.Join(dir, "users")
	hash, err := bcrypt.GenerateFromPassword([]byte("x"), bcrypt.MinCost)
	if err := errors.Join(err, os.WriteFile(shown, []byte("later"), 0o600), os.WriteFile(users, []byte("ann:"+string(hash)+"\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	text := oneSite(a)
	with := strings.Replace(text, "forward: http", "forward: http, basic-auth: {users: '"+users+"'}, error-pages: [{status: 503, file: '"+shown+"'}]", 1)
	c := controlAgent(t, with)
	if err := errors.Join(os.Remove(shown), os.Remove(users)); err != nil {
		t.Fatal(err)
	}
	route := control.Edit{Op: control.OpPutRoute, Service: "web", Match: "/more/", Pool: "main"}
	c.must(route)
	c.must(control.Edit{Op: control.OpApply, Spec: "xdp: off\n" + text})
	told, err := c.History(0, 10)
	if err != nil || len(told) != 3 || !strings.Contains(told[1].Difference, "{match: /more/, pool: main}") {
		t.Errorf("history %+v, %v", told, err)
	}
	if _, err := c.Change(t.Context(), control.Request{Edits: []control.Edit{{Op: control.OpApply, Spec: "xdp: off\n" + with}}}); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("files that are not there are named anew: %v", err)
	}
}
