package command

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

// completing is a program to complete; its verbs must not run.
func completing(t *testing.T, out *bytes.Buffer) *cli.App {
	never := func(*cli.Context) error {
		if t != nil {
			t.Error("a command ran")
		}
		return nil
	}
	return App("prog", "test", out, out,
		&cli.Command{Name: "run", Usage: "run it: now", Action: never, Flags: []cli.Flag{OutputFlag(), ConfigFlag(), Bool("force", "force it"), InterfaceFlag("use `NAME`")}},
		&cli.Command{Name: "pool", Usage: "pools", Subcommands: []*cli.Command{{Name: "add", Usage: "add", Action: never}, {Name: "remove", Usage: "remove", Action: never}}},
		&cli.Command{Name: "hide", Hidden: true, Action: never},
		CompletionCommand("prog", out),
	)
}

func TestCandidates(t *testing.T) {
	for _, row := range []struct {
		name  string
		words []string
		want  string
	}{
		{"nothing typed", []string{""}, "run pool completion"},
		{"a verb begun", []string{"ru"}, "run"},
		{"a hidden verb", []string{"hi"}, ""},
		{"no such verb", []string{"x"}, ""},
		{"below an unknown verb", []string{"x", ""}, ""},
		{"verbs of a noun", []string{"pool", ""}, "add remove"},
		{"an argument", []string{"completion", ""}, "bash zsh fish"},
		{"an argument begun", []string{"completion", "f"}, "fish"},
		{"behind the argument", []string{"completion", "fish", ""}, ""},
		{"all flags", []string{"run", "-"}, "--output --config --force --interface --help"},
		{"two dashes", []string{"run", "--"}, "--output --config --force --interface --help"},
		{"a flag begun", []string{"run", "--c"}, "--config"},
		{"a letter that the library panics at", []string{"run", "--p"}, ""},
		{"flags of the program", []string{"--v"}, "--version"},
		{"words of a flag", []string{"run", "--output", ""}, "table json"},
		{"words of a short flag", []string{"run", "-o", "j"}, "json"},
		{"words behind =", []string{"run", "--output=j"}, "--output=json"},
		{"words behind = as bash has it", []string{"run", "--output", "=", "j"}, "json"},
		{"words right behind = as bash has it", []string{"run", "--output", "="}, "table json"},
		{"a file", []string{"run", "--config", ""}, ""},
		{"behind a file", []string{"run", "--config", "f", "--f"}, "--force"},
		{"behind a switch", []string{"run", "--force", "--o"}, "--output"},
		{"behind two dashes", []string{"run", "--", "--o"}, ""},
		{"a verb behind flags", []string{"--help", "po"}, "pool"},
	} {
		var out bytes.Buffer
		if code := Run(t.Context(), completing(t, &out), append([]string{"prog", completeVerb, "bash"}, row.words...)); code != 0 {
			t.Errorf("%s: status %d", row.name, code)
		}
		if got := strings.Join(strings.Fields(out.String()), " "); got != row.want {
			t.Errorf("%s: %q, want %q", row.name, got, row.want)
		}
	}
	var out bytes.Buffer
	if code := Run(t.Context(), completing(t, &out), []string{"prog", completeVerb}); code != 0 || out.Len() > 0 {
		t.Errorf("without words: status %d, %q", code, out.String())
	}
}

func TestUnknownShell(t *testing.T) {
	var out bytes.Buffer
	code := Run(t.Context(), completing(t, &out), []string{"prog", "completion", "csh"})
	if want := "prog: no completion for \"csh\": use bash, zsh or fish\n"; code != 2 || out.String() != want {
		t.Errorf("status %d, %q", code, out.String())
	}
}

// drivers have a shell complete the line prog "$@" with the script in $SCRIPT. zsh
// completes on terminals only: what the script gives to its completion is looked at.
var drivers = map[string]string{
	"bash": `source "$SCRIPT"
COMP_WORDS=(prog "$@") COMP_CWORD=$#
_prog
printf '%s\n' "${COMPREPLY[@]}"`,
	"zsh": `compdef() { registered=$1:$2 }
_describe() { print -rl -- "${(@P)2%%:*}" }
_files() { print files }
source "$SCRIPT"
[[ $registered == _prog:prog ]] || print "registered $registered"
words=(prog "$@") CURRENT=$(( $# + 1 ))
_prog`,
	"fish": `source $SCRIPT
complete -C "prog $argv" | string replace -r '\t.*' ''
true # nothing to replace is a failure`,
}

