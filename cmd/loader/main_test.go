package main

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"fairlead/cmd/internal/command"
	"fairlead/loader"
	"fairlead/testenv/golden"
	"fairlead/testenv/leak"
	"fairlead/userspace/datapath"
	"fairlead/userspace/kernel"
	"fairlead/userspace/model"
	"fairlead/userspace/view"
)

func TestMain(m *testing.M) { leak.Each(m).Run() }

// run runs the loader in w, whose writers it sets.
func run(t *testing.T, w world, args ...string) (code int, out, errOut string) {
	t.Helper()
	var o, e bytes.Buffer
	w.out, w.errOut = &o, &e
	if w.exists == nil {
		w.exists = func(string) bool { return true }
	}
	if w.look == nil {
		w.look = func(*model.State, []string) ([]string, error) { return nil, nil }
	}
	if w.agent == nil {
		w.agent = func(string, string) *view.View { return nil }
	}
	code = command.Run(t.Context(), newApp(w), append([]string{"loader"}, args...))
	return code, o.String(), e.String()
}

const goodConfig = `interfaces: [eth0, eth1]
services:
  - name: web
    listen: 203.0.113.10:80
    backends: [{address: 10.2.1.2:8080}, {address: 10.2.1.3:8080}]
  - {name: dns, listen: 203.0.113.10:53, protocol: udp, backends: [{address: 10.2.1.2:53}]}
`

func configFile(t *testing.T, text string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "f.yaml")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestAttachPassesOnWhatItIsTold(t *testing.T) {
	path := configFile(t, goodConfig)
	var got kernel.Options
	w := world{attach: func(_ context.Context, _ *model.State, o kernel.Options) (kernel.Report, error) {
		got = o
		return kernel.Report{}, nil
	}}
	cmpOptions := cmp.FilterPath(func(p cmp.Path) bool { return p.String() == "Warn" }, cmp.Ignore())
	for _, row := range []struct {
		args string
		want kernel.Options
	}{
		{"", kernel.Options{Dir: loader.DefaultDir, Interfaces: []string{"eth0", "eth1"}, Config: path}},
		{
			"-i a -i b --mode native --force --set-sysctl --resize-flows --pin-dir /p",
			kernel.Options{Dir: "/p", Interfaces: []string{"a", "b"}, Mode: "native", Force: true, SetSysctl: true, ResizeFlows: true, Config: path},
		},
	} {
		code, _, errOut := run(t, w, append([]string{"attach", "--config", path}, strings.Fields(row.args)...)...)
		if code != 0 || errOut != "" {
			t.Errorf("%s: status %d, stderr %q", row.args, code, errOut)
		}
		if diff := cmp.Diff(row.want, got, cmpOptions); diff != "" {
			t.Errorf("%s: -want +got\n%s", row.args, diff)
		}
	}
}

func TestAttachSaysWhatItDid(t *testing.T) {
	look := func(s *model.State, interfaces []string) ([]string, error) {
		return []string{fmt.Sprintf("backend 10.2.1.2:8080 is not behind %s (%s)", interfaces, s.XDP)}, nil
	}
	w := world{look: look, attach: func(_ context.Context, _ *model.State, o kernel.Options) (kernel.Report, error) {
		o.Warn("next hop 10.2.1.2 does not answer ARP")
		return kernel.Report{
			Report: loader.Report{
				Outcome: loader.OutcomeUpgraded,
				Interfaces: []loader.InterfaceReport{
					{Name: "eth0", Mode: loader.AttachNative, Already: true},
					{Name: "eth1", Mode: loader.AttachGeneric, Reason: "driver dummy: operation not supported"},
				},
				Grown:   []loader.Growth{{Map: "slots", From: 64, To: 128}},
				Dropped: []string{"flows", "services"}, FlowsDropped: 7, Mended: "a directory half made",
			},
			AgentPID: 12,
		}, nil
	}}
	code, out, errOut := run(t, w, "attach", "--config", configFile(t, goodConfig))
	if code != 0 {
		t.Errorf("status %d", code)
	}
	golden.Check(t, "attach.txt", out)
	golden.Check(t, "attach.stderr.txt", errOut)
}

func TestAttachRefuses(t *testing.T) {
	w := world{
		exists: func(name string) bool { return name != "eth9" },
		attach: func(context.Context, *model.State, kernel.Options) (kernel.Report, error) {
			t.Error("it attached")
			return kernel.Report{}, nil
		},
	}
	for _, row := range []struct{ name, file, args, want string }{
		{"no such interface", "interfaces: [eth9]\nservices: []\n", "", `FILE:1:14: interfaces[0]: this host has no interface "eth9": ip link shows those that there are`},
		{"no such interface in a flag", goodConfig, "-i eth9", "--interface eth9: this host has no such interface: ip link shows those that there are"},
		{"off", "xdp: off\nservices: []\n", "", "FILE says xdp: off, so there is nothing to attach: change it, or use --mode"},
		{
			"every fault at once", "servces: []\nxdp: on\nservices: []\n", "",
			"FILE:1:1: servces: unknown key: did you mean services?\nloader: FILE:2:6: xdp:",
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			path := configFile(t, row.file)
			code, out, errOut := run(t, w, append([]string{"attach", "--config", path}, strings.Fields(row.args)...)...)
			want := "loader: " + strings.ReplaceAll(row.want, "FILE", path)
			if code != 2 || out != "" || !strings.HasPrefix(errOut, want) {
				t.Errorf("status %d, stdout %q, stderr %q; want 2 and %q", code, out, errOut, want)
			}
		})
	}
}

