package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/urfave/cli/v2"

	"fairlead/cmd/internal/command"
	"fairlead/loader"
	"fairlead/testenv/leak"
	"fairlead/userspace/daemon"
	"fairlead/userspace/kernel"
	"fairlead/userspace/model"
	"fairlead/userspace/state"
	"fairlead/userspace/view"
)

func TestMain(m *testing.M) { leak.Each(m).Run() }

// run runs fairlead in w, whose writers it sets.
func run(t *testing.T, ctx context.Context, w world, args ...string) (code int, out, errOut string) {
	t.Helper()
	var o, e bytes.Buffer
	w.out, w.errOut = &o, &e
	if w.now == nil {
		w.now = time.Now
	}
	if w.exists == nil {
		w.exists = func(string) bool { return true }
	}
	if w.getenv == nil {
		w.getenv = func(string) string { return "" }
	}
	w.config, w.root = cmp.Or(w.config, "/nonexistent/fairlead.yaml"), true
	code = command.Run(ctx, newApp(w), append([]string{"fairlead"}, args...))
	return code, o.String(), e.String()
}

const goodConfig = `interfaces: [eth0]
services:
  - {name: web, listen: "203.0.113.10:80", backends: [{address: "10.2.1.2:8080"}, {address: "10.2.1.3:8080"}]}
`

func configFile(t *testing.T, text string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "f.yaml")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestRunPassesOnWhatItIsTold(t *testing.T) {
	path := configFile(t, goodConfig)
	for _, row := range []struct {
		args string
		want daemon.Options
	}{
		{"", daemon.Options{Config: path, PinDir: loader.DefaultDir, StateDir: state.DefaultDir(), Grace: 10 * time.Second, Handover: true}},
		{
			"--pin-dir /p --run-dir /r --state-dir /s -i a -i b --mode generic --force --set-sysctl --detach-on-exit --grace 3s --proxy-flows 5 --proxy-sockets 6 --sandbox on",
			daemon.Options{
				Config: path, PinDir: "/p", RunDir: "/r", StateDir: "/s", Interfaces: []string{"a", "b"}, Mode: model.XDPGeneric,
				Force: true, SetSysctl: true, DetachOnExit: true, Grace: 3 * time.Second,
				ProxyFlows: 5, ProxySockets: 6, Sandbox: true, Handover: true,
			},
		},
	} {
		var got daemon.Options
		w := world{run: func(_ context.Context, o daemon.Options) error { got = o; return nil }}
		code, out, errOut := run(t, t.Context(), w, append([]string{"run", "--config", path}, strings.Fields(row.args)...)...)
		if code != 0 || out != "" || errOut != "" || got.Log == nil {
			t.Errorf("%s: status %d, stdout %q, stderr %q, log %v", row.args, code, out, errOut, got.Log)
		}
		if diff := gocmp.Diff(row.want, got, cmpopts.IgnoreFields(daemon.Options{}, "Log", "Version"), cmpopts.IgnoreUnexported(daemon.Options{})); diff != "" {
			t.Errorf("%s: -want +got\n%s", row.args, diff)
		}
	}
}

func TestTheLogGoesToStandardError(t *testing.T) {
	path := configFile(t, goodConfig)
	w := world{run: func(_ context.Context, o daemon.Options) error {
		o.Log.Debug("detail")
		o.Log.Warn("careful", "n", 1, "for", 1500*time.Millisecond)
		return nil
	}}
	for _, row := range []struct {
		args  string
		lines []string // parts of each
	}{
		{"", []string{`level=WARN msg=careful n=1 for=1.5s`}},
		{"--log-level debug", []string{"level=DEBUG msg=detail", "level=WARN msg=careful n=1 for=1.5s"}},
		{"--log-level error", nil},
		{"--log-format json", []string{`"level":"WARN","msg":"careful","n":1,"for":"1.5s"}`}},
	} {
		_, out, errOut := run(t, t.Context(), w, append([]string{"run", "--config", path}, strings.Fields(row.args)...)...)
		got := strings.Split(strings.TrimSuffix(errOut, "\n"), "\n")
		if errOut == "" {
			got = nil
		}
		if out != "" || !slices.EqualFunc(got, row.lines, strings.Contains) {
			t.Errorf("%s: stdout %q, stderr %q; want %q", row.args, out, got, row.lines)
		}
	}
}

func TestAnAgentThatWasAskedToEndIsDone(t *testing.T) {
	path := configFile(t, goodConfig)
	ctx, cancel := context.WithCancel(t.Context())
	w := world{run: func(ctx context.Context, _ daemon.Options) error {
		cancel()
		return context.Cause(ctx)
	}}
	if code, _, errOut := run(t, ctx, w, "run", "--config", path); code != 0 || errOut != "" {
		t.Errorf("status %d, stderr %q; want 0", code, errOut)
	}
}

