package main

import (
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"math"

	"github.com/urfave/cli/v2"

	"fairlead/cmd/internal/command"
	"fairlead/userspace/config"
	"fairlead/userspace/daemon"
	"fairlead/userspace/handover"
	"fairlead/userspace/model"
	store "fairlead/userspace/state"
)

var levels = map[string]slog.Level{
	"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError,
}

func runCommand(w world) *cli.Command {
	return &cli.Command{
		Name:  "run",
		Usage: "run the agent",
		Description: "SIGHUP opens log files and reads the configuration again. SIGUSR2 has another process\n" +
			"take over, by the same command line: no client is refused, and connections may end\n" +
			"within --grace. SIGTERM ends the agent and leaves the kernel forwarding; a second one\n" +
			"ends it at once. Without --config, --servers and -b the configuration is\n" +
			defaultConfig + ".",
		Flags: append(quickFlags(),
			command.ConfigFlag(),
			command.InterfaceFlag("attach `NAME`, which may be repeated, instead of the configuration's interfaces"),
			command.ModeFlag(),
			command.Bool("force", "replace a foreign XDP program, and take over ports that this host listens on"),
			command.Bool("set-sysctl", "switch forwarding on where it is off, until detach"),
			command.Bool("detach-on-exit", "take everything out of the kernel at the end"),
			command.GraceFlag("let known connections and flows go on for `TIME` at most at the end of a process"),
			boundFlag("proxy-flows", "let the UDP proxies have `N` flows together"),
			boundFlag("proxy-sockets", "let the proxies open `N` sockets for ranges of ports, beyond one for each service"),
			command.PinDirFlag(),
			command.RunDirFlag(),
			stateDirFlag("keep changes of the configuration, and what is known of backends, in"),
			metricsFlag(),
			webFlag(),
			sandboxFlag(),
			command.String("logging-file", "", "write the log to `FILE`, at its end, in place of standard error"),
			command.Choice("log-format", "text", "write the log as `FORMAT`: text or json", "text", "json"),
			command.Choice("log-level", "info", "log what is at least `LEVEL`: debug, info, warn or error", "debug", "info", "warn", "error"),
		),
		Action: func(c *cli.Context) error { return explained(runAgent(c, w)) },
	}
}

// explained returns an error, after the process before this one, if there is one, has
// been told: that has a log.
func explained(err error) error {
	if err != nil {
		handover.Explain(err)
	}
	return err
}

func runAgent(c *cli.Context, w world) error {
	// The agent reads it again. Faults are shown before anything is begun.
	what, err := chosen(c, w)
	if err != nil {
		return err
	}
	state, err := what.state(c, w)
	if err != nil {
		return err
	}
	file, err := openLog(c, &state.Agent)
	if err != nil {
		return err
	}
	out, reopen := w.errOut, (func() error)(nil)
	if file != nil {
		defer file.Close()
		out, reopen = file, file.Reopen
	}
	log := newLog(out, c.String("log-format"), levels[c.String("log-level")])
	for _, name := range what.ignored {
		log.Warn("variable ignored", "variable", name, "config", what.name())
	}
	stateDir := cmp.Or(c.String("state-dir"), state.Agent.StateDir, store.DefaultDir())
	if err := checkServer(stateDir, state.Vault); err != nil {
		return err
	}
	var written []string
	if name := logFile(c, &state.Agent); name != "" {
		written = append(written, name)
	}
	err = w.run(c.Context, daemon.Options{
		Config:       what.name(),
		Quick:        what.quick,
		PinDir:       command.PinDir(c, &state.Agent),
		RunDir:       c.String("run-dir"),
		StateDir:     stateDir,
		Metrics:      what.metrics(c),
		Web:          webAt(c),
		Interfaces:   command.Interfaces(c),
		Mode:         command.Mode(c),
		Force:        c.Bool("force"),
		SetSysctl:    c.Bool("set-sysctl"),
		DetachOnExit: c.Bool("detach-on-exit"),
		Grace:        c.Duration("grace"),
		Handover:     true,
		ProxyFlows:   int(c.Uint("proxy-flows")),
		ProxySockets: int(c.Uint("proxy-sockets")),
		Sandbox:      sandboxed(c, &state.Agent, w.root),
		Written:      written,
		Version:      command.Version,
		Reopen:       reopen,
		Log:          log,
	})
	return ending(c, err)
}

// ending returns what the end of an agent is to who has run it.
func ending(c *cli.Context, err error) error {
	switch {
	case c.Err() != nil && errors.Is(err, context.Canceled):
		return nil // asked to end
	case errors.Is(err, daemon.ErrListen):
		return command.Refused(err)
	}
	return err
}

// stateDirFlag says where what has to survive the agent is kept.
func stateDirFlag(what string) cli.Flag {
	f := command.String("state-dir", "", what+" `DIR`, or vault:mount/path; off is none: memory alone")
	f.DefaultText = "$STATE_DIRECTORY, or /var/lib/fairlead for root, or off"
	f.Action = func(_ *cli.Context, text string) error {
		if _, inVault := config.StateInVault(text); !inVault {
			return nil // relative names are good on a command line
		}
		if fault := config.StateDirFault(text); fault != "" {
			return command.Usagef("--state-dir %s", fault)
		}
		return nil
	}
	return f
}

// boundFlag bounds what the proxies take of the host; 0 leaves that to the agent.
func boundFlag(name, usage string) cli.Flag {
	f := command.Uint(name, 0, usage)
	f.DefaultText = "16384, or what the host can spare"
	f.Action = func(_ *cli.Context, n uint) error {
		if n > math.MaxInt32 {
			return command.Usagef("--%s is %d: use at most %d", name, n, math.MaxInt32)
		}
		return nil
	}
	return f
}

// sandboxFlag says whether the agent gives up what it does not need.
func sandboxFlag() cli.Flag {
	f := command.Choice("sandbox", "", "have the agent give up files and system calls that it does not need: `WORD` is on or off", string(model.SandboxOn), string(model.SandboxOff))
	f.DefaultText = "off for root, else on"
	return f
}

// sandboxed reports what the flag, its variable or the configuration says.
func sandboxed(c *cli.Context, conf *model.Agent, root bool) bool {
	switch cmp.Or(model.Sandbox(c.String("sandbox")), conf.Sandbox) {
	case model.SandboxOn:
		return true
	case model.SandboxOff:
		return false
	}
	return !root
}

func newLog(w io.Writer, format string, level slog.Level) *slog.Logger {
	o := &slog.HandlerOptions{Level: level}
	if format == "json" {
		o.ReplaceAttr = func(_ []string, a slog.Attr) slog.Attr {
			if a.Value.Kind() == slog.KindDuration { // else it is a number of nanoseconds
				a.Value = slog.StringValue(a.Value.String())
			}
			return a
		}
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}
