package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"fairlead/testenv"
	"fairlead/testenv/stage"
)

var (
	compatBlock = regexp.MustCompile("(?s)```(sh|yaml)\n(.*?)```")
	compatTitle = regexp.MustCompile(`(?m)^## (.*)$`)
)

// TestCommandLinesOfSmallBalancers runs what docs/compat.md lists.
func TestCommandLinesOfSmallBalancers(t *testing.T) {
	text, err := os.ReadFile("../../docs/compat.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := 0
	parts := compatTitle.Split(string(text), -1)[1:]
	for i, title := range compatTitle.FindAllStringSubmatch(string(text), -1) {
		var file string
		for _, block := range compatBlock.FindAllStringSubmatch(parts[i], -1) {
			if block[1] == "yaml" {
				file = block[2]
				continue
			}
			rows++
			t.Run(title[1], func(t *testing.T) { runCompat(t, file, block[2]) })
		}
	}
	if rows < 6 {
		t.Errorf("%d rows", rows)
	}
}

// runCompat runs the lines of a block on a host of its own.
func runCompat(t *testing.T, file, lines string) {
	s := stage.New(t, stage.Options{RigOptions: testenv.RigOptions{Backends: 1}, Programs: programs})
	if err := os.WriteFile(filepath.Join(s.Dir, "fairlead.yaml"), []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	var jobs []*stage.Process
	command := func(name string, args ...string) *exec.Cmd {
		cmd := s.Command(name, args...)
		cmd.Env = []string{
			"PATH=" + filepath.Dir(programs.Fairlead) + ":" + os.Getenv("PATH"), "HOME=" + s.Dir, "LC_ALL=C",
			"FAIRLEAD_RUN_DIR=" + s.RunDir, "FAIRLEAD_PIN_DIR=" + s.PinDir, "FAIRLEAD_STATE_DIR=off",
		}
		return cmd
	}
	for line := range strings.Lines(lines) {
		line = strings.TrimSpace(line)
		asked, want, _ := strings.Cut(line, " # ")
		started, background := strings.CutSuffix(line, " &")
		switch {
		case background:
			jobs = append(jobs, s.StartCommand(s.Balancer, command("env", strings.Fields(started)...)))
		case line == "kill %1":
			jobs[0].Stop(syscall.SIGTERM)
		default:
			answersShow(t, want, func() string { return s.RunCommand(s.Balancer, command("sh", "-c", asked)).Stdout })
		}
	}
}

// answersShow waits until answers have had all of want, or "only" that for a while.
func answersShow(t *testing.T, want string, ask func() string) {
	t.Helper()
	if only, ok := strings.CutPrefix(want, "only "); ok {
		row := 0
		stage.Await(t, want, func() error {
			answer := ask()
			if row++; !strings.Contains(answer, only) {
				row = 0
			}
			if row < 10 {
				return fmt.Errorf("%d in a row, then: %s", row, answer)
			}
			return nil
		})
		return
	}
	missing := strings.Split(want, ", ")
	stage.Await(t, want, func() error {
		answer := ask()
		left := missing[:0]
		for _, part := range missing {
			if !strings.Contains(answer, part) {
				left = append(left, part)
			}
		}
		if missing = left; len(missing) > 0 {
			return fmt.Errorf("nothing of %q in: %s", missing, answer)
		}
		return nil
	})
}
