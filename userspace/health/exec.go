package health

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"
)

// lastWords is how long a command's output is waited for once it has ended or
// was killed; who then still holds it open is not heard.
const lastWords = 100 * time.Millisecond

// probeExec runs the check's command, with the backend in FAIRLEAD_ADDRESS and
// FAIRLEAD_PORT (0 if there is none). It is healthy when its status is 0.
//
// The command leads a process group of its own, which is killed when time is
// up, and when the command ends, should it have left something running.
func probeExec(ctx context.Context, t Target) error {
	if len(t.Check.Command) == 0 {
		return errors.New("run command: there is none")
	}
	var out output
	cmd := exec.CommandContext(ctx, t.Check.Command[0], t.Check.Command[1:]...)
	cmd.Env = append(os.Environ(),
		"FAIRLEAD_ADDRESS="+t.Address.Addr().String(),
		"FAIRLEAD_PORT="+strconv.Itoa(int(t.Address.Port())))
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return killGroup(cmd.Process.Pid) }
	cmd.WaitDelay = lastWords

	if err := cmd.Start(); err != nil {
		return fmt.Errorf("run command: %w", err)
	}
	err := cmd.Wait()
	// While anything of the group lives its number is not given away; when
	// nothing does, numbers would have to wrap around before this line.
	_ = killGroup(cmd.Process.Pid)
	if err == nil || (errors.Is(err, exec.ErrWaitDelay) && cmd.ProcessState.Success()) {
		return nil
	}
	if len(out) > 0 {
		return fmt.Errorf("run command: %w: %s", err, quote(out))
	}
	return fmt.Errorf("run command: %w", err)
}

// killGroup kills every process of a group.
func killGroup(leader int) error {
	err := syscall.Kill(-leader, syscall.SIGKILL)
	if errors.Is(err, syscall.ESRCH) {
		return os.ErrProcessDone
	}
	return err
}

// output keeps the first bytes that are written to it.
type output []byte

// Write keeps what there is room for and swallows the rest.
func (o *output) Write(p []byte) (int, error) {
	room := maxError - len(*o)
	*o = append(*o, p[:min(room, len(p))]...)
	return len(p), nil
}
