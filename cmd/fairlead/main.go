// Command fairlead is the agent, which keeps the datapath true to the
// configuration and to the backends' health, and the way to ask it.
package main

import (
	"context"
	"io"
	"os"
	"time"

	"github.com/urfave/cli/v2"

	"fairlead/cmd/internal/command"
	"fairlead/cmd/internal/command/status"
	"fairlead/cmd/internal/command/top"
	"fairlead/loader"
	"fairlead/userspace/daemon"
	"fairlead/userspace/kernel"
	"fairlead/userspace/model"
	"fairlead/userspace/view"
)

// A world is all that the commands reach.
type world struct {
	in          io.Reader
	out, errOut io.Writer
	now         func() time.Time
	getenv      func(name string) string
	config      string                 // read when nothing else says what to balance
	exists      func(name string) bool // an interface
	root        bool
	run         func(ctx context.Context, o daemon.Options) error
	status      func(dir string) (*kernel.View, error)
	// look returns what may keep a configuration from working on this host, where
	// an agent of a pin directory may run.
	look func(state *model.State, pinDir string) ([]string, error)
	// taken returns an error if other programs listen where services of a state
	// without XDP would, beside the agent of a run directory.
	taken func(state *model.State, runDir string) error
	// plan is [kernel.Foresee].
	plan func(ctx context.Context, dir string, state *model.State, told kernel.Told) (*kernel.Plan, error)
}

// manExits, manFiles and manSeeAlso are sections of the manual page.
var (
	manExits = command.ManSection{Title: command.ExitStatuses.Title, Text: command.ExitStatuses.Text +
		"\n4\tsomething would change, for plan --exit-code"}
	manFiles = command.ManSection{Title: "FILES", Text: defaultConfig + "\tthe configuration\n" +
		view.SystemDir + "\tthe run directory: status.json, " + socketName + " and sockets of pools\n" +
		"/var/lib/fairlead\tthe state directory: changes of the API and their history\n" +
		loader.DefaultDir + "\twhere maps, program and links are pinned\n" +
		"/etc/default/fairlead\tvariables of the service, such as FAIRLEAD_METRICS for --metrics"}
	manSeeAlso = command.ManSection{Title: "SEE ALSO", Text: "/usr/share/doc/fairlead\tREADME.md, and docs for the configuration, the API and metrics\n" +
		"systemctl(1), journalctl(1)\tthe service is fairlead.service"}
)

func newApp(w world) *cli.App {
	return command.App("fairlead", "balance TCP and UDP in XDP, with a proxy to fall back on, and HTTP in user space", w.out, w.errOut,
		runCommand(w), checkCommand(w), planCommand(w), status.Command(w.status, w.now), top.Command(w.status, w.now, elsewhere(w)),
		servicesCommand(w), poolCommand(w), backendCommand(w), healthCommand(w), flowsCommand(w), killCommand(w),
		applyCommand(w), watchCommand(w), historyCommand(w), rollbackCommand(w), exportCommand(w),
		command.CompletionCommand("fairlead", w.out), command.ManCommand(w.out, manExits, manFiles, manSeeAlso), versionCommand(w))
}

func main() {
	os.Exit(command.Main(newApp(world{
		in: os.Stdin, out: os.Stdout, errOut: os.Stderr, now: time.Now, getenv: os.Getenv, config: defaultConfig, exists: command.HasInterface, root: os.Geteuid() == 0,
		run: daemon.Run, status: kernel.Status, look: look, taken: taken, plan: kernel.Foresee,
	})))
}
