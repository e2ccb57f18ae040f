package command

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// waitForSignals is the process that the test sends signals to.
func waitForSignals() {
	ctx, stop := Signals(context.Background())
	defer stop()
	fmt.Println("ready")
	<-ctx.Done()
	fmt.Println("first")
	select {} // a second one is to end this
}

func TestASecondSignalEndsTheProcess(t *testing.T) {
	for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		t.Run(s.String(), func(t *testing.T) {
			c := exec.CommandContext(t.Context(), os.Args[0])
			c.Env = append(os.Environ(), "COMMAND_TEST_SIGNALS=1")
			out, err := c.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := c.Start(); err != nil {
				t.Fatal(err)
			}
			lines := bufio.NewScanner(out)
			for _, want := range []string{"ready", "first"} {
				if !lines.Scan() || lines.Text() != want {
					t.Errorf("line %q, want %q", lines.Text(), want)
				}
				if err := c.Process.Signal(s); err != nil {
					t.Error(err)
				}
			}
			var exit *exec.ExitError
			if err := c.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 128+int(s) {
				t.Errorf("%v, want status %d", err, 128+int(s))
			}
		})
	}
}

func TestStopEndsTheContext(t *testing.T) {
	ctx, stop := Signals(t.Context())
	stop()
	if ctx.Err() == nil {
		t.Error("the context goes on")
	}
}
