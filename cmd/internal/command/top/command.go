package top

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"fairlead/cmd/internal/command"
	"fairlead/cmd/internal/command/status"
	"fairlead/userspace/kernel"
)

// leastInterval is the shortest time between two samples.
const leastInterval = 100 * time.Millisecond

// An Elsewhere is how an agent is asked that may be on another host.
type Elsewhere struct {
	Flags []cli.Flag
	// Ask returns how things stand there; it is nil where the flags name no agent. The
	// caller calls done at the end.
	Ask func(c *cli.Context) (read func() (*status.Status, error), done func(), err error)
}

// Command returns the verb top; inKernel is [kernel.Status].
func Command(inKernel func(dir string) (*kernel.View, error), now func() time.Time, elsewhere Elsewhere) *cli.Command {
	return &cli.Command{
		Name:  "top",
		Usage: "show rates, flows and health of services and backends as they change",
		Flags: append([]cli.Flag{
			command.Bool("batch", "print lines instead of drawing on the terminal"),
			intervalFlag(),
			command.Uint("count", 0, "end after `N` samples; 0 goes on until it is ended"),
			command.Choice("sort", orders[0].name, "sort by `KEY`: "+orderNames(), names()...),
			command.PinDirFlag(), command.RunDirFlag(), command.OutputFlag(),
		}, elsewhere.Flags...),
		Action: func(c *cli.Context) error {
			t := &top{
				out: c.App.Writer, now: now, interval: c.Duration("interval"), count: c.Uint("count"),
				order: slices.IndexFunc(orders, func(o order) bool { return o.name == c.String("sort") }),
			}
			ask, done, err := elsewhere.Ask(c)
			if err != nil {
				return err
			}
			defer done()
			if t.ask = ask; ask == nil {
				t.ask = here(c.String("pin-dir"), c.String("run-dir"), now, inKernel)
			}
			return t.run(c)
		},
	}
}

func (t *top) run(c *cli.Context) error {
	switch {
	case c.Bool("batch"):
		return t.batch(c.Context, command.JSON(c))
	case command.JSON(c):
		return command.Usagef("--output json is for --batch: use both")
	case !isTerminal(t.out):
		return command.Usagef("standard output is no terminal: use --batch")
	}
	return t.interactive(c.Context)
}

func intervalFlag() cli.Flag {
	return &cli.DurationFlag{
		Name: "interval", Value: time.Second, Usage: "take a sample each `TIME`", EnvVars: []string{"FAIRLEAD_INTERVAL"},
		Action: func(_ *cli.Context, d time.Duration) error {
			if d < leastInterval {
				return command.Usagef("--interval is %s: use a time of %s or more", d, leastInterval)
			}
			return nil
		},
	}
}

// A top takes one sample after the other.
type top struct {
	out      io.Writer
	now      func() time.Time
	ask      func() (*status.Status, error)
	interval time.Duration
	count    uint
	order    int // index of orders
	last     *reading
}

// start takes the first reading. It fails if there is nothing to look at.
func (t *top) start() error {
	t.last = t.read()
	return t.last.err
}

// sample takes one more reading and returns how things went since the last one.
func (t *top) sample() *Sample {
	before := t.last
	t.last = t.read()
	s := t.last.since(before)
	sortSample(s, orders[t.order])
	return s
}

func (t *top) read() *reading {
	s, err := t.ask()
	return newReading(s, err, t.now())
}

// here asks what there is on this host.
func here(pinDir, runDir string, now func() time.Time, inKernel func(dir string) (*kernel.View, error)) func() (*status.Status, error) {
	return func() (*status.Status, error) {
		var kernelErr error
		s, err := status.Read(pinDir, runDir, now(), func(dir string) (v *kernel.View, err error) {
			v, kernelErr = inKernel(dir)
			return v, kernelErr
		})
		if err == nil && s.Agent == nil {
			err = kernelErr // else an agent tells something
		}
		return s, err
	}
}

// each calls f with each sample until ctx is done, or there were as many as
// asked for.
func (t *top) each(ctx context.Context, f func(*Sample) error) error {
	tick := time.NewTicker(t.interval)
	defer tick.Stop()
	for n := uint(0); t.count == 0 || n < t.count; n++ {
		select {
		case <-ctx.Done():
			return nil // asked to end
		case <-tick.C:
		}
		if err := f(t.sample()); err != nil {
			return fmt.Errorf("print: %w", err)
		}
	}
	return nil
}
