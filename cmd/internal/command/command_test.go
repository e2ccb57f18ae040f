package command

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/urfave/cli/v2"

	"fairlead/loader"
	"fairlead/testenv/leak"
	"fairlead/userspace/config"
	"fairlead/userspace/kernel"
	"fairlead/userspace/state"
)

func TestMain(m *testing.M) {
	if os.Getenv("COMMAND_TEST_SIGNALS") != "" {
		waitForSignals()
	}
	if os.Getenv("COMMAND_TEST_PROG") != "" {
		var out bytes.Buffer
		Run(context.Background(), completing(nil, &out), append([]string{"prog"}, os.Args[1:]...))
		fmt.Print(out.String())
		os.Exit(0)
	}
	leak.Each(m).Run()
}

// run runs a small program whose verb go does what action does.
func run(t *testing.T, ctx context.Context, action cli.ActionFunc, args ...string) (code int, out, errOut string) {
	t.Helper()
	var o, e bytes.Buffer
	app := App("prog", "test", &o, &e,
		&cli.Command{
			Name: "go", Usage: "go", Action: action,
			Flags: []cli.Flag{
				ConfigFlag(), InterfaceFlag("`NAME`"), ModeFlag(), GraceFlag("`TIME`"), OutputFlag(),
				Bool("force", "force"), Uint("limit", 7, "`N`"), PinDirFlag(), RunDirFlag(),
			},
		},
		&cli.Command{Name: "maps", Usage: "maps", Subcommands: []*cli.Command{
			{Name: "flows", Usage: "flows", Action: action},
			{Name: "drops", Usage: "drops", Action: action},
		}},
	)
	code = Run(ctx, app, append([]string{"prog"}, args...))
	return code, o.String(), e.String()
}

func TestWrongUsageIsOneLineAndStatus2(t *testing.T) {
	for _, row := range []struct {
		name, args, want string
	}{
		{"no verb", "", "a command is missing: use go or maps; try prog --help"},
		{"no verb of a noun", "maps", "a command is missing: use flows or drops; try prog maps --help"},
		{"unknown verb", "start", `unknown command "start": use go or maps`},
		{"misspelt verb", "map", `unknown command "map": did you mean maps?`},
		{"misspelt verb of a noun", "maps flow", `unknown command "flow": did you mean flows?`},
		{"no help verb", "help", `unknown command "help": use go or maps`},
		{"unknown flag", "go --xyzzy", "unknown flag --xyzzy: try prog go --help"},
		{"misspelt flag", "go --confg f", "unknown flag --confg: did you mean --config?"},
		{"misspelt flag with a value", "go --confg=f", "unknown flag --confg=f: did you mean --config?"},
		{"flag before its verb", "--force go", "unknown flag --force: try prog --help"},
		{"flag of another verb", "maps flows --force", "unknown flag --force: try prog maps flows --help"},
		{"flag without its value", "go --config", "--config needs a value; try prog go --help"},
		{"argument", "go x", `unexpected argument "x": prog go takes only flags; try prog go --help`},
		{"flag after an argument", "go x --force", `unexpected argument "x": prog go takes only flags; try prog go --help`},
		{"flags end", "go -- x", `unexpected argument "--": prog go takes only flags; try prog go --help`},
		{"dash", "go -", `unexpected argument "-": prog go takes only flags; try prog go --help`},
		{"value for a switch", "go --force yes", `unexpected argument "yes": prog go takes only flags; try prog go --help`},
		{"argument after a noun's verb", "maps flows 10", `unexpected argument "10": prog maps flows takes only flags; try prog maps flows --help`},
		{"completion is not offered", "go --generate-bash-completion", "unknown flag --generate-bash-completion: try prog go --help"},
		{"not a number", "go --limit x", `--limit is "x": use a whole number, 0 or more`},
		{"not a time", "go --grace 3", `--grace is "3": use a time, such as 10s`},
		{"negative time", "go --grace -1s", "--grace is -1s: use a time of 0s or more"},
		{"no such format", "go -o xml", `--output is "xml": use table or json`},
		{"no such mode", "go --mode off", `--mode is "off": use auto, native or generic`},
	} {
		t.Run(row.name, func(t *testing.T) {
			ran := func(*cli.Context) error { t.Error("the command ran"); return nil }
			code, out, errOut := run(t, t.Context(), ran, strings.Fields(row.args)...)
			if want := "prog: " + row.want + "\n"; code != 2 || out != "" || errOut != want {
				t.Errorf("status %d, stdout %q, stderr %q; want 2 and %q", code, out, errOut, want)
			}
		})
	}
}

