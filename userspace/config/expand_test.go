package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"fairlead/userspace/model"
)

func TestVariablesAndFilesAreValues(t *testing.T) {
	t.Setenv("HOST", "10.0.0.7")
	t.Setenv("TYPE", "http")
	t.Setenv("EMPTY", "")
	t.Setenv("LIKE", "${HOST} file:x")
	for _, row := range []struct{ name, value, want string }{
		{"a variable", "x${HOST}y${HOST}", "x10.0.0.7y10.0.0.7"},
		{"escaped", "$${HOST} $$$${HOST}", "${HOST} $${HOST}"},
		{"escaped once, then a variable", "$$${HOST}", "$10.0.0.7"},
		{"no variable", "$HOST $ {} $1 ${1} 5$ $$ {$}", "$HOST $ {} $1 ${1} 5$ $$ {$}"},
		{"what a variable holds is not looked at", "${LIKE}", "${HOST} file:x"},
		{"empty, in a text", "a${EMPTY}b", "ab"},
		{"a file", "file:secret", " s3 cret"},
		{"a file named by a variable", "file:${TYPE}.txt", "from http"},
	} {
		t.Run(row.name, func(t *testing.T) {
			s, err := load(t, map[string]string{
				"secret": " s3 cret\r\n\n", "http.txt": "from http",
				"main.yaml": "services:\n  - name: a\n    listen: 203.0.113.10:80\n    backends: [{address: '${HOST}:80'}]\n" +
					"    health: {type: '${TYPE}', expect: '" + row.value + "'}\n",
			})
			if err != "" {
				t.Fatal(err)
			}
			c := s.Services[0].Health
			if c.Type != model.CheckHTTP || c.Expect != row.want || s.Services[0].Backends[0].Address.String() != "10.0.0.7:80" {
				t.Errorf("%+v, want %q", c, row.want)
			}
		})
	}
}

func TestFaultsOfVariables(t *testing.T) {
	t.Setenv("SECRET", "hunter2-hunter2-hunter2-hunter2-hunter2-hunter2-hunter2-hunter2-hunter2")
	t.Setenv("QUOTED", "a\"b\nc\x01")
	t.Setenv("SHORT", "ab")
	t.Setenv("PLACE", "203.0.113.10")
	for _, row := range []struct{ name, value, want string }{
		{"unset", "a${NO_SUCH}", "the variable NO_SUCH is not set: set it in the environment, or write $${NO_SUCH} for the text itself"},
		{"not closed", "a${SECRET", `"${SECRET" is not closed: write it like ${NAME}, or $${ for the text itself`},
		{"no name", "${a-b}", `"${a-b}" names no variable: write it like ${NAME}, or $${a-b} for the text itself`},
		{"a secret", "${SECRET}", `"${SECRET}" is not a time`},
		{"a part of one", "x${SECRET}", `is not a time`},
		{"one with odd characters", "${QUOTED}", `"${QUOTED}" is not a time`},
		{"with text around", "x${QUOTED}y", `"x${QUOTED}y" is not a time`},
		{"a short one", "${SHORT}", `"${SHORT}" is not a time`},
		{"of a file", "file:secret", `"file:secret" is not a time`},
		{"no file", "file:none", "cannot be read: open none: no such file or directory"},
		{"a large file", "file:large", "cannot be read: more than 64 KiB"},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, err := load(t, map[string]string{
				"secret": "hunter2\n", "large": strings.Repeat("hunter2", 10000),
				"main.yaml": "services: []\ntimeouts:\n  tcp-new: '" + row.value + "'\n",
			})
			if want := "main.yaml:3:12: timeouts.tcp-new: "; !strings.HasPrefix(err, want) || !strings.Contains(err, row.want) || strings.Contains(err, "\n") {
				t.Errorf("error %s\nwant  %s%s", err, want, row.want)
			}
			if strings.Contains(err, "hunter2") {
				t.Error("the error has a secret")
			}
		})
	}
	_, err := load(t, map[string]string{"main.yaml": "services:\n" + strings.Repeat("  - {name: a, listen: '${PLACE}:80', backends: [{address: '10.0.0.1:80'}]}\n", 2)})
	if want := "${PLACE}:80/tcp is taken by"; !strings.Contains(err, want) || strings.Contains(err, "203") {
		t.Errorf("error %s, want %s", err, want)
	}
}

