package status

import (
	"time"

	"github.com/urfave/cli/v2"

	"fairlead/cmd/internal/command"
	"fairlead/userspace/kernel"
)

// Command returns the verb status; inKernel is [kernel.Status].
func Command(inKernel func(dir string) (*kernel.View, error), now func() time.Time) *cli.Command {
	return &cli.Command{
		Name:  "status",
		Usage: "show what is attached, who keeps health, and what serves each service",
		Flags: []cli.Flag{command.PinDirFlag(), command.RunDirFlag(), command.OutputFlag()},
		Action: func(c *cli.Context) error {
			s, err := Read(c.String("pin-dir"), c.String("run-dir"), now(), inKernel)
			if err != nil {
				return err
			}
			if command.JSON(c) {
				return command.WriteJSON(c.App.Writer, s)
			}
			return s.Write(c.App.Writer)
		},
	}
}