func TestAnAgentThatFailsHasAStatus(t *testing.T) {
	path := configFile(t, goodConfig)
	for _, row := range []struct {
		err  error
		code int
		want string
	}{
		{errors.New("listen: broken"), 1, "fairlead: listen: broken\n"},
		{fmt.Errorf("another agent runs: %w", loader.ErrLocked), 3, "fairlead: another agent runs: another process holds the lock; try again when that one is done\n"},
		{fmt.Errorf("%w: web: another program listens on 10.0.0.1:80", daemon.ErrListen), 3, "fairlead: service cannot be served: web: another program listens on 10.0.0.1:80\n"},
		{fmt.Errorf("metrics: %w", syscall.EADDRINUSE), 3, "fairlead: metrics: address already in use\n"},
		{fmt.Errorf("%w: run x", kernel.ErrForwarding), 3, "fairlead: forwarding is off: run x\n"},
	} {
		w := world{run: func(context.Context, daemon.Options) error { return row.err }}
		if code, _, errOut := run(t, t.Context(), w, "run", "--config", path); code != row.code || errOut != row.want {
			t.Errorf("status %d, stderr %q; want %d, %q", code, errOut, row.code, row.want)
		}
	}
}

func TestCheck(t *testing.T) {
	look := func(lines []string, err error) func(*model.State, string) ([]string, error) {
		return func(*model.State, string) ([]string, error) { return lines, err }
	}
	for _, row := range []struct {
		name, file  string
		look        func(*model.State, string) ([]string, error)
		code        int
		out, errOut string
	}{
		{"good", goodConfig, look(nil, nil), 0, "FILE: good, services: 1, backends: 2\n", ""},
		{
			"good with warnings", goodConfig, look([]string{"one", "two"}, nil), 0,
			"FILE: good, services: 1, backends: 2\n", "fairlead: warning: one\nfairlead: warning: two\n",
		},
		{
			"host cannot be looked at", goodConfig, look([]string{"one"}, errors.New("no /proc")), 0,
			"FILE: good, services: 1, backends: 2\n", "fairlead: warning: one\nfairlead: warning: cannot look at this host: no /proc\n",
		},
		{
			"no such interface", "interfaces: [eth0, eth9]\nservices: []\n", nil, 2, "",
			"fairlead: FILE:1:20: interfaces[1]: this host has no interface \"eth9\": ip link shows those that there are\n",
		},
		{
			"two faults", "interfaces: [eth0]\nxdp: maybe\nflow-table: 1\nservices: []\n", nil, 2, "",
			"fairlead: FILE:2:6: xdp: \"maybe\" is unknown: use auto, native, generic or off\n" +
				"fairlead: FILE:3:13: flow-table: \"1\" is not a number from 1024 to 16777216\n",
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			path := configFile(t, row.file)
			w := world{look: row.look, exists: func(name string) bool { return name == "eth0" }}
			code, out, errOut := run(t, t.Context(), w, "check", "--config", path)
			file := strings.NewReplacer("FILE", path)
			if code != row.code || out != file.Replace(row.out) || errOut != file.Replace(row.errOut) {
				t.Errorf("status %d, stdout %q, stderr %q; want %d, %q, %q", code, out, errOut, row.code, row.out, row.errOut)
			}
		})
	}
}

func TestCheckLooksAtTheInterfacesOfItsFlags(t *testing.T) {
	var got []string
	w := world{look: func(s *model.State, dir string) ([]string, error) { got = append(s.Interfaces, dir); return nil, nil }}
	code, _, errOut := run(t, t.Context(), w, "check", "--config", configFile(t, goodConfig), "-i", "a", "-i", "b", "--pin-dir", "/p")
	if code != 0 || !slices.Equal(got, []string{"a", "b", "/p"}) {
		t.Errorf("status %d, stderr %q, interfaces and directory %q", code, errOut, got)
	}
}

func TestStatusNeedsNoRoot(t *testing.T) {
	dir := t.TempDir()
	if err := view.Write(dir, view.View{Config: "/etc/f.yaml", Services: []view.Service{}}); err != nil {
		t.Fatal(err)
	}
	w := world{status: func(string) (*kernel.View, error) { return nil, loader.ErrPrivileges }}
	code, out, errOut := run(t, t.Context(), w, "status", "--run-dir", dir)
	if want := fmt.Sprintf("agent     agent pid %d, alive\n", os.Getpid()); code != 0 || !strings.Contains(out, want) || errOut != "" {
		t.Errorf("status %d, stdout %q, stderr %q; want 0 and %q", code, out, errOut, want)
	}
	code, out, errOut = run(t, t.Context(), w, "status", "--run-dir", t.TempDir())
	if want := "fairlead: " + loader.ErrPrivileges.Error() + "\n"; code != 1 || out != "" || errOut != want {
		t.Errorf("without a view: status %d, stdout %q, stderr %q; want 1 and %q", code, out, errOut, want)
	}
}

