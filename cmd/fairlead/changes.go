package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/urfave/cli/v2"

	"fairlead/client"
	"fairlead/cmd/internal/command"
	"fairlead/userspace/admin/adminpb"
	"fairlead/userspace/config"
	"fairlead/userspace/control"
)

func applyCommand(w world) *cli.Command {
	return &cli.Command{
		Name:  "apply",
		Usage: "put a whole configuration in the place of a running agent's",
		Description: "What the agent was told before is over, except what the configuration has. Its own file\n" +
			"counts again after --reset.",
		Flags: remoteFlags(
			own("config", "the configuration is in `FILE`; - is standard input"), &cli.BoolFlag{Name: "reset", Usage: "take back all changes: the agent's file counts alone again"},
			forceFlag(), expectFlag(), command.OutputFlag(),
		),
		Action: remote(func(c *cli.Context, lb *client.Client) error {
			text, did, err := configuration(c, w.in)
			if err != nil {
				return err
			}
			made, err := lb.Apply(c.Context, &adminpb.ApplyRequest{Configuration: text, Expect: c.Uint64("expect"), Force: c.Bool("force")})
			if err != nil {
				return inFile(c.String("config"), err)
			}
			return writeRevision(c, w, made, did)
		}),
	}
}

// configuration returns what is to be applied; "" is the agent's own file.
func configuration(c *cli.Context, in io.Reader) (text, did string, err error) {
	path := c.String("config")
	switch {
	case c.Bool("reset") && c.IsSet("config"):
		return "", "", command.Usagef("--reset and --config exclude each other: give one")
	case c.Bool("reset"):
		return "", "the agent's file is in force", nil
	case path == "":
		return "", "", command.Usagef("--config is missing: name the configuration file, or take all changes back by --reset; try %s --help", c.Command.HelpName)
	}
	data, err := readConfiguration(path, in)
	if err != nil {
		return "", "", command.Usagef("--config: %w", err)
	}
	if path == standardInput {
		path = "standard input"
	}
	if len(strings.TrimSpace(string(data))) == 0 {
		return "", "", command.Usagef("--config: %s is empty; --reset takes all changes back", path)
	}
	return string(data), path + " is in force", nil
}

// inFile has faults of a configuration, which the agent has no name for, name its file.
func inFile(path string, err error) error {
	var e *connect.Error
	if path == standardInput {
		path = "standard input"
	}
	if path == "" || !errors.As(err, &e) || e.Code() != connect.CodeInvalidArgument {
		return err
	}
	lines := strings.Split(e.Message(), "\n")
	for i, line := range lines {
		if rest, ok := strings.CutPrefix(line, control.Applied+":"); ok {
			lines[i] = path + ":" + rest
		}
	}
	return connect.NewError(e.Code(), errors.New(strings.Join(lines, "\n")))
}

// standardInput is what --config calls it.
const standardInput = "-"

func readConfiguration(path string, in io.Reader) ([]byte, error) {
	if path == standardInput {
		return io.ReadAll(in)
	}
	return config.ReadFile(path)
}

func rollbackCommand(w world) *cli.Command {
	return &cli.Command{
		Name:      "rollback",
		Usage:     "restore the configuration of a revision in a running agent; fairlead history lists them",
		ArgsUsage: "N",
		Flags:     remoteFlags(expectFlag(), command.OutputFlag()),
		Action: remote(func(c *cli.Context, lb *client.Client) error {
			n, err := strconv.ParseUint(c.Args().First(), 10, 64)
			if err != nil || n == 0 {
				return command.Usagef("%q is not the number of a revision: fairlead history shows those that there are", c.Args().First())
			}
			made, err := lb.Rollback(c.Context, &adminpb.RollbackRequest{Revision: n, Expect: c.Uint64("expect")})
			if err != nil {
				return err
			}
			return writeRevision(c, w, made, fmt.Sprintf("the configuration of revision %d is in force", n))
		}),
	}
}

func exportCommand(w world) *cli.Command {
	return &cli.Command{
		Name:  "export",
		Usage: "print the configuration that is in force in a running agent, as YAML",
		Flags: remoteFlags(command.OutputFlag()),
		Action: remote(func(c *cli.Context, lb *client.Client) error {
			export, err := lb.Export(c.Context, &adminpb.ExportRequest{})
			if err != nil {
				return err
			}
			return write(c, w.out, export, func() error { return printf(w.out, "%s", export.GetConfiguration()) })
		}),
	}
}

func historyCommand(w world) *cli.Command {
	return &cli.Command{
		Name:  "history",
		Usage: "list the changes of a running agent, the newest first",
		Flags: remoteFlags(
			&cli.UintFlag{Name: "limit", Value: 20, Usage: "list `N` revisions at most, 1 to 1000", Action: limitAction},
			&cli.Uint64Flag{Name: "before", Usage: "begin with the one before revision `N`"},
			&cli.BoolFlag{Name: "diff", Usage: "show what became different, too"}, command.OutputFlag(),
		),
		Action: remote(func(c *cli.Context, lb *client.Client) error {
			list, err := lb.ListHistory(c.Context, &adminpb.ListHistoryRequest{Before: c.Uint64("before"), Limit: uint32(c.Uint("limit"))})
			if err != nil {
				return err
			}
			return write(c, w.out, list, func() error { return writeHistory(c, w, list.GetRevisions()) })
		}),
	}
}

