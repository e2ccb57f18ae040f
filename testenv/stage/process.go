package stage

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"fairlead/testenv"
)

// A Process is a program that runs on a host of the stage until its test ends.
type Process struct {
	tb   testenv.TB
	name string
	cmd  *exec.Cmd
	out  Output
	done chan struct{}
}

// endWait is how long a process may take to end by itself.
const endWait = 5 * time.Second

// Output collects what a process writes. It is safe for concurrent use.
type Output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *Output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

// String returns what was written so far.
func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// Command returns a command with the stage's settings in its environment, and
// nothing else of this process's but PATH. Ctrl-C at a terminal does not reach
// it: the stage ends it.
func (s *Stage) Command(program string, args ...string) *exec.Cmd {
	cmd := exec.Command(program, args...)
	cmd.Dir = s.Dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + s.Dir, "LC_ALL=C",
		"FAIRLEAD_CONFIG=" + s.ConfigPath, "FAIRLEAD_PIN_DIR=" + s.PinDir, "FAIRLEAD_RUN_DIR=" + s.RunDir,
		"FAIRLEAD_STATE_DIR=" + filepath.Join(s.Dir, "state"),
	}
	return cmd
}

// Start starts a program on a host. What it prints is logged if the test fails.
func (s *Stage) Start(h *testenv.Host, program string, args ...string) *Process {
	s.tb.Helper()
	return s.StartCommand(h, s.Command(program, args...))
}

// StartCommand is [Stage.Start] for a command that the caller has changed.
func (s *Stage) StartCommand(h *testenv.Host, cmd *exec.Cmd) *Process {
	s.tb.Helper()
	p := &Process{tb: s.tb, name: h.Name + ": " + filepath.Base(cmd.Path), cmd: cmd, done: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = &p.out, &p.out
	h.Start(s.tb, cmd)
	go func() {
		_ = cmd.Wait() // its result is in ProcessState
		close(p.done)
	}()
	s.tb.Cleanup(func() {
		p.end()
		if f, ok := s.tb.(interface{ Failed() bool }); ok && f.Failed() {
			s.tb.Logf("%s, %s, printed:\n%s", p.name, cmd.ProcessState, p.out.String())
		}
	})
	return p
}

// end lets the process end by itself, so that it leaves nothing behind, and
// kills it when it does not.
func (p *Process) end() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	_ = p.cmd.Process.Signal(syscall.SIGCONT) // a stopped one sees nothing else
	select {
	case <-p.done:
	case <-time.After(endWait):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

// PID returns the process's number.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Output returns what it has printed so far, on both streams.
func (p *Process) Output() string { return p.out.String() }

// AwaitOutput waits until it has printed text.
func (p *Process) AwaitOutput(text string) {
	p.tb.Helper()
	Await(p.tb, fmt.Sprintf("%s to print %q", p.name, text), func() error {
		if strings.Contains(p.Output(), text) {
			return nil
		}
		select {
		case <-p.done:
			p.tb.Fatalf("%s ended with %s before it printed %q:\n%s", p.name, p.cmd.ProcessState, text, p.Output())
		default:
		}
		return fmt.Errorf("it printed:\n%s", p.Output())
	})
}

// Signal sends it a signal.
func (p *Process) Signal(sig syscall.Signal) {
	p.tb.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		p.tb.Fatalf("send %s to %s: %v", sig, p.name, err)
	}
}

// Stop sends it a signal, waits for its end and returns its exit status, -1 if
// the signal killed it.
func (p *Process) Stop(sig syscall.Signal) int {
	p.tb.Helper()
	p.Signal(sig)
	return p.Wait()
}

// Kill kills it if it still runs, and waits for its end.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.done
}

// Wait waits for its end and returns its exit status, -1 if a signal killed it.
func (p *Process) Wait() int {
	p.tb.Helper()
	Await(p.tb, "the end of "+p.name, func() error {
		select {
		case <-p.done:
			return nil
		default:
			return errors.New("it runs")
		}
	})
	return p.cmd.ProcessState.ExitCode()
}

// A Result is what a program that has ended left.
type Result struct {
	Command        string
	Code           int
	Stdout, Stderr string
}

// Run runs a program on a host and waits for its end.
func (s *Stage) Run(h *testenv.Host, program string, args ...string) Result {
	s.tb.Helper()
	return s.RunCommand(h, s.Command(program, args...))
}

// RunCommand is [Stage.Run] for a command that the caller has changed.
func (s *Stage) RunCommand(h *testenv.Host, cmd *exec.Cmd) Result {
	s.tb.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	var exit *exec.ExitError
	if err := h.Run(cmd); err != nil && !errors.As(err, &exit) {
		s.tb.Fatalf("run %s: %v", cmd, err)
	}
	return Result{
		Command: filepath.Base(cmd.Path) + " " + strings.Join(cmd.Args[1:], " "),
		Code:    cmd.ProcessState.ExitCode(), Stdout: stdout.String(), Stderr: stderr.String(),
	}
}

// OK ends the test unless the program has ended with status 0, and returns
// what it wrote to standard output.
func (r Result) OK(tb testenv.TB) string {
	tb.Helper()
	if r.Code != 0 {
		tb.Fatalf("%s ended with status %d:\n%s%s", r.Command, r.Code, r.Stdout, r.Stderr)
	}
	return r.Stdout
}
