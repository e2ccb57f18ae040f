package command

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// Signals returns a context that SIGINT or SIGTERM ends. A second signal ends
// the process with the status that a shell gives to a process killed by it.
// The caller calls stop, which gives both signals back to the system.
func Signals(parent context.Context) (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancel(parent)
	got := make(chan os.Signal, 2)
	signal.Notify(got, syscall.SIGINT, syscall.SIGTERM)
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for first := true; ; first = false {
			select {
			case <-done:
				return
			case s := <-got:
				if n, ok := s.(syscall.Signal); ok && !first {
					os.Exit(128 + int(n))
				}
				cancel()
			}
		}
	}()
	return ctx, func() {
		signal.Stop(got)
		close(done)
		<-ended
		cancel()
	}
}
