package health

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"fairlead/testenv"
	"fairlead/userspace/model"
)

func TestProbeExec(t *testing.T) {
	for _, tt := range []struct {
		name    string
		command []string
		timeout time.Duration
		want    string
	}{
		{"status 0", []string{"true"}, long, ""},
		{"status 1", []string{"false"}, long, "exit status 1"},
		{"what it said", []string{"sh", "-c", "echo out; echo err >&2; sleep 0.5; exit 7"}, long, `exit status 7: "out\nerr"`},
		{"its backend", []string{"sh", "-c", `test "$FAIRLEAD_ADDRESS $FAIRLEAD_PORT" = "192.0.2.7 8080"`}, long, ""},
		{"much output", []string{"sh", "-c", "yes | head -c 1000000; sleep 0.5; exit 3"}, long, `exit status 3: "y\ny\n`},
		{"much output and status 0", []string{"sh", "-c", "yes | head -c 1000000"}, long, ""},
		{"input is at its end", []string{"cat"}, long, ""},
		{"no such program", []string{"/no/such/program"}, long, "no such file"},
		{"no command", nil, long, "there is none"},
		{"too slow", []string{"sleep", "1000"}, short, "not done within 100ms"},
		{"something left behind that holds the output", []string{"sh", "-c", "sleep 1000 & exit 0"}, long, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			check := model.Check{Type: model.CheckExec, Command: tt.command, Timeout: tt.timeout}
			err := run(t, "192.0.2.7:8080", check)
			expect(t, err, tt.want)
			if err != nil && len(err.Error()) > 2*maxError+200 {
				t.Errorf("%d bytes of error", len(err.Error()))
			}
		})
	}
}

// TestProbeExecKillsAll has commands with children and wants none to live on.
func TestProbeExecKillsAll(t *testing.T) {
	for _, tt := range []struct {
		name, script, want string
	}{
		{"when time is up", "sleep 1000 & echo $! >$OUT.new; mv $OUT.new $OUT; wait", "killed"},
		{"when it ends", "sleep 1000 & echo $! >$OUT.new; mv $OUT.new $OUT", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "pid")
			t.Setenv("OUT", out)
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error)
			go func() {
				check := model.Check{Type: model.CheckExec, Command: []string{"sh", "-c", tt.script}}
				ended <- probe(ctx, Target{Check: check})
			}()
			var text []byte
			await(t, "the child's number", func() bool {
				var err error
				text, err = os.ReadFile(out)
				return err == nil
			})
			if tt.want != "" {
				cancel()
			}
			expect(t, <-ended, tt.want)
			cancel()
			pid := strings.TrimSpace(string(text))
			await(t, "the death of "+pid, func() bool {
				stat, err := os.ReadFile("/proc/" + pid + "/stat")
				return err != nil || strings.Contains(string(stat), ") Z ") // its new parent has yet to bury it
			})
		})
	}
	var status syscall.WaitStatus
	if pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil); !errors.Is(err, syscall.ECHILD) {
		t.Errorf("wait: %d, %v, want no child left", pid, err)
	}
}

// await waits until a condition holds.
var await = testenv.Await