func TestURLsAreShownWithoutPasswords(t *testing.T) {
	t.Setenv("SECRET", "hunter2")
	t.Setenv("WHOLE", "http://admin:hunter2@10.0.0.1")
	t.Setenv("LONG", strings.Repeat("hunter2", 10))
	for text, want := range map[string]string{
		"http://admin:hunter2@10.0.0.1": "http://...@10.0.0.1", "http://admin:${SECRET}@10.0.0.1": "http://...@10.0.0.1",
		"${WHOLE}": "${WHOLE}", "http://${LONG}:${LONG}@10.0.0.1": "http://...@10.0.0.1", "http://admin:${SECRET} @10.0.0.1": "http://...@10.0.0.1",
	} {
		_, err := load(t, map[string]string{"main.yaml": "services: [{name: a, listen: '10.0.0.2:80', forward: http, backends: [{url: '" + text + "'}]}]\n"})
		if !strings.Contains(err, `"`+want+`"`) || strings.Contains(err, "hunter2") {
			t.Errorf("%s: %s", text, err)
		}
	}
}

func TestAgentSettings(t *testing.T) {
	for _, row := range []struct{ text, want string }{
		{"logging-file: log", `main.yaml:1:23: agent.logging-file: "log" is not an absolute path: begin it with /`},
		{"metrics: 0", `main.yaml:1:18: agent.metrics: "0" is neither a port, an address and port, nor off: write it like 8080, 127.0.0.1:8080 or off`},
		{"metrics: 'localhost:80'", `main.yaml:1:18: agent.metrics: "localhost:80" is neither a port`},
		{"pin: /x", "main.yaml:1:9: agent.pin: unknown key: use logging-file, metrics, pin-dir, run-dir, sandbox, state-dir or web"},
		{"sandbox: maybe", `main.yaml:1:18: agent.sandbox: "maybe" is unknown: use on or off`},
		{"state-dir: on", `main.yaml:1:20: agent.state-dir: "on" is not an absolute path: begin it with /, or with vault: for a KV store`},
	} {
		if _, err := load(t, map[string]string{"main.yaml": "agent: {" + row.text + "}\nservices: []\n"}); !strings.HasPrefix(err, row.want) {
			t.Errorf("%s: %s\nwant %s", row.text, err, row.want)
		}
	}
	s, err := load(t, map[string]string{"main.yaml": "agent: {state-dir: \"vault:secret/a/b\"}\nvault: {address: \"https://v\"}\nservices: []\n"})
	if path, ok := StateInVault(s.Agent.StateDir); err != "" || path != "secret/a/b" || !ok || s.Vault == nil {
		t.Errorf("%+v, %s", s.Agent, err)
	}
	s, err = load(t, map[string]string{"main.yaml": "agent: {logging-file: /l, metrics: 8080, pin-dir: /p, run-dir: /r, state-dir: /s, sandbox: on}\nservices: []\n"})
	if want := (model.Agent{LogFile: "/l", Metrics: ":8080", PinDir: "/p", RunDir: "/r", StateDir: "/s", Sandbox: model.SandboxOn}); err != "" || s.Agent != want {
		t.Errorf("%+v, want %+v, error %s", s.Agent, want, err)
	}
	for text, want := range map[string]string{"off": "off", "127.0.0.1:80": "127.0.0.1:80", "[::1]:80": "[::1]:80", ":80": ":80"} {
		if got, err := Listener(text); got != want || err != nil {
			t.Errorf("%s is %s, %v", text, got, err)
		}
	}
}

// A reload reads all of it again.
func TestLoadReadsAllAgain(t *testing.T) {
	dir := write(t, map[string]string{"main.yaml": "include: a.yaml\n", "a.yaml": named(oneService, "'${NAME}'")})
	t.Setenv("NAME", "one")
	for _, want := range []string{"one", "two"} {
		t.Setenv("NAME", want)
		if want == "two" {
			if err := os.WriteFile(filepath.Join(dir, "a.yaml"), []byte(named(oneService, "file:name")), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, "name"), []byte("two\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		s, err := Load(filepath.Join(dir, "main.yaml"))
		if err != nil || s.Services[0].Name != want {
			t.Errorf("%+v, %v; want %s", s.Services, err, want)
		}
	}
}
