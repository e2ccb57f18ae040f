package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"connectrpc.com/connect"
	"github.com/urfave/cli/v2"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"fairlead/client"
	"fairlead/cmd/internal/command"
	"fairlead/userspace/view"
)

// remoteFlags say which agent is spoken to, and how.
func remoteFlags(flags ...cli.Flag) []cli.Flag {
	return slices.Concat(flags, targetFlags(), []cli.Flag{command.RunDirFlag()})
}

// targetFlags are those that say it of any agent.
func targetFlags() []cli.Flag {
	return []cli.Flag{
		lbFlag(),
		command.String("lb-cert", "", "over TCP: this certificate is in `FILE`, as PEM"),
		command.String("lb-key", "", "over TCP: the key of the certificate is in `FILE`, as PEM"),
		command.String("lb-ca", "", "over TCP: the authority of the agent's certificate is in `FILE`, as PEM"),
	}
}

// lbFlag names the agent.
func lbFlag() cli.Flag {
	f := command.String("lb", "", "speak to the agent at `TARGET`: the path of its socket, or host:port with --lb-cert, --lb-key and --lb-ca")
	f.DefaultText = socketName + " in the run directory"
	return f
}

// socketName is what an agent listens on in its run directory.
const socketName = "admin.sock"

// own returns a flag that only the command line sets: what a change is about comes
// from nowhere else.
func own(name, usage string) *cli.StringFlag { return &cli.StringFlag{Name: name, Usage: usage} }

// remote is an action that speaks to an agent.
func remote(f func(c *cli.Context, lb *client.Client) error) cli.ActionFunc {
	return func(c *cli.Context) error {
		target := targetOf(c)
		lb, err := reach(c, target)
		if err != nil {
			return err
		}
		defer lb.Close()
		return said(target, f(c, lb))
	}
}

// reach returns a client of the agent that is meant.
func reach(c *cli.Context, target string) (*client.Client, error) {
	lb, err := client.New(target, client.TLS{Cert: c.String("lb-cert"), Key: c.String("lb-key"), CA: c.String("lb-ca")})
	switch {
	case errors.Is(err, client.ErrPlain):
		return nil, command.Usagef("--lb %s: TCP is spoken with TLS only: give host:port with --lb-cert, --lb-key and --lb-ca, or the path of a socket", target)
	case err != nil:
		return nil, command.Usagef("--lb: %w", err)
	}
	return lb, nil
}

// targetOf returns which agent is meant: what --lb says, or the one of the run
// directory, or of the one that there is by default.
func targetOf(c *cli.Context) string {
	if c.String("lb") != "" {
		return c.String("lb")
	}
	if c.String("run-dir") != "" {
		return filepath.Join(c.String("run-dir"), socketName)
	}
	path := filepath.Join(view.DefaultDir(), socketName)
	if _, err := os.Stat(path); err != nil {
		return filepath.Join(view.SystemDir, socketName)
	}
	return path
}

// flagsOf puts flags in the place of what the API calls them.
var flagsOf = strings.NewReplacer("filter.", "--", "; force takes it", "; --force takes it")

// said returns an error of a call in the agent's words.
func said(target string, err error) error {
	var e *connect.Error
	if !errors.As(err, &e) {
		return err
	}
	text := errors.New(flagsOf.Replace(e.Message()))
	switch e.Code() {
	case connect.CodeInvalidArgument, connect.CodeNotFound, connect.CodeResourceExhausted:
		return command.Usagef("%w", text)
	case connect.CodeAborted, connect.CodeAlreadyExists, connect.CodeFailedPrecondition:
		return command.Refused(text)
	case connect.CodePermissionDenied:
		return command.Refused(fmt.Errorf("%w; admin: in the agent's configuration says who may", text))
	case connect.CodeUnavailable:
		if connect.IsWireError(err) {
			return text // the agent itself says it
		}
		return unreached(target, err, text)
	}
	switch {
	case errors.Is(err, context.Canceled):
		return errInterrupted
	case !connect.IsWireError(err): // it has ended without a word
		return unreached(target, err, text)
	}
	return text
}

// errInterrupted is for who does not wait for the answer.
var errInterrupted = errors.New("interrupted before the agent has answered: fairlead history says whether a change was made")

// unreached returns why an agent was not reached, and what to do.
func unreached(target string, err, text error) error {
	var wrong *tls.CertificateVerificationError
	var op *net.OpError
	switch {
	case errors.Is(err, fs.ErrPermission):
		return command.Refused(fmt.Errorf("reach agent at %s: permission denied; admin: users and groups in its configuration say who may", target))
	case errors.As(err, &wrong):
		return command.Refused(fmt.Errorf("reach agent at %s: %w; --lb must be a name of its certificate, and --lb-ca the authority of that", target, wrong.Err))
	case errors.As(err, &op) && op.Net == "tcp" && (errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)):
		return command.Refused(fmt.Errorf("reach agent at %s: it has ended the connection: it may not take the certificate of --lb-cert; admin: client-ca in its configuration has the authorities", target))
	case errors.As(err, &op) && op.Op == "remote error":
		return command.Refused(fmt.Errorf("reach agent at %s: it does not take the certificate of --lb-cert: %w; admin: client-ca in its configuration has the authorities", target, op.Err))
	}
	return fmt.Errorf("reach agent at %s: %w; does it run? --lb names another one", target, text)
}

// write prints a message as JSON, or else what text makes of it.
func write(c *cli.Context, w io.Writer, m proto.Message, text func() error) error {
	if !command.JSON(c) {
		return text()
	}
	line, err := jsonLine(m)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if err := json.Indent(&b, line, "", "  "); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	b.WriteByte('\n')
	if _, err := b.WriteTo(w); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

// jsonLine returns a message in one line, with every field by the name that it has
// in admin.proto.
func jsonLine(m proto.Message) ([]byte, error) {
	data, err := protojson.MarshalOptions{UseProtoNames: true, EmitUnpopulated: true}.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("print: %w", err)
	}
	// The package puts blanks in at random, so that nobody relies on them.
	var b bytes.Buffer
	if err := json.Compact(&b, data); err != nil {
		return nil, fmt.Errorf("print: %w", err)
	}
	return b.Bytes(), nil
}

// print writes a line.
func printf(w io.Writer, format string, args ...any) error {
	if _, err := fmt.Fprintf(w, format, args...); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

// oneLine joins lines.
func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }
