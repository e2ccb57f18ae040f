package testenv

import (
	"bytes"
	"fmt"
	"os/exec"
	"syscall"
)

// Start starts cmd in the namespace. The process is killed and waited for at
// the end of the test, unless the test has waited for it, and dies with the
// test binary.
func (h *Host) Start(tb TB, cmd *exec.Cmd) {
	tb.Helper()
	if err := h.start(cmd); err != nil {
		tb.Fatalf("start %s on %s: %v", cmd.Path, h.Name, err)
	}
	tb.Cleanup(func() {
		if cmd.ProcessState == nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	})
}

// Run runs cmd in the namespace and waits for it, as [exec.Cmd.Run] does.
func (h *Host) Run(cmd *exec.Cmd) error {
	if err := h.start(cmd); err != nil {
		return fmt.Errorf("start %s on %s: %w", cmd.Path, h.Name, err)
	}
	return cmd.Wait()
}

// CombinedOutput runs cmd in the namespace and returns what it printed.
func (h *Host) CombinedOutput(cmd *exec.Cmd) ([]byte, error) {
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := h.Run(cmd)
	return out.Bytes(), err
}

// start runs cmd.Start on the thread that lives as long as the host: a child
// inherits its parent thread's namespace, and the death signal comes when
// that thread ends.
func (h *Host) start(cmd *exec.Cmd) error {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	done := make(chan error, 1)
	h.starts <- func() { done <- cmd.Start() }
	return <-done
}