func TestVersion(t *testing.T) {
	code, out, _ := run(t, t.Context(), world{}, "version")
	if code != 0 || !strings.HasPrefix(out, "fairlead "+command.Version+", linux/") {
		t.Errorf("status %d, stdout %q", code, out)
	}
}

func TestTheManualPageHasTheStatusOfPlan(t *testing.T) {
	code, out, errOut := run(t, t.Context(), world{}, "man")
	if want := ".TP\n.B 4\nsomething would change, for plan \\-\\-exit\\-code\n"; code != 0 || errOut != "" || !strings.Contains(out, want) {
		t.Errorf("status %d, stderr %q, no %q in %s", code, errOut, want, out)
	}
}

func TestWrongUsage(t *testing.T) {
	for _, row := range []struct{ args, want string }{
		{"", "a command is missing: use run, check, plan, status, top, services, pool, backend, health, flows, kill, apply, watch, history, rollback, export, completion, man or version; try fairlead --help"},
		{"chek", `unknown command "chek": did you mean check?`},
		{"run", "nothing says what to balance: use --config, --servers or -b, or write /nonexistent/fairlead.yaml; try fairlead run --help"},
		{"run --servers 10.0.0.1:80 --state-dir vault:secret", `--state-dir "vault:secret" is not a place in a KV store: write its mount and a path, such as vault:secret/fairlead`},
		{"run --servers 10.0.0.1:80 -p 80 --state-dir vault:secret/a", "--state-dir vault:secret/a needs a server: write vault: {address: ...} in a configuration file"},
		{"check", "--config is missing: name the configuration file; try fairlead check --help"},
		{"plan", "--config is missing: name the configuration file; try fairlead plan --help"},
		{"top", "standard output is no terminal: use --batch"},
		{"check f.yaml", `unexpected argument "f.yaml": fairlead check takes only flags; try fairlead check --help`},
		{"run --config /nonexistent/f.yaml", "read configuration: open /nonexistent/f.yaml: no such file or directory"},
		{"run f.yaml --force", `unexpected argument "f.yaml": fairlead run takes only flags; try fairlead run --help`},
		{"run --log-format xml", `--log-format is "xml": use text or json`},
		{"run --log-level loud", `--log-level is "loud": use debug, info, warn or error`},
		{"run --detach", "unknown flag --detach: try fairlead run --help"},
		{"status --config f", "unknown flag --config: try fairlead status --help"},
		{"version now", `unexpected argument "now": fairlead version takes only flags; try fairlead version --help`},
	} {
		code, out, errOut := run(t, t.Context(), world{}, strings.Fields(row.args)...)
		if want := "fairlead: " + row.want + "\n"; code != 2 || out != "" || errOut != want {
			t.Errorf("%s: status %d, stdout %q, stderr %q; want 2 and %q", row.args, code, out, errOut, want)
		}
	}
}

func TestEveryFlagHasItsVariable(t *testing.T) {
	own := []string{"port", "servers"} // whose variables are PORT and SERVERS
	// What is asked of a running agent comes from the command line alone.
	asked := []string{"services", "health", "flows", "kill", "apply", "history", "rollback"}
	for _, c := range newApp(world{}).Commands {
		for _, f := range c.Flags {
			if slices.Contains(own, f.Names()[0]) {
				continue
			}
			if d, ok := f.(cli.DocGenerationFlag); ok && len(d.GetEnvVars()) == 0 && (slices.Contains(asked, c.Name) || f.Names()[0] == "live") {
				continue
			}
			want := "FAIRLEAD_" + strings.ToUpper(strings.ReplaceAll(f.Names()[0], "-", "_"))
			d, ok := f.(cli.DocGenerationFlag)
			if !ok || !slices.Equal(d.GetEnvVars(), []string{want}) {
				t.Errorf("%s --%s lacks %s", c.Name, f.Names()[0], want)
			}
		}
	}
}

func TestLevelsHaveTheirNames(t *testing.T) {
	for name, l := range levels {
		if strings.ToLower(l.String()) != name {
			t.Errorf("%s is %v", name, l)
		}
	}
	if levels["info"] != slog.LevelInfo {
		t.Error("info is something else")
	}
}
