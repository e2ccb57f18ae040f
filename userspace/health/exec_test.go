package health

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

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
		{"what it said", []string{"sh", "-c", "echo out; echo err >&2; exit 7"}, long, `exit status 7: "out\nerr"`},
		{"its backend", []string{"sh", "-c", `test "$FAIRLEAD_ADDRESS $FAIRLEAD_PORT" = "192.0.2.7 8080"`}, long, ""},
		{"endless output", []string{"sh", "-c", "yes; true"}, short, "y"},
		{"much output and status 0", []string{"sh", "-c", "yes | head -c 1000000"}, long, ""},
		{"input is at its end", []string{"cat"}, long, ""},
		{"no such program", []string{"/no/such/program"}, long, "no such file"},
		{"no command", nil, long, "there is none"},
		{"too slow", []string{"sleep", "1000"}, short, "not done within 100ms: run command: signal: killed"},
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
		timeout            time.Duration
	}{
		{"at the timeout", "sleep 1000 & echo $! >$OUT; wait", "not done", 2 * time.Second},
		{"at its end", "sleep 1000 & echo $! >$OUT", "", long},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "pid")
			t.Setenv("OUT", out)
			check := model.Check{Type: model.CheckExec, Command: []string{"sh", "-c", tt.script}, Timeout: tt.timeout}
			expect(t, run(t, "192.0.2.7:8080", check), tt.want)
			text, err := os.ReadFile(out)
			if err != nil {
				t.Fatal(err)
			}
			pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
			if err != nil {
				t.Fatal(err)
			}
			awaitDeath(t, pid)
		})
	}
	var status syscall.WaitStatus
	if pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil); !errors.Is(err, syscall.ECHILD) {
		t.Errorf("wait: %d, %v, want no child left", pid, err)
	}
}

// awaitDeath waits until a process is gone, or a zombie that its new parent
// has yet to bury.
func awaitDeath(t *testing.T, pid int) {
	t.Helper()
	deadline := time.Now().Add(long)
	for {
		stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		if err != nil || strings.Contains(string(stat), ") Z ") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("process %d lives: %s", pid, stat)
		}
		time.Sleep(time.Millisecond)
	}
}
