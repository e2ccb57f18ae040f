package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"fairlead/register"
)

// signOfLife is how often a balancer hears of this server, times three.
const signOfLife = 10 * time.Second

// registration returns how to register at a balancer, nil if url is "". The token
// is the contents of file.
func registration(url, file string, port int, errOut io.Writer) (*register.Options, error) {
	switch {
	case url == "" && file == "":
		return nil, nil
	case url == "":
		return nil, fmt.Errorf("%w: --token-file goes with --register; try dummyserver --help", errUsage)
	case file == "":
		return nil, fmt.Errorf("%w: --register needs --token-file; try dummyserver --help", errUsage)
	}
	token, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("%w: read token: %w", errUsage, err)
	}
	return &register.Options{
		URL: url, Token: strings.TrimSpace(string(token)), Address: fmt.Sprintf(":%d", port), TTL: signOfLife,
		Failed: func(err error) { fmt.Fprintln(errOut, "dummyserver:", err) },
	}, nil
}

// runRegistered is [server.run] while the server is registered at a balancer: it
// leaves before it ends. A balancer that refuses it ends it.
func (s *server) runRegistered(ctx context.Context, o *register.Options) error {
	served, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	registered, leave := context.WithCancel(ctx)
	defer leave()
	ended := make(chan error, 1)
	go func() {
		ended <- s.run(served)
		leave()
	}()
	err := register.Keep(registered, *o)
	stop()
	return errors.Join(err, <-ended)
}
