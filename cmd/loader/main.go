// Command loader puts the datapath into the kernel, looks at it and takes it
// out again. It needs no agent, and nothing of it keeps running.
package main

import (
	"context"
	"io"
	"os"
	"time"

	"github.com/urfave/cli/v2"

	"fairlead/cmd/internal/command"
	"fairlead/cmd/internal/command/status"
	"fairlead/loader"
	"fairlead/userspace/datapath"
	"fairlead/userspace/kernel"
	"fairlead/userspace/model"
	"fairlead/userspace/view"
)

// A world is all that the commands reach.
type world struct {
	out, errOut io.Writer
	now         func() time.Time
	exists      func(name string) bool // an interface
	// attach is [kernel.Attach], closed again.
	attach func(ctx context.Context, state *model.State, o kernel.Options) (kernel.Report, error)
	// look is [kernel.Warnings].
	look   func(state *model.State, interfaces []string) ([]string, error)
	detach func(ctx context.Context, dir string, interfaces []string, grace time.Duration, progress func(flows int)) error
	status func(dir string) (*kernel.View, error)
	rows   func(dir string) (*datapath.View, error)
	flows  func(dir string, f func(datapath.FlowView) bool) error
	// explain asks about a packet that comes in by an interface; "": by the one to
	// its sender.
	explain func(ctx context.Context, dir string, q loader.Question, iface string) (*datapath.Explanation, error)
	// agent is [status.Agent].
	agent func(runDir, pinDir string) *view.View
}

func newApp(w world) *cli.App {
	return command.App("loader", "put Fairlead's datapath into the kernel and look at it", w.out, w.errOut,
		attachCommand(w), detachCommand(w), status.Command(w.status, w.now), mapsCommand(w), explainCommand(w),
		command.CompletionCommand("loader", w.out), command.ManCommand(w.out, command.ExitStatuses))
}

func main() {
	os.Exit(command.Main(newApp(world{
		out: os.Stdout, errOut: os.Stderr, now: time.Now, exists: command.HasInterface,
		attach: attach, look: kernel.Warnings, detach: kernel.Detach, status: kernel.Status, rows: rows, flows: flows,
		explain: kernel.Explain, agent: status.Agent,
	})))
}

func attach(ctx context.Context, state *model.State, o kernel.Options) (kernel.Report, error) {
	k, r, err := kernel.Attach(ctx, state, o)
	if err != nil {
		return r, err
	}
	return r, k.Close()
}

func rows(dir string) (*datapath.View, error) {
	inst, err := loader.Open(dir)
	if err != nil {
		return nil, err
	}
	defer inst.Close()
	return datapath.Read(inst.Maps())
}

func flows(dir string, f func(datapath.FlowView) bool) error {
	inst, err := loader.Open(dir)
	if err != nil {
		return err
	}
	defer inst.Close()
	return datapath.Flows(inst.Maps(), f)
}