// TestShellsComplete has real shells load the scripts.
func TestShellsComplete(t *testing.T) {
	dir := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	prog := "#!/bin/sh\nCOMMAND_TEST_PROG=1 exec '" + self + "' \"$@\"\n"
	if err := os.WriteFile(filepath.Join(dir, "prog"), []byte(prog), 0o755); err != nil {
		t.Fatal(err)
	}
	for shell, driver := range drivers {
		var out bytes.Buffer
		if code := Run(t.Context(), completing(t, &out), []string{"prog", "completion", shell}); code != 0 {
			t.Fatal(out.String())
		}
		script := filepath.Join(dir, "script."+shell)
		if err := os.WriteFile(script, out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		for _, row := range []struct {
			words []string
			want  string
		}{
			{[]string{"po"}, "pool"},
			{[]string{"pool", ""}, "add remove"},
			{[]string{"run", "--o"}, "--output"},
			{[]string{"run", "--output", ""}, "json table"},
			{[]string{"completion", "z"}, "zsh"},
		} {
			t.Run(shell+" "+strings.Join(row.words, " "), func(t *testing.T) {
				got := inShell(t, shell, driver, script, dir, row.words)
				if got != row.want {
					t.Errorf("%q, want %q", got, row.want)
				}
			})
		}
	}
}

// inShell returns the candidates for words, in order.
func inShell(t *testing.T, shell, driver, script, dir string, words []string) string {
	t.Helper()
	path, err := exec.LookPath(shell)
	if err != nil {
		if os.Getenv("FAIRLEAD_TEST_ROOT") == "1" {
			t.Fatalf("%v: scripts/setup.sh test installs it", err)
		}
		t.Skip(err)
	}
	args := map[string][]string{"bash": {"--norc", "-c", driver, "x"}, "zsh": {"-f", "-c", driver, "x"}, "fish": {"--no-config", "-c", driver}}[shell]
	c := exec.Command(path, append(args, words...)...)
	c.Env = []string{"SCRIPT=" + script, "PATH=" + dir + ":/usr/bin:/bin", "HOME=" + dir, "TERM=dumb"}
	var errOut bytes.Buffer
	c.Stderr = &errOut
	out, err := c.Output()
	if err != nil || errOut.Len() > 0 {
		t.Errorf("%v, stderr %s", err, errOut.String())
	}
	got := strings.Fields(string(out))
	slices.Sort(got)
	return strings.Join(got, " ")
}

func TestTheManualPageHasEveryCommand(t *testing.T) {
	var out bytes.Buffer
	app := App("prog", "test", &out, &out,
		&cli.Command{
			Name: "run", Usage: "run it", ArgsUsage: "N", Description: "It runs.\n\n    prog run 1", Flags: []cli.Flag{OutputFlag(), String("at", "", "run at `PLACE`")},
		},
		&cli.Command{Name: "pool", Subcommands: []*cli.Command{{Name: "add", Usage: "add a pool"}}},
		ManCommand(&out, ExitStatuses, ManSection{"FILES", "/etc/x\tthe configuration"}))
	if code := Run(t.Context(), app, []string{"prog", "man"}); code != 0 {
		t.Fatal(out.String())
	}
	page := out.String()
	for _, want := range []string{
		".TH PROG 8\n", ".SS prog run N\nrun it.\n.PP\nIt runs.\n", ".EX\n    prog run 1\n.EE\n", ".SS prog pool add\nadd a pool.\n", ".SS prog man\n",
		".TP\n\\fB\\-\\-output, \\-o\\fP \\fIFORMAT\\fP\nprint in FORMAT: table or json (default: \"table\") [$FAIRLEAD_OUTPUT]\n",
		".TP\n\\fB\\-\\-at\\fP \\fIPLACE\\fP\nrun at PLACE [$FAIRLEAD_AT]\n", ".SH EXIT STATUS\n.TP\n.B 0\ndone\n", ".SH FILES\n.TP\n.B /etc/x\nthe configuration\n",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q:\n%s", want, page)
		}
	}
}