func TestWrongUsage(t *testing.T) {
	for _, row := range []struct{ args, want string }{
		{"", "a command is missing: use attach, detach, status, maps, explain, completion or man; try loader --help"},
		{"serve", `unknown command "serve": use attach, detach, status, maps, explain, completion or man`},
		{"maps", "a command is missing: use services, backends, flows, drops or stats; try loader maps --help"},
		{"attach", "--config is missing: name the configuration file; try loader attach --help"},
		{"attach --config /nonexistent/f.yaml", "read configuration: open /nonexistent/f.yaml: no such file or directory"},
		{"attach --config /", "read configuration: read /: is a directory"},
		{"attach eth0 --force", `unexpected argument "eth0": loader attach takes only flags; try loader attach --help`},
		{"attach --mode off", `--mode is "off": use auto, native or generic`},
		{"detach eth0", `unexpected argument "eth0": loader detach takes only flags; try loader detach --help`},
		{"detach --all -i eth0", "--all and --interface exclude each other: use one of them"},
		{"status -o yaml", `--output is "yaml": use table or json`},
		{"maps flows --limit -1", `--limit is "-1": use a whole number, 0 or more`},
	} {
		code, out, errOut := run(t, world{}, strings.Fields(row.args)...)
		if want := "loader: " + row.want + "\n"; code != 2 || out != "" || errOut != want {
			t.Errorf("%s: status %d, stdout %q, stderr %q; want 2 and %q", row.args, code, out, errOut, want)
		}
	}
}

// TestTheManualPageHasItsOwnStatuses and not those of commands that loader lacks.
func TestTheManualPageHasItsOwnStatuses(t *testing.T) {
	code, out, errOut := run(t, world{}, "man")
	if code != 0 || errOut != "" || !strings.Contains(out, ".SH EXIT STATUS\n.TP\n.B 0\ndone\n") || strings.Contains(out, "exit\\-code") {
		t.Errorf("status %d, stderr %q, %s", code, errOut, out)
	}
}

func TestDetach(t *testing.T) {
	for _, row := range []struct{ args, want, out string }{
		{"", loader.DefaultDir + " [] 10s", "detached: everything\n"},
		{"--all --grace 0s", loader.DefaultDir + " [] 0s", "detached: everything\n"},
		{"-i a -i b --grace 1m --pin-dir /p", "/p [a b] 1m0s", "detached: a, b\n"},
	} {
		var got string
		w := world{detach: func(_ context.Context, dir string, interfaces []string, grace time.Duration, progress func(int)) error {
			got = fmt.Sprint(dir, " ", interfaces, " ", grace)
			for _, flows := range []int{2, 2, 1, 0} {
				progress(flows)
			}
			return nil
		}}
		code, out, errOut := run(t, w, append([]string{"detach"}, strings.Fields(row.args)...)...)
		if code != 0 || got != row.want || out != row.out {
			t.Errorf("%s: status %d, called with %q, stdout %q; want 0, %q, %q", row.args, code, got, out, row.want, row.out)
		}
		if want := "loader: waiting for 2 flows\nloader: waiting for 1 flow\n"; errOut != want {
			t.Errorf("%s: stderr %q, want %q", row.args, errOut, want)
		}
	}
}

func TestWhatTheKernelRefusesHasItsStatus(t *testing.T) {
	path := configFile(t, goodConfig)
	w := world{
		attach: func(context.Context, *model.State, kernel.Options) (kernel.Report, error) {
			return kernel.Report{}, fmt.Errorf("attach eth0: %w", loader.ErrForeign)
		},
		rows: func(dir string) (*datapath.View, error) {
			return nil, fmt.Errorf("open %s: %w", dir, loader.ErrNotAttached)
		},
		flows: func(dir string, _ func(datapath.FlowView) bool) error {
			return fmt.Errorf("open %s: %w", dir, loader.ErrNotAttached)
		},
	}
	for _, row := range []struct {
		args, want string
		code       int
	}{
		{"attach --config " + path, "attach eth0: another XDP program is attached; take it out first; --force replaces one that no link holds", 3},
		{"maps drops --pin-dir /p", "open /p: not attached; loader status shows what is attached", 1},
		{"maps flows --pin-dir /p", "open /p: not attached; loader status shows what is attached", 1},
	} {
		code, out, errOut := run(t, w, strings.Fields(row.args)...)
		if want := "loader: " + row.want + "\n"; code != row.code || out != "" || errOut != want {
			t.Errorf("%s: status %d, stdout %q, stderr %q; want %d and %q", row.args, code, out, errOut, row.code, want)
		}
	}
}

func TestStatusIsAVerb(t *testing.T) {
	w := world{now: time.Now, status: func(dir string) (*kernel.View, error) {
		return nil, fmt.Errorf("open %s: %w", dir, loader.ErrNotAttached)
	}}
	dir := t.TempDir()
	code, out, errOut := run(t, w, "status", "--pin-dir", "/p", "--run-dir", dir)
	want := "instance  none: open /p: not attached\nagent     no agent\n" +
		"view      none: no agent publishes its status in " + dir + "/status.json: start one, or give the --run-dir of one that runs\n"
	if code != 0 || out != want || errOut != "" {
		t.Errorf("status %d, stdout %q, stderr %q; want 0 and %q", code, out, errOut, want)
	}
}

func TestEveryFlagHasItsVariable(t *testing.T) {
	checkVariables(t, newApp(world{}).Commands)
}

var client = netip.MustParseAddrPort("198.51.100.7:40000")
