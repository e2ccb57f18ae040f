package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"

	"fairlead/cmd/internal/command"
	"fairlead/loader"
	"fairlead/userspace/kernel"
	"fairlead/userspace/model"
	"fairlead/userspace/names"
)

func attachCommand(w world) *cli.Command {
	return &cli.Command{
		Name:  "attach",
		Usage: "attach a configuration, or upgrade what is attached in place",
		Description: "Needs no agent: without one every backend counts as up. While one runs, only\n" +
			"the program is brought up to date.",
		Flags: []cli.Flag{
			command.ConfigFlag(),
			command.InterfaceFlag("attach `NAME`, which may be repeated, instead of the configuration's interfaces"),
			command.ModeFlag(),
			command.Bool("force", "replace a foreign XDP program, and take over ports that this host listens on"),
			command.Bool("set-sysctl", "switch forwarding on where it is off, until detach"),
			command.Bool("resize-flows", "give the flow table the configured size, which drops its flows"),
			command.PinDirFlag(),
		},
		Action: func(c *cli.Context) error { return runAttach(c, w) },
	}
}

func runAttach(c *cli.Context, w world) error {
	path, state, err := command.State(c, w.exists)
	if err != nil {
		return err
	}
	mode := command.Mode(c)
	if state.XDP == model.XDPOff && mode == "" {
		return command.Usagef("%s says xdp: off, so there is nothing to attach: change it, or use --mode", path)
	}
	found, err := names.Lookup(c.Context, &state)
	if err != nil {
		return err
	}
	r, err := w.attach(c.Context, found, kernel.Options{
		Dir:         c.String("pin-dir"),
		Interfaces:  state.Interfaces,
		Mode:        mode,
		Force:       c.Bool("force"),
		SetSysctl:   c.Bool("set-sysctl"),
		ResizeFlows: c.Bool("resize-flows"),
		Config:      path,
		Warn:        func(text string) { warn(w.errOut, text) },
	})
	if err != nil {
		return err
	}
	for _, text := range append(doubts(w, *found, &r), changes(&r)...) {
		warn(w.errOut, text)
	}
	return writeReport(w.out, found, &r)
}

func warn(errOut io.Writer, text string) { fmt.Fprintln(errOut, "loader: warning:", text) }

// doubts returns a line for each thing on this host that may keep what was
// attached from working.
func doubts(w world, state model.State, r *kernel.Report) []string {
	var names []string
	state.XDP = model.XDPGeneric
	for _, i := range r.Interfaces {
		names = append(names, i.Name)
		if i.Mode == loader.AttachNative {
			state.XDP = model.XDPNative
		}
	}
	lines, err := w.look(&state, names)
	if err != nil {
		lines = append(lines, fmt.Sprintf("cannot look at this host: %v", err))
	}
	return lines
}

// changes returns a line for each thing that is not as people may expect.
func changes(r *kernel.Report) (lines []string) {
	add := func(format string, a ...any) { lines = append(lines, fmt.Sprintf(format, a...)) }
	if r.Mended != "" {
		add("mended what a killed command had left: %s", r.Mended)
	}
	if len(r.Dropped) > 0 {
		add("this version has another layout, or no IPv6 to serve: the contents of %s were dropped", strings.Join(r.Dropped, ", "))
	}
	if r.FlowsDropped > 0 {
		add("%d flows were dropped with their table", r.FlowsDropped)
	}
	for _, i := range r.Interfaces {
		if i.Mode == loader.AttachGeneric && i.Reason != "" {
			add("%s runs generic XDP, which is slower: %s", i.Name, i.Reason)
		}
	}
	if r.AgentPID != 0 {
		add("the agent (process %d) keeps the maps: only the program was brought up to date", r.AgentPID)
	}
	return lines
}

// writeReport prints what was attached, and how.
func writeReport(w io.Writer, state *model.State, r *kernel.Report) error {
	rows := make([][]string, len(r.Interfaces))
	for i, f := range r.Interfaces {
		before := "new"
		if f.Already {
			before = "attached before"
		}
		rows[i] = []string{f.Name, string(f.Mode), before, f.Reason}
	}
	if err := command.WriteTable(w, []string{"INTERFACE", "MODE", "LINK", "REASON"}, rows); err != nil {
		return err
	}
	for _, g := range r.Grown {
		if _, err := fmt.Fprintf(w, "map %s grew from %d to %d entries\n", g.Map, g.From, g.To); err != nil {
			return fmt.Errorf("print: %w", err)
		}
	}
	done := map[loader.Outcome]string{
		loader.OutcomeNew: "attached", loader.OutcomeUpgraded: "upgraded", loader.OutcomeUnchanged: "up to date",
	}[r.Outcome]
	backends := 0
	for i := range state.Services {
		backends += len(state.Services[i].Backends)
	}
	_, err := fmt.Fprintf(w, "%s: %s, %s\n", done, count(len(state.Services), "service"), count(backends, "backend"))
	if err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