func TestAWrongVariableIsOneLineAndStatus2(t *testing.T) {
	t.Setenv("FAIRLEAD_OUTPUT", "xml")
	code, _, errOut := run(t, t.Context(), nil, "go")
	if want := "prog: --output is \"xml\": use table or json\n"; code != 2 || errOut != want {
		t.Errorf("status %d, stderr %q; want 2 and %q", code, errOut, want)
	}
}

func TestHelpIsPrintedOnlyWhenAskedFor(t *testing.T) {
	for _, row := range []struct{ args, want string }{
		{"--help", "prog [global options] command"},
		{"-h", "prog [global options] command"},
		{"go --help", "FAIRLEAD_PIN_DIR"},
		{"go --config f -h", "FAIRLEAD_PIN_DIR"},
		{"maps --help", "drops"},
		{"maps flows --help", "prog maps flows"},
		{"--version", "prog version " + Version + "\n"},
	} {
		code, out, errOut := run(t, t.Context(), nil, strings.Fields(row.args)...)
		if code != 0 || errOut != "" || !strings.Contains(out, row.want) {
			t.Errorf("%s: status %d, stderr %q, want %q in\n%s", row.args, code, errOut, row.want, out)
		}
	}
}

// seen is what the flags of go say.
type seen struct {
	Config, Mode, Output, PinDir, RunDir, Grace string
	Interfaces                                  []string
	Force                                       bool
	Limit                                       uint
}

func look(t *testing.T, args ...string) (s seen) {
	t.Helper()
	code, _, errOut := run(t, t.Context(), func(c *cli.Context) error {
		s = seen{
			c.String("config"), string(Mode(c)), fmt.Sprint(JSON(c)), c.String("pin-dir"), c.String("run-dir"), c.Duration("grace").String(),
			Interfaces(c), c.Bool("force"), c.Uint("limit"),
		}
		return nil
	}, append([]string{"go"}, args...)...)
	if code != 0 {
		t.Fatal(errOut)
	}
	return s
}

func TestFlagsWinOverVariablesOverDefaults(t *testing.T) {
	want := seen{Output: "false", PinDir: loader.DefaultDir, Grace: "10s", Limit: 7}
	if diff := cmp.Diff(want, look(t)); diff != "" {
		t.Errorf("defaults: -want +got\n%s", diff)
	}
	for name, value := range map[string]string{
		"CONFIG": "c", "MODE": "native", "OUTPUT": "json", "PIN_DIR": "p", "RUN_DIR": "r", "GRACE": "1s",
		"INTERFACE": "a b,c  d", "FORCE": "1", "LIMIT": "3",
	} {
		t.Setenv("FAIRLEAD_"+name, value)
	}
	want = seen{"c", "native", "true", "p", "r", "1s", []string{"a", "b,c", "d"}, true, 3}
	if diff := cmp.Diff(want, look(t)); diff != "" {
		t.Errorf("variables: -want +got\n%s", diff)
	}
	want = seen{"C", "generic", "false", "P", "R", "2s", []string{"x,y", "z"}, false, 4}
	got := look(t, "--config", "C", "--mode=generic", "-o", "table", "-pin-dir", "P", "--run-dir", "R", "--grace", "2s",
		"-i", "x,y", "-i", "z", "--force=false", "--limit", "4")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("flags: -want +got\n%s", diff)
	}
}

