package main

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"fairlead/client"
	"fairlead/cmd/internal/command"
	"fairlead/cmd/internal/command/status"
	"fairlead/userspace/admin/adminpb"
	"fairlead/userspace/datapath"
	"fairlead/userspace/kernel"
	"fairlead/userspace/model"
	"fairlead/userspace/names"
)

func planCommand(w world) *cli.Command {
	return &cli.Command{
		Name:  "plan",
		Usage: "show what a configuration would change in what is attached now; change nothing",
		Description: "Says what a reload by the agent, or loader attach where none runs, would do to the\n" +
			"tables of the kernel. What the agent alone goes by, such as health, drain, slow-start,\n" +
			"passive-threshold, passive-resets and xdp, is not compared. Whether the configuration\n" +
			"is good for this host is what check says. Changes of the agent that stand on top of the\n" +
			"file are part of it, and named.\n\n" +
			"With --live it is the agent who says what fairlead apply would make different in its\n" +
			"configuration.",
		Flags: remoteFlags(
			command.ConfigFlag(),
			command.InterfaceFlag("assume that XDP attaches to `NAME`, which may be repeated, instead of the configuration's interfaces"),
			command.Bool("exit-code", "end with status 4 if something would change in the kernel, or the agent's configuration"),
			&cli.BoolFlag{Name: "live", Usage: "ask the agent what would be different in its configuration"},
			command.PinDirFlag(), stateDirFlag("read the changes that the agent keeps in"), command.OutputFlag(),
		),
		Action: func(c *cli.Context) error {
			if c.Bool("live") {
				return planLive(w)(c)
			}
			return plan(c, w)
		},
	}
}

// planLive has the agent say what a configuration would change.
func planLive(w world) cli.ActionFunc {
	return remote(func(c *cli.Context, lb *client.Client) error {
		text, _, err := configuration(c, w.in)
		if err != nil {
			return err
		}
		apply := &adminpb.Edit{Op: "apply", Spec: text}
		would, err := lb.Plan(c.Context, &adminpb.ChangeRequest{Edits: []*adminpb.Edit{apply}})
		if err != nil {
			return inFile(c.String("config"), err)
		}
		difference := cmp.Or(would.GetDifference(), "no changes in the agent's configuration\n")
		if err := write(c, w.out, would, func() error { return printf(w.out, "%s", difference) }); err != nil {
			return err
		}
		if c.Bool("exit-code") && would.GetDifference() != "" {
			return command.ErrChanges
		}
		return nil
	})
}

func plan(c *cli.Context, w world) error {
	path, state, err := command.State(c, w.exists)
	if err != nil {
		return err
	}
	conf := state.Agent
	state, edited, err := onTop(c, w.errOut, path, state)
	if err != nil {
		return err
	}
	if state.XDP == model.XDPOff {
		return planWithout(c, w, edited)
	}
	pinDir := command.PinDir(c, &conf)
	agent := status.Agent(cmp.Or(c.String("run-dir"), conf.RunDir), pinDir)
	found, err := names.Lookup(c.Context, &state)
	if err != nil {
		return err
	}
	p, err := w.plan(c.Context, pinDir, found, toldBy(agent, found))
	if err != nil {
		return err
	}
	if p.AgentPID != 0 && (agent == nil || agent.PID != p.AgentPID) {
		fmt.Fprintf(w.errOut, "fairlead: warning: the view of the agent, process %d, is not there: who is down, and shares of weights, may be others (--run-dir)\n", p.AgentPID)
	}
	if command.JSON(c) {
		err = command.WriteJSON(w.out, struct {
			*kernel.Plan
			overlay
		}{p, edited})
	} else if err = writePlan(w.out, p); err == nil {
		err = printf(w.out, "%s", edited.words())
	}
	if err == nil && c.Bool("exit-code") && !p.Empty() {
		return command.ErrChanges
	}
	return err
}

// planWithout says what decides about a configuration of which nothing is in the
// kernel.
func planWithout(c *cli.Context, w world, edited overlay) error {
	if command.JSON(c) {
		return command.WriteJSON(w.out, struct {
			XDP model.XDPMode `json:"xdp"`
			overlay
		}{model.XDPOff, edited})
	}
	return printf(w.out, "xdp is off: nothing of this configuration is in the kernel\n%s", edited.words())
}

