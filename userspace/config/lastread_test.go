package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"fairlead/userspace/control"
)

// TestLastValuesOfFilesCount has files of secrets go, or hold what will not do: what
// names them already goes on, and nothing else may name them.
func TestLastValuesOfFilesCount(t *testing.T) {
	const text = edited + "registration: {listen: '127.0.0.1:8500', tokens: [{token: 'file:token', pool: main}]}\n"
	for _, row := range []struct {
		name   string
		change func(path string) error
		told   string
	}{
		{"it is gone", os.Remove, "file:token: open "},
		{"it is empty", func(path string) error { return os.Truncate(path, 0) }, "tokens[0].token"},
		{"it is too short", func(path string) error { return os.WriteFile(path, []byte("short"), 0o600) }, "is easily guessed"},
	} {
		t.Run(row.name, func(t *testing.T) {
			dir := write(t, map[string]string{"main.yaml": text, "token": strings.Repeat("a", 20) + "\n"})
			path := filepath.Join(dir, "token")
			var told []string
			last := NewLastRead(func(name string, err error) { told = append(told, name+": "+err.Error()) })
			file, err := Read(filepath.Join(dir, "main.yaml"))
			if err != nil {
				t.Fatal(err)
			}
			base := file.Beside(last)
			if _, err := base.State(false); err != nil {
				t.Fatal(err)
			}
			last.Use(base)
			if err := row.change(path); err != nil {
				t.Fatal(err)
			}
			d := NewDraft(base, nil)
			if err := d.Add(edit("drain images 10.0.0.3:8080")); err != nil {
				t.Fatal(err)
			}
			tree, _ := d.Tree()
			for _, look := range []bool{false, true} {
				s, err := tree.State(look)
				if err != nil || s.Registration.Tokens[0].Token != strings.Repeat("a", 20) {
					t.Errorf("another change: %+v, %v", s.Registration, err)
				}
			}
			if len(told) != 1 || !strings.Contains(told[0], row.told) || strings.Contains(told[0], "aaaa") {
				t.Errorf("told %q", told)
			}
			if _, err := file.State(false); err == nil {
				t.Error("who reads the file anew takes it")
			}
			last.Use(NewTree("other", []byte(edited)))
			if _, err := tree.State(false); err == nil {
				t.Error("a value that is not in force any more counts")
			}
			if err := os.WriteFile(path, []byte(strings.Repeat("b", 20)), 0o600); err != nil {
				t.Fatal(err)
			}
			if s, err := tree.State(false); err != nil || s.Registration.Tokens[0].Token != strings.Repeat("b", 20) {
				t.Errorf("a good one: %+v, %v", s.Registration, err)
			}
		})
	}
}

// TestNewFilesMustBeThere has an edit name one that is not.
func TestNewFilesMustBeThere(t *testing.T) {
	dir := write(t, map[string]string{"main.yaml": edited})
	file, err := Read(filepath.Join(dir, "main.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	last := NewLastRead(func(name string, err error) { t.Errorf("told of %s: %v", name, err) })
	base := file.Beside(last)
	last.Use(base)
	tree, _ := base.With([]control.Edit{edit("put-pool more {backends: [{address: '10.0.0.9:80'}], health: {type: http, headers: {Authorization: 'file:none'}}}")})
	if _, err := tree.State(false); err == nil || !strings.Contains(err.Error(), "cannot be read") {
		t.Errorf("error %v", err)
	}
}

// TestWhatWasOnlyLookedAtDoesNotCount has a file change, and go after a plan has read it:
// what comes in force then has its value of before, and so has what comes later.
func TestWhatWasOnlyLookedAtDoesNotCount(t *testing.T) {
	const text = edited + "registration: {listen: '127.0.0.1:8500', tokens: [{token: 'file:token', pool: main}]}\n"
	before, later := strings.Repeat("a", 20), strings.Repeat("b", 20)
	dir := write(t, map[string]string{"main.yaml": text, "token": before})
	path := filepath.Join(dir, "token")
	file, err := Read(filepath.Join(dir, "main.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	last := NewLastRead(func(string, error) {})
	base := file.Beside(last)
	want := func(token string) {
		t.Helper()
		if s, err := base.State(false); err != nil || s.Registration.Tokens[0].Token != token {
			t.Fatalf("%+v, %v; want the token %q", s.Registration, err, token)
		}
	}
	want(before)
	last.Use(base)
	if err := os.WriteFile(path, []byte(later), 0o600); err != nil {
		t.Fatal(err)
	}
	want(later)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	want(before)
	last.Use(base)
	want(before)
}

// TestLastPagesAndUsersCount has error pages and lists of users go, or hold what will not
// do. A variable is in the name of one.
func TestLastPagesAndUsersCount(t *testing.T) {
	t.Setenv("PAGES", "pages")
	const hash = "$2y$04$abcdefghijklmnopqrstuuGHd1LIqsyUvSlqJFCWUH3YwBJSO2fky"
	dir := write(t, map[string]string{
		"main.yaml": strings.Replace(edited, "forward: http", "forward: http, basic-auth: {users: users}, error-pages: [{status: 503, file: '${PAGES}/503.html'}]", 1),
		"users":     "ann:" + hash + "\n", "pages/503.html": "later",
	})
	told := map[string]string{}
	last := NewLastRead(func(name string, err error) { told[name] = err.Error() })
	file, err := Read(filepath.Join(dir, "main.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	base := file.Beside(last)
	for range 2 { // what counts is in force after a change, too
		if _, err := base.State(false); err != nil {
			t.Fatal(err)
		}
		last.Use(base)
		if err := errors.Join(os.RemoveAll(filepath.Join(dir, "pages")), os.WriteFile(filepath.Join(dir, "users"), []byte("ann:secret\n"), 0o600)); err != nil {
			t.Fatal(err)
		}
		d := NewDraft(base, nil)
		if err := d.Add(edit("put-route web /more/ -> main")); err != nil {
			t.Fatal(err)
		}
		base, _ = d.Tree()
	}
	s, err := base.State(true)
	if err != nil || len(s.Services[0].HTTP.Routes) != 3 || s.Services[0].HTTP.ErrorPages[0].Body != "later" || s.Services[0].HTTP.Routes[0].Rules.BasicAuth.Users[0].Hash != hash {
		t.Errorf("%+v, %v", s, err)
	}
	if len(told) != 2 || !strings.Contains(told["pages/503.html"], "no such file") || !strings.Contains(told["users"], "no hash of bcrypt") {
		t.Errorf("told %q", told)
	}
}
