// Command dummyserver is the backend of demonstrations and tests: it answers
// HTTP and UDP on one port with its message, the client address that it saw
// and what was sent. It is not a server for anything else.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"syscall"

	"github.com/urfave/cli/v2"
)

// errUsage is wrapped by errors that are the caller's typing mistakes.
var errUsage = errors.New("wrong usage")

// newApp returns the command line. It reaches the world only through its
// arguments, so that a test can run it in its own process.
func newApp(out, errOut io.Writer, getenv func(string) string) *cli.App {
	return &cli.App{
		Name:      "dummyserver",
		Usage:     "answer HTTP and UDP with a message, the client's address and what it sent",
		UsageText: "dummyserver [--port PORT] [--message TEXT] [--register URL --token-file FILE]",
		Description: "The environment variables PORT and MESSAGE win over the flags, if they are set\n" +
			"and not empty. /health, /healthz and /healthcheck answer ok.",
		Writer:          out,
		ErrWriter:       errOut,
		HideHelpCommand: true,
		// Only main exits: by default cli calls os.Exit for some errors,
		// which would end a test too.
		ExitErrHandler: func(*cli.Context, error) {},
		OnUsageError: func(_ *cli.Context, err error, _ bool) error {
			return fmt.Errorf("%w: %w; try dummyserver --help", errUsage, err)
		},
		// The library's own variables for flags lose to flags, so these do
		// without.
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "port", Value: "9000", Usage: "listen on `PORT`, TCP and UDP; 0 lets the system choose; the variable PORT wins"},
			&cli.StringFlag{Name: "message", Value: "dummyserver", Usage: "answer with `TEXT`; the variable MESSAGE wins"},
			&cli.StringFlag{Name: "register", Usage: "be a backend of the balancer at `URL` while running"},
			&cli.StringFlag{Name: "token-file", Usage: "register with the token in `FILE`"},
		},
		Action: func(c *cli.Context) error {
			if c.NArg() > 0 {
				return fmt.Errorf("%w: unexpected argument %q; try dummyserver --help", errUsage, c.Args().First())
			}
			port, err := portOf(c.String("port"), getenv("PORT"))
			if err != nil {
				return err
			}
			message := c.String("message")
			if s := getenv("MESSAGE"); s != "" {
				message = s
			}
			s, err := listen(c.Context, port, message)
			if err != nil {
				return err
			}
			o, err := registration(c.String("register"), c.String("token-file"), s.port(), errOut)
			if err != nil {
				return errors.Join(err, s.close())
			}
			fmt.Fprintf(out, "dummyserver %q listens on port %d, HTTP and UDP\n", message, s.port())
			if o != nil {
				return s.runRegistered(c.Context, o)
			}
			return s.run(c.Context)
		},
	}
}

// portOf returns the port that env or else flag names.
func portOf(flag, env string) (uint16, error) {
	text, from := flag, "--port"
	if env != "" {
		text, from = env, "the environment variable PORT"
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return 0, fmt.Errorf("%w: %s is %q: use a number from 0 to 65535", errUsage, from, text)
	}
	return uint16(n), nil
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := exitCode(os.Stderr, newApp(os.Stdout, os.Stderr, os.Getenv).RunContext(ctx, os.Args))
	stop()
	os.Exit(code)
}

// exitCode prints err in one line and returns the status to exit with.
func exitCode(errOut io.Writer, err error) int {
	if err == nil {
		return 0
	}
	fmt.Fprintln(errOut, "dummyserver:", err)
	if errors.Is(err, errUsage) {
		return 2
	}
	return 1
}
