package main

import (
	"fmt"
	"runtime"

	"github.com/urfave/cli/v2"

	"fairlead/cmd/internal/command"
)

func versionCommand(w world) *cli.Command {
	return &cli.Command{
		Name:  "version",
		Usage: "print the version",
		Action: func(*cli.Context) error {
			_, err := fmt.Fprintf(w.out, "fairlead %s, %s/%s\n", command.Version, runtime.GOOS, runtime.GOARCH)
			if err != nil {
				return fmt.Errorf("print: %w", err)
			}
			return nil
		},
	}
}