// limitAction refuses what the agent does not give at once.
func limitAction(_ *cli.Context, n uint) error {
	if n == 0 || n > 1000 {
		return command.Usagef("--limit is %d: use 1 to 1000, and --before for those before them", n)
	}
	return nil
}

func writeHistory(c *cli.Context, w world, all []*adminpb.Revision) error {
	if !c.Bool("diff") {
		var rows [][]string
		for _, r := range all {
			rows = append(rows, []string{strconv.FormatUint(r.GetRevision(), 10), clock(w, r.GetTime()), r.GetWho(), revisionText(r)})
		}
		return command.WriteTable(w.out, []string{"REVISION", "TIME", "WHO", "CHANGE"}, rows)
	}
	for _, r := range all {
		if err := printf(w.out, "revision %d, %s, %s: %s\n%s\n", r.GetRevision(), clock(w, r.GetTime()), r.GetWho(), revisionText(r), indented(r.GetDifference())); err != nil {
			return err
		}
	}
	return nil
}

// indented sets text off.
func indented(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString("    " + line)
	}
	return b.String()
}

// revisionText says in a line what a revision did.
func revisionText(r *adminpb.Revision) string {
	if r.GetRollback() != 0 {
		return fmt.Sprintf("rollback to %d", r.GetRollback())
	}
	switch {
	case len(r.GetEdits()) == 0 && r.GetRevision() == 1:
		return "the file"
	case len(r.GetEdits()) == 0:
		return "the file has changed"
	}
	words := make([]string, len(r.GetEdits()))
	for i, e := range r.GetEdits() {
		words[i] = editText(e)
	}
	return strings.Join(words, "; ")
}

// editText says in a few words what an edit does.
func editText(e *adminpb.Edit) string {
	words := []string{e.GetOp(), e.GetService(), e.GetMatch(), e.GetPool(), e.GetBackend(), strings.Join(e.GetBackends(), ",")}
	if e.Weight != nil {
		words = append(words, strconv.Itoa(int(e.GetWeight())))
	}
	return oneLine(strings.Join(words, " "))
}

func watchCommand(w world) *cli.Command {
	return &cli.Command{
		Name:  "watch",
		Usage: "show what changes in a running agent, until Ctrl-C; as JSON, one event in a line",
		Flags: remoteFlags(command.OutputFlag()),
		Action: remote(func(c *cli.Context, lb *client.Client) error {
			err := watch(c, w, lb)
			if c.Err() != nil && (errors.Is(err, context.Canceled) || connect.CodeOf(err) == connect.CodeCanceled) {
				return nil // asked to end
			}
			return err
		}),
	}
}

// An agent that ends may have a successor: another process that takes over, or itself
// after a restart. For so long it is awaited, and so often asked for.
const (
	successorTime = 5 * time.Second
	successorTick = 100 * time.Millisecond
)

// watch prints events of an agent, and of those that come after it, until there is none.
// That is an error, which says how the last one ended.
func watch(c *cli.Context, w world, lb *client.Client) error {
	begun, ended := watchOne(c, w, lb)
	for since := time.Now(); begun && away(ended) && time.Since(since) < successorTime; {
		select {
		case <-c.Done():
			return c.Err()
		case <-time.After(successorTick):
		}
		if again, err := watchOne(c, w, lb); again || !away(err) {
			ended, since = err, time.Now()
		}
	}
	return ended
}

// away reports whether an agent is not there, or not yet: it has said so, or no more. What
// is no error of a call is of this process.
func away(err error) bool {
	var call *connect.Error
	if !errors.As(err, &call) {
		return errors.Is(err, io.ErrUnexpectedEOF)
	}
	return call.Code() == connect.CodeUnavailable || !connect.IsWireError(err)
}

// watchOne prints events until the agent ends, and reports whether it told any.
func watchOne(c *cli.Context, w world, lb *client.Client) (begun bool, err error) {
	stream, err := lb.Watch(c.Context, &adminpb.WatchRequest{})
	if err != nil {
		return false, err
	}
	defer stream.Close()
	for stream.Receive() {
		begun = true
		if err := writeEvent(c, w, stream.Msg()); err != nil {
			return begun, err
		}
	}
	return begun, cmp.Or(stream.Err(), io.ErrUnexpectedEOF)
}

func writeEvent(c *cli.Context, w world, e *adminpb.Event) error {
	if command.JSON(c) {
		line, err := jsonLine(e)
		if err != nil {
			return err
		}
		return printf(w.out, "%s\n", line)
	}
	return printf(w.out, "%s  %s\n", clock(w, e.GetTime()), eventText(e))
}

// eventText says in a line what has happened.
func eventText(e *adminpb.Event) string {
	change := fmt.Sprintf("%s -> %s", cmp.Or(e.GetFrom(), "(new)"), cmp.Or(e.GetTo(), "(gone)"))
	if e.GetReason() != "" {
		change += ": " + oneLine(e.GetReason())
	}
	switch e.GetKind() {
	case "begin":
		return fmt.Sprintf("revision %d is in force", e.GetRevision())
	case "revision":
		return fmt.Sprintf("revision %d by %s: %s", e.GetRevision(), e.GetChange().GetWho(), revisionText(e.GetChange()))
	case "service":
		return fmt.Sprintf("service %s: %s", e.GetService(), change)
	case "backend":
		return fmt.Sprintf("backend %s of pool %s: %s", e.GetBackend(), e.GetPool(), change)
	case "config":
		return "configuration file: " + cmp.Or(oneLine(e.GetReason()), "good again")
	}
	return e.GetKind()
}
