package config

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestWhatIsReadAsAFile(t *testing.T) {
	dir := t.TempDir()
	large, pipe := filepath.Join(dir, "large"), filepath.Join(dir, "pipe")
	if err := os.WriteFile(large, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(large, maxFile+1); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"/dev/zero": "read configuration: /dev/zero is a device: name a file",
		large:       "read configuration: " + large + " has more than 64 MiB: name a smaller file",
		dir:         "read configuration: read " + dir + ": is a directory",
	} {
		if _, err := Load(name); err == nil || err.Error() != want {
			t.Errorf("%s: error %v, want %s", name, err, want)
		}
	}
	if _, err := load(t, map[string]string{"main.yaml": "include: /dev/zero\n"}); err != "main.yaml:1:10: include: cannot be read: open /dev/zero: it is no regular file: name one" {
		t.Errorf("included: error %s", err)
	}
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	written := make(chan error, 1)
	go func() { written <- os.WriteFile(pipe, []byte(named(oneService, "web")), 0o600) }()
	if s, err := Load(pipe); err != nil || len(s.Services) != 1 {
		t.Errorf("a pipe: %d services, error %v", len(s.Services), err)
	}
	if err := <-written; err != nil {
		t.Error(err)
	}
}

func TestFilesAndProgramsMustBeThere(t *testing.T) {
	const vault = "vault: {address: 'https://vault.example', token-file: %}\n"
	for _, row := range []struct{ name, text, want string }{
		{"a token", vault + "#token", ""},
		{"no token", strings.ReplaceAll(vault, "%", "none"), `main.yaml:1:55: vault.token-file: cannot be read: open none: no such file or directory`},
		{"a directory", strings.ReplaceAll(vault, "%", "sub"), `main.yaml:1:55: vault.token-file: is no regular file: name one`},
		{"a notification", "notify: [{command: [%]}]\n#/bin/true", ""},
		{"a name in PATH", "notify: [{command: [%]}]\n#true", ""},
		{"no program to notify", "notify: [{command: [/bin/tell, x]}]\n", `main.yaml:1:21: notify[0].command[0]: "/bin/tell" cannot be run: stat /bin/tell: no such file or directory: install it, or name another program`},
		{"none of the name", "notify: [{command: [no-such-program]}]\n", `main.yaml:1:21: notify[0].command[0]: "no-such-program" cannot be run: executable file not found in $PATH: install it, or name another program`},
		{"no check", "defaults: {health: {type: exec, command: [/bin/check]}}\n", `main.yaml:1:43: services[0].health.command[0]: "/bin/check" cannot be run: stat /bin/check: no such file or directory: install it, or name another program`},
		{"logs", "access-log: {file: '/%/access'}\nflow-log: {file: /dev/null}\nagent: {logging-file: '/%/log'}\n#tmp", ""},
		{"no directory of a log", "access-log: {file: '/%/none/log'}\n#tmp", `main.yaml:1:20: access-log.file: cannot be written: open /tmp/none/log: no such file or directory: make the directory, or name another file`},
		{"a log of flows that is none", "flow-log: {file: '/%'}\n#tmp", `main.yaml:1:18: flow-log.file: cannot be written: open /tmp: it is neither a regular file nor a character device: name a file`},
		{"nor the agent's", "agent: {logging-file: '/%/none/log'}\n#tmp", `main.yaml:1:23: agent.logging-file: cannot be written: open /tmp/none/log: no such file or directory: make the directory, or name another file`},
		{"not executable", "notify: [{command: [/etc/passwd]}]\n", `main.yaml:1:21: notify[0].command[0]: "/etc/passwd" cannot be run: permission denied: install it, or name another program`},
	} {
		t.Run(row.name, func(t *testing.T) {
			text, word, _ := strings.Cut(row.text, "#")
			dir := write(t, map[string]string{"token": "s.x", "sub/x": ""})
			text = strings.ReplaceAll(text, "%", word) + named(oneService, "web")
			path := filepath.Join(dir, "main.yaml")
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			got := ""
			if _, err := Load(path); err != nil {
				got = strings.ReplaceAll(err.Error(), dir+"/", "")
			}
			if got != row.want {
				t.Errorf("error %s\nwant  %s", got, row.want)
			}
			if _, err := Parse(path, []byte(text)); err != nil {
				t.Errorf("who does not look: %v", err)
			}
		})
	}
}
