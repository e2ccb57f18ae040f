package main

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"fairlead/cmd/internal/command"
)

func detachCommand(w world) *cli.Command {
	return &cli.Command{
		Name:  "detach",
		Usage: "take interfaces out; with the last one nothing is left behind",
		Description: "While an agent runs, its proxy gets the new flows first, and known ones may go\n" +
			"on until --grace is over. An interface that is taken out with --interface stays\n" +
			"out until it is attached again or that agent reads its configuration anew.",
		Flags: []cli.Flag{
			command.InterfaceFlag("take out only `NAME`, which may be repeated"),
			command.Bool("all", "take out every interface; so it is without --interface"),
			command.GraceFlag("let known flows go on for `TIME` at most"),
			command.PinDirFlag(),
		},
		Action: func(c *cli.Context) error { return runDetach(c, w) },
	}
}

func runDetach(c *cli.Context, w world) error {
	interfaces := command.Interfaces(c)
	if c.Bool("all") && len(interfaces) > 0 {
		return command.Usagef("--all and --interface exclude each other: use one of them")
	}
	said := -1
	progress := func(flows int) {
		if flows != said && flows > 0 {
			fmt.Fprintf(w.errOut, "loader: waiting for %s\n", count(flows, "flow"))
		}
		said = flows
	}
	if err := w.detach(c.Context, c.String("pin-dir"), interfaces, c.Duration("grace"), progress); err != nil {
		return err
	}
	what := "everything"
	if len(interfaces) > 0 {
		what = strings.Join(interfaces, ", ")
	}
	if _, err := fmt.Fprintf(w.out, "detached: %s\n", what); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}
