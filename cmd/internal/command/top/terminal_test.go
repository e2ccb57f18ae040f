package top

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"fairlead/cmd/internal/command"
	"fairlead/testenv"
	"fairlead/userspace/kernel"
)

// childRole makes the test binary play a user's top on the terminal it gets.
const childRole = "FAIRLEAD_TOP_CHILD"

func child() int {
	start := time.Now()
	look := func(string) (*kernel.View, error) {
		return countedAt(uint64(time.Since(start).Seconds()), time.Now()), nil
	}
	app := command.App("prog", "test", os.Stdout, os.Stderr, Command(look, time.Now, nowhere))
	os.Args = []string{"prog", "top", "--run-dir", "/nonexistent", "--interval", "100ms"}
	return command.Main(app)
}

// A console is the other end of a terminal, on which a top runs.
type console struct {
	t      *testing.T
	master *os.File
	user   *os.File // the terminal itself
	cmd    *exec.Cmd
	before unix.Termios
	mu     sync.Mutex
	shown  strings.Builder
	read   chan struct{}
}

func newConsole(t *testing.T) *console {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	c := &console{t: t, master: master, read: make(chan struct{})}
	n := 0
	c.control(master, func(fd int) error {
		if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
			return err
		}
		n, err = unix.IoctlGetInt(fd, unix.TIOCGPTN)
		return err
	})
	if c.user, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		t.Fatal(err)
	}
	c.resize(80, 24)
	c.before = c.settings()
	c.cmd = exec.Command(os.Args[0])
	c.cmd.Env = append(os.Environ(), childRole+"=1")
	c.cmd.Stdin, c.cmd.Stdout, c.cmd.Stderr = c.user, c.user, c.user
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Pdeathsig: syscall.SIGKILL}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go c.watch()
	t.Cleanup(func() {
		_ = c.cmd.Process.Kill() // it may have ended
		_ = c.cmd.Wait()
		_ = c.user.Close()
		_ = c.master.Close()
		<-c.read
	})
	return c
}

func (c *console) watch() {
	defer close(c.read)
	buf := make([]byte, 4096)
	for {
		n, err := c.master.Read(buf)
		c.mu.Lock()
		c.shown.Write(buf[:n])
		c.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (c *console) control(f *os.File, do func(fd int) error) {
	c.t.Helper()
	raw, err := f.SyscallConn()
	if err == nil {
		var derr error
		err = errors.Join(raw.Control(func(fd uintptr) { derr = do(int(fd)) }), derr)
	}
	if err != nil {
		c.t.Fatal(err)
	}
}

func (c *console) resize(width, height uint16) {
	c.t.Helper()
	c.control(c.user, func(fd int) error {
		return unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Col: width, Row: height})
	})
}

func (c *console) settings() (s unix.Termios) {
	c.t.Helper()
	c.control(c.user, func(fd int) error {
		have, err := unix.IoctlGetTermios(fd, unix.TCGETS)
		if err == nil {
			s = *have
		}
		return err
	})
	return s
}

// await waits until the text appears, and forgets all up to there.
func (c *console) await(text string) {
	c.t.Helper()
	testenv.AwaitNil(c.t, "the screen", func() error {
		c.mu.Lock()
		defer c.mu.Unlock()
		shown := c.shown.String()
		_, after, ok := strings.Cut(shown, text)
		if !ok {
			return fmt.Errorf("no %q in %q", text, shown)
		}
		c.shown.Reset()
		c.shown.WriteString(after)
		return nil
	})
}

func (c *console) press(keys string) {
	c.t.Helper()
	if _, err := c.master.WriteString(keys); err != nil {
		c.t.Fatal(err)
	}
}

// wantEnd wants the program to end by itself and to leave the terminal as it was.
func (c *console) wantEnd() {
	c.t.Helper()
	c.await(leave)
	if err := c.cmd.Wait(); err != nil {
		c.t.Errorf("top ended with %v", err)
	}
	if now := c.settings(); now != c.before {
		c.t.Errorf("settings of the terminal are %+v, were %+v", now, c.before)
	}
}

func TestTheTerminalIsDrawnAndLeftAsItWas(t *testing.T) {
	for _, row := range []struct {
		name string
		end  func(c *console)
	}{
		{"q", func(c *console) { c.press("q") }},
		{"Ctrl-C", func(c *console) { c.press("\x03") }},
		{"SIGTERM", func(c *console) { _ = c.cmd.Process.Signal(syscall.SIGTERM) }},
	} {
		t.Run(row.name, func(t *testing.T) {
			c := newConsole(t)
			c.await(enter)
			c.await("by name")
			c.await("B/S OUT")
			c.press("b")
			c.await("by bytes")
			c.resize(40, 10)
			c.await("…") // the head does not fit
			row.end(c)
			c.wantEnd()
		})
	}
}
