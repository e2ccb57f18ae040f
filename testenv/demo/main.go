// Command demo shows the balancer at work: three servers, a client and the
// balancer in network namespaces of their own, on this machine, within half a
// minute. It leaves nothing behind, also when it is interrupted.
//
// It is no test: it shows what the end-to-end tests assert.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"fairlead/testenv/stage"
)

func main() {
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "demo: making network namespaces and loading BPF needs root: run sudo make demo")
		os.Exit(1)
	}
	os.Exit(perform(play))
}

// perform runs f, ends it when a signal comes, cleans up and returns the exit
// status.
func perform(f func(*theatre)) int {
	// SIGPIPE is whoever reads the output and stops.
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	t := &theatre{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		f(t)
	}()
	code := 0
	select {
	case <-done:
	case s := <-signals:
		fmt.Printf("\nInterrupted (%s).\n", s)
		if n, ok := s.(syscall.Signal); ok {
			code = 128 + int(n)
		}
		t.interrupt(done)
	}
	t.cleanUp()
	if code == 0 && t.failed.Load() {
		code = 1
	}
	return code
}

// findPrograms returns the programs beside this one, or builds them, as go run
// puts this one into a place of its own.
func findPrograms(t *theatre) stage.Programs {
	self, err := os.Executable()
	if err != nil {
		t.Fatalf("find this program: %v", err)
	}
	p, err := stage.In(filepath.Dir(self))
	if !errors.Is(err, os.ErrNotExist) {
		return p
	}
	dir, err := os.MkdirTemp("", "fairlead-programs-*")
	if err != nil {
		t.Fatalf("make directory: %v", err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if p, err = stage.Build(dir); err != nil {
		t.Fatalf("%v", err)
	}
	return p
}
