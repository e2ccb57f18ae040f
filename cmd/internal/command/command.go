// Package command is what the loader's and the agent's command lines share:
// strict reading of arguments, flags and their environment variables, exit
// statuses, signals, and tables or JSON on standard output.
//
// It does no work of a command. Nothing in it exits but [Main]'s caller and a
// second signal, so that tests run any command in their own process.
package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"

	"fairlead/loader"
	"fairlead/userspace/config"
	"fairlead/userspace/kernel"
	"fairlead/userspace/state"
)

// ErrUsage is wrapped by errors that are the caller's typing mistakes.
var ErrUsage = errors.New("wrong usage")

// ErrRefused is wrapped by errors of requests that somebody, or the state of things,
// refuses.
var ErrRefused = errors.New("refused")

// refusedError is an error of [Refused].
type refusedError struct{ error }

func (e refusedError) Unwrap() []error { return []error{ErrRefused, e.error} }

// Refused returns err as one that wraps [ErrRefused].
func Refused(err error) error { return refusedError{err} }

// ErrChanges says that something would change, to a caller who asked for a status
// of its own for that. Nothing is printed.
var ErrChanges = errors.New("something would change")

// usageError is an error of [Usagef].
type usageError struct{ error }

func (e usageError) Unwrap() []error { return []error{ErrUsage, e.error} }

// Usagef returns an error that wraps [ErrUsage] and says only what it is given.
func Usagef(format string, a ...any) error { return usageError{fmt.Errorf(format, a...)} }

// App returns a program whose verbs are commands. It writes to out and errOut
// only, never exits, and prints help only when it is asked to.
func App(name, usage string, out, errOut io.Writer, commands ...*cli.Command) *cli.App {
	app := &cli.App{
		Name:            name,
		Usage:           usage,
		Version:         Version,
		Writer:          out,
		ErrWriter:       errOut,
		Commands:        commands,
		HideHelpCommand: true,
		// Names of interfaces may hold commas.
		DisableSliceFlagSeparator: true,
		// Only main exits: by default cli calls os.Exit for some errors,
		// which would end a test too.
		ExitErrHandler: func(*cli.Context, error) {},
		OnUsageError:   onUsageError,
	}
	prepare(commands)
	return app
}

// prepare does for commands and their subcommands what App does for an app:
// none inherits it.
func prepare(commands []*cli.Command) {
	for _, c := range commands {
		c.OnUsageError = onUsageError
		c.HideHelpCommand = true
		prepare(c.Subcommands)
	}
}

// wrongValue is what the library says of a value that a flag cannot have.
var wrongValue = regexp.MustCompile(`^invalid value (".*") for flag -([a-z-]+): `)

// onUsageError gets what [checkArgs] lets pass: values of the wrong kind.
func onUsageError(c *cli.Context, err error, _ bool) error {
	if m := wrongValue.FindStringSubmatch(err.Error()); m != nil {
		switch findFlag(c.Command.Flags, m[2]).(type) {
		case *cli.UintFlag, *cli.Uint64Flag:
			return Usagef("--%s is %s: use a whole number, 0 or more", m[2], m[1])
		case *cli.DurationFlag:
			return Usagef("--%s is %s: use a time, such as 10s", m[2], m[1])
		}
	}
	return Usagef("%w; try %s --help", err, c.Command.HelpName)
}

// Main runs app with the process's arguments and returns its exit status. The
// first SIGINT or SIGTERM ends the context of the command, a second one the
// process.
func Main(app *cli.App) int {
	ctx, stop := Signals(context.Background())
	defer stop()
	return Run(ctx, app, os.Args)
}

// Run runs app with args, the first of which is its name, and returns the exit
// status: 0 done, 1 failed while running, 2 wrong usage or configuration, 3
// conflict or refused, 4 for [ErrChanges]. An error is printed, in one line, or one for each fault
// of a configuration.
func Run(ctx context.Context, app *cli.App, args []string) int {
	if len(args) > 1 && args[1] == completeVerb {
		complete(app, args[2:])
		return 0
	}
	ordered, err := checkArgs(app, args[1:])
	if err == nil {
		err = app.RunContext(ctx, append([]string{args[0]}, ordered...))
	}
	if err == nil {
		return 0
	}
	if errors.Is(err, ErrChanges) {
		return 4
	}
	code, next := judge(err)
	text := err.Error()
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		text = strings.TrimSuffix(text, context.Canceled.Error())
		next = "interrupted: run it again to finish or mend"
	}
	if text != err.Error() {
		text += next
	} else if next != "" {
		text += "; " + next
	}
	for line := range strings.Lines(text) {
		fmt.Fprintf(app.ErrWriter, "%s: %s\n", app.Name, strings.TrimRight(line, "\n"))
	}
	return code
}

// judge returns the exit status for err and what to do next, if err does not
// say that itself.
func judge(err error) (code int, next string) {
	for _, o := range []struct {
		err  error
		code int
		next string
	}{
		{ErrUsage, 2, ""},
		{ErrRefused, 3, ""},
		{config.ErrInvalid, 2, ""},
		{kernel.ErrNoInterfaces, 2, ""},
		{loader.ErrNoInterface, 2, "ip link shows those that there are"},
		{loader.ErrNoBPFFS, 2, ""},
		{loader.ErrForeign, 3, "take it out first; --force replaces one that no link holds"},
		{loader.ErrLocked, 3, "try again when that one is done"},
		{state.ErrInUse, 3, ""},
		{syscall.EADDRINUSE, 3, ""},
		{loader.ErrMode, 3, "use --mode auto, or another interface"},
		{kernel.ErrConflict, 3, ""},
		{kernel.ErrOtherConfig, 3, ""},
		{kernel.ErrAgentDetached, 3, ""},
		{kernel.ErrForwarding, 3, ""},
		{kernel.ErrNoIPv6, 3, ""},
		{kernel.ErrFullNAT, 3, ""},
		{kernel.ErrCookies, 3, ""},
		{loader.ErrProgram, 3, ""},
		{loader.ErrNotAttached, 1, "loader status shows what is attached"},
	} {
		if errors.Is(err, o.err) {
			return o.code, o.next
		}
	}
	return 1, ""
}