func TestErrorsHaveAStatusAndSayWhatToDo(t *testing.T) {
	fault := func(line int) error {
		return config.Fault{File: "f", Line: line, Column: 1, Field: "xdp", Text: "is wrong"}
	}
	for _, row := range []struct {
		err  error
		code int
		want string
	}{
		{errors.New("read map flows: broken"), 1, "prog: read map flows: broken\n"},
		{Usagef("no %s", "x"), 2, "prog: no x\n"},
		{errors.Join(fault(3), fault(4)), 2, "prog: f:3:1: xdp: is wrong\nprog: f:4:1: xdp: is wrong\n"},
		{fmt.Errorf("reload: %w", fault(3)), 2, "prog: reload: f:3:1: xdp: is wrong\n"},
		{fmt.Errorf("attach x: %w", loader.ErrNoInterface), 2, "prog: attach x: no such interface; ip link shows those that there are\n"},
		{fmt.Errorf("use pin directory x: %w", loader.ErrNoBPFFS), 2, "prog: use pin directory x: not on a BPF file system\n"},
		{kernel.ErrNoInterfaces, 2, "prog: no interface to attach to: list them under interfaces: or use --interface\n"},
		{fmt.Errorf("attach x: %w", loader.ErrForeign), 3, "prog: attach x: another XDP program is attached; take it out first; --force replaces one that no link holds\n"},
		{fmt.Errorf("lock: %w", loader.ErrLocked), 3, "prog: lock: another process holds the lock; try again when that one is done\n"},
		{fmt.Errorf("attach x: %w", loader.ErrMode), 3, "prog: attach x: not possible in this mode; use --mode auto, or another interface\n"},
		{fmt.Errorf("%w: port 22", kernel.ErrConflict), 3, "prog: conflict: port 22\n"},
		{fmt.Errorf("%w: change it", kernel.ErrOtherConfig), 3, "prog: the agent runs with another configuration: change it\n"},
		{fmt.Errorf("%w: send x", kernel.ErrAgentDetached), 3, "prog: the agent has nothing attached: send x\n"},
		{fmt.Errorf("%w: run x", kernel.ErrForwarding), 3, "prog: forwarding is off: run x\n"},
		{fmt.Errorf("open x: %w", loader.ErrNotAttached), 1, "prog: open x: not attached; loader status shows what is attached\n"},
		{loader.ErrPrivileges, 1, "prog: " + loader.ErrPrivileges.Error() + "\n"},
	} {
		code, out, errOut := run(t, t.Context(), func(*cli.Context) error { return row.err }, "go")
		if code != row.code || out != "" || errOut != row.want {
			t.Errorf("%v: status %d, stderr %q; want %d, %q", row.err, code, errOut, row.code, row.want)
		}
	}
}

func TestAnInterruptedCommandSaysSo(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	code, _, errOut := run(t, ctx, func(c *cli.Context) error {
		cancel()
		return fmt.Errorf("attach x: %w", c.Err())
	}, "go")
	if want := "prog: attach x: interrupted: run it again to finish or mend\n"; code != 1 || errOut != want {
		t.Errorf("status %d, stderr %q; want 1, %q", code, errOut, want)
	}
}

func TestStateWantsInterfacesThatAreThere(t *testing.T) {
	services := "services: []\n"
	for _, row := range []struct {
		name, file, args string
		want             string // of the error; FILE stands for the path
	}{
		{"all there", "interfaces: [eth0, eth1]\n" + services, "", ""},
		{"one missing", "interfaces:\n  - eth0\n  - eth9\n" + services, "",
			`FILE:3:5: interfaces[1]: this host has no interface "eth9": ip link shows those that there are`},
		{"two missing", "interfaces: [eth8, eth9]\n" + services, "",
			`FILE:1:14: interfaces[0]: this host has no interface "eth8": ip link shows those that there are` + "\n" +
				`prog: FILE:1:20: interfaces[1]: this host has no interface "eth9": ip link shows those that there are`},
		{"named by a flag", "interfaces: [eth9]\n" + services, "-i eth0", ""},
		{"missing one named by a flag", services, "-i eth9", "--interface eth9: this host has no such interface: ip link shows those that there are"},
		{"not used", "xdp: off\ninterfaces: [eth9]\n" + services, "", ""},
		{"used by --mode", "xdp: off\ninterfaces: [eth9]\n" + services, "--mode auto",
			`FILE:2:14: interfaces[0]: this host has no interface "eth9": ip link shows those that there are`},
		{"bad file", "interfaces: {}\nservics: []\n", "", "FILE:1:13:"},
	} {
		t.Run(row.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "f.yaml")
			if err := os.WriteFile(path, []byte(row.file), 0o644); err != nil {
				t.Fatal(err)
			}
			exists := func(name string) bool { return name == "eth0" || name == "eth1" }
			args := append([]string{"go", "--config", path}, strings.Fields(row.args)...)
			code, _, errOut := run(t, t.Context(), func(c *cli.Context) error {
				_, _, err := State(c, exists)
				return err
			}, args...)
			want, wantCode := "", 0
			if row.want != "" {
				want, wantCode = "prog: "+strings.ReplaceAll(row.want, "FILE", path), 2
			}
			if code != wantCode || !strings.HasPrefix(errOut, want) || want == "" && errOut != "" {
				t.Errorf("status %d, stderr %q; want %d, %q", code, errOut, wantCode, want)
			}
		})
	}
}

func TestEveryHostHasLoopback(t *testing.T) {
	if !HasInterface("lo") || HasInterface("no/such") {
		t.Error("lo is missing, or everything is there")
	}
}

func TestAnotherAgentIsAConflict(t *testing.T) {
	for _, err := range []error{state.ErrInUse, loader.ErrLocked, &net.OpError{Op: "listen", Err: syscall.EADDRINUSE}} {
		if code, _ := judge(fmt.Errorf("open: %w", err)); code != 3 {
			t.Errorf("%v: status %d, want 3", err, code)
		}
	}
}