// marks stand before what comes, goes or changes.
var marks = map[datapath.Change]string{datapath.Added: "+", datapath.Removed: "-", datapath.Changed: "~"}

// writePlan prints p for people.
func writePlan(w io.Writer, p *kernel.Plan) error {
	var b strings.Builder
	switch {
	case p.Empty():
		b.WriteString("no changes in the kernel\n")
	case !p.Attached:
		b.WriteString("nothing is attached: all of it is new\n")
	}
	for _, i := range p.Interfaces {
		fmt.Fprintf(&b, "%s interface %s\n", marks[i.Change], i.Name)
	}
	for _, a := range p.Addresses {
		fmt.Fprintf(&b, "%s address %s", marks[a.Change], a.Address)
		if a.Interface != "" {
			fmt.Fprintf(&b, " on %s", a.Interface)
		}
		b.WriteByte('\n')
	}
	for _, d := range p.Devices {
		fmt.Fprintf(&b, "%s way out of XDP: %s, index %d\n", marks[d.Change], cmp.Or(d.Name, "an interface that is gone"), d.Ifindex)
	}
	for _, f := range p.Settings {
		fmt.Fprintf(&b, "~ %s: %s -> %s\n", f.Field, f.From, f.To)
	}
	for i := range p.Services {
		writeServiceChange(&b, &p.Services[i])
	}
	for _, m := range p.Maps {
		switch {
		case !p.Attached:
		case m.From == 0:
			fmt.Fprintf(&b, "+ map %s: %d entries\n", m.Name, m.To)
		default:
			fmt.Fprintf(&b, "~ map %s: %d -> %d entries\n", m.Name, m.From, m.To)
		}
	}
	if p.Attached && !p.Empty() {
		fmt.Fprintf(&b, "in all: %s\n", shares(p.Flows, p.Slots))
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

func writeServiceChange(w io.Writer, s *datapath.ServiceChange) {
	fmt.Fprintf(w, "%s service %s, %s %s", marks[s.Change], s.Name, s.Protocol, s.Listen)
	if s.Change != datapath.Added {
		fmt.Fprintf(w, ": %s", shares(s.Flows, s.Slots))
	}
	fmt.Fprintln(w)
	for _, f := range s.Fields {
		fmt.Fprintf(w, "    ~ %s: %s -> %s\n", f.Field, f.From, f.To)
	}
	for _, b := range s.Backends {
		fmt.Fprintf(w, "    %s backend %s%s\n", marks[b.Change], b.Address, backendText(s, &b))
	}
}

// backendText says what becomes of a backend of a service.
func backendText(s *datapath.ServiceChange, b *datapath.BackendChange) string {
	switch {
	case b.Change == datapath.Added:
		return fmt.Sprintf(", weight %d", b.Weight)
	case b.Change == datapath.Removed:
		return fmt.Sprintf(", %d live flows", b.Live)
	case b.Leaves > 0:
		then := "reset"
		if s.Protocol == string(model.UDP) {
			then = "moved"
		}
		return fmt.Sprintf(": leaves within %s, %d live flows, %s then", time.Duration(b.Leaves*float64(time.Second)), b.Live, then)
	}
	words := make([]string, len(b.Fields))
	for i, f := range b.Fields {
		words[i] = fmt.Sprintf("%s %s -> %s", f.Field, f.From, f.To)
	}
	return ": " + strings.Join(words, ", ")
}

// shares says in a line what becomes of flows and slots.
func shares(f datapath.FlowShare, s datapath.SlotShare) string {
	return fmt.Sprintf("of %d live flows %d end (%s) and %d move (%s); of %d slots %s move (%s)",
		f.Live, f.Ended, percent(float64(f.Ended), f.Live), f.Moved, percent(float64(f.Moved), f.Live),
		s.Slots, strconv.FormatFloat(math.Round(100*s.Moved)/100, 'f', -1, 64), percent(s.Moved, s.Slots))
}

func percent(part float64, of int) string {
	if of == 0 {
		return "0 %"
	}
	return fmt.Sprintf("%.3g %%", 100*part/float64(of))
}
