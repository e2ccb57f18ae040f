package daemon

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"fairlead/testenv"
	"fairlead/testenv/stage"
	"fairlead/userspace/view"
)

// A supervisor is a service manager, as far as an agent knows one: it hears its main
// process by NOTIFY_SOCKET, and keeps descriptors for the next one.
type supervisor struct {
	t       *testing.T
	program string // what it starts: a link to this binary, until a test changes it
	socket  string
	opts    Options
	good    string   // a configuration
	greeter string   // the backend of its service tcp
	env     []string // more of it
	log     string   // file

	mu    sync.Mutex
	main  int // its main process
	ready int // how often that has said so
	kept  map[string]*os.File
}

// newSupervisor returns one that starts agents with these options.
func newSupervisor(t *testing.T, o Options) *supervisor {
	t.Helper()
	dir := t.TempDir()
	s := &supervisor{t: t, opts: o, program: filepath.Join(dir, "agent"), socket: filepath.Join(dir, "notify"), log: filepath.Join(dir, "log"), kept: map[string]*os.File{}}
	own, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s.install(own)
	// A successor's parent ends; the supervisor is to learn of its end all the same.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: s.socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	err = withFD(c, func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PASSCRED, 1) })
	if err != nil {
		t.Fatal(err)
	}
	var heard sync.WaitGroup
	heard.Go(func() { s.hear(c) })
	t.Cleanup(func() {
		if s.main != 0 {
			s.end(syscall.SIGKILL)
		}
		c.Close()
		heard.Wait()
		for _, f := range s.kept {
			f.Close()
		}
		if t.Failed() {
			t.Logf("the agents' log:\n%s", s.logged())
		}
	})
	return s
}

// install makes a program what is started from now on.
func (s *supervisor) install(program string) {
	s.t.Helper()
	temp := s.program + ".new"
	if err := errors.Join(os.Symlink(program, temp), os.Rename(temp, s.program)); err != nil {
		s.t.Fatal(err)
	}
}

// hear takes what is told, until c is closed.
func (s *supervisor) hear(c *net.UnixConn) {
	var data, more [4096]byte
	for {
		n, m, _, _, err := c.ReadMsgUnix(data[:], more[:])
		if err != nil {
			return
		}
		parts, err := unix.ParseSocketControlMessage(more[:m])
		if err != nil {
			s.t.Error(err)
		}
		var from *unix.Ucred
		var given *os.File
		for i := range parts {
			if fds, err := unix.ParseUnixRights(&parts[i]); err == nil && len(fds) == 1 {
				given = os.NewFile(uintptr(fds[0]), "kept")
			} else if cred, err := unix.ParseUnixCredentials(&parts[i]); err == nil {
				from = cred
			}
		}
		s.obey(int(from.Pid), strings.Split(string(data[:n]), "\n"), given)
	}
}

// obey does what the main process wants, as NotifyAccess=main has it.
func (s *supervisor) obey(pid int, lines []string, given *os.File) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if pid != s.main {
		given.Close() // nil is no descriptor
		return
	}
	told := map[string]string{}
	for _, line := range lines {
		key, value, _ := strings.Cut(line, "=")
		told[key] = value
	}
	if told["BARRIER"] == "1" {
		given.Close()
	}
	name := told["FDNAME"]
	if told["FDSTORE"] == "1" || told["FDSTOREREMOVE"] == "1" {
		if old := s.kept[name]; old != nil {
			old.Close()
		}
		delete(s.kept, name)
	}
	if told["FDSTORE"] == "1" {
		s.kept[name] = given
	}
	if told["MAINPID"] != "" {
		s.main, _ = strconv.Atoi(told["MAINPID"]) // 0 hears nobody
	}
	if told["READY"] == "1" {
		s.ready++
	}
}

// readies returns how often main processes have said that they are ready.
func (s *supervisor) readies() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ready
}

// launch starts an agent, with what is kept.
func (s *supervisor) launch() {
	s.t.Helper()
	o, err := json.Marshal(s.opts)
	if err != nil {
		s.t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	// The shell says which process the descriptors are for.
	cmd := exec.Command("/bin/sh", "-c", `export LISTEN_PID=$$; exec "$0"`, s.program)
	var names []string
	for name, f := range s.kept {
		names, cmd.ExtraFiles = append(names, name), append(cmd.ExtraFiles, f)
	}
	cmd.Env = append(append(os.Environ(), s.env...), childOptions+"="+string(o), "NOTIFY_SOCKET="+s.socket,
		"LISTEN_FDS="+fmt.Sprint(len(names)), "LISTEN_FDNAMES="+strings.Join(names, ":"))
	log, err := os.OpenFile(s.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		s.t.Fatal(err)
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.main = cmd.Process.Pid
	if err := cmd.Process.Release(); err != nil { // awaitEnd waits for it
		s.t.Fatal(err)
	}
}

// start starts an agent and waits until it is ready.
func (s *supervisor) start() {
	s.t.Helper()
	before := s.readies()
	s.launch()
	s.awaitReady(before)
}

// awaitReady waits until an agent has said once more that it is ready.
func (s *supervisor) awaitReady(before int) {
	s.t.Helper()
	stage.Await(s.t, "an agent to be ready", func() error {
		if s.readies() == before {
			return errors.New("not yet")
		}
		return nil
	})
}

// reload has a successor take over and returns the process that was the main one.
func (s *supervisor) reload() (was int) {
	s.t.Helper()
	was = s.pid()
	s.signal(syscall.SIGUSR2)
	stage.Await(s.t, "a successor", func() error {
		if s.pid() == was {
			return errors.New("not yet")
		}
		return nil
	})
	return was
}

// awaitView waits until the main process has published, and so has opened all that it
// listens on.
func (s *supervisor) awaitView() {
	s.t.Helper()
	stage.Await(s.t, "the view of the main process", func() error {
		v, err := view.Read(s.opts.RunDir)
		if err == nil && v.PID != s.pid() {
			err = fmt.Errorf("it is of process %d", v.PID)
		}
		return err
	})
}

// restart ends the main process and starts another one.
func (s *supervisor) restart() {
	s.t.Helper()
	s.stop()
	s.start()
}

func (s *supervisor) pid() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.main
}

func (s *supervisor) signal(sig syscall.Signal) {
	s.t.Helper()
	if err := syscall.Kill(s.pid(), sig); err != nil {
		s.t.Fatal(err)
	}
}

// stop ends the main process in good order.
func (s *supervisor) stop() {
	s.t.Helper()
	if status := s.end(syscall.SIGTERM); status.ExitStatus() != 0 {
		s.t.Errorf("agent ended with status %d", status.ExitStatus())
	}
}

// end sends the main process a signal and waits for its end.
func (s *supervisor) end(sig syscall.Signal) unix.WaitStatus {
	s.t.Helper()
	pid := s.pid()
	s.signal(sig)
	status := s.awaitEnd(pid)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.main == pid {
		s.main = 0
	}
	return status
}

// awaitEnd waits for the end of a process that is, or was, the main one.
func (s *supervisor) awaitEnd(pid int) (status unix.WaitStatus) {
	s.t.Helper()
	stage.Await(s.t, "the end of an agent", func() error {
		n, err := unix.Wait4(pid, &status, unix.WNOHANG, nil)
		if n == pid {
			return nil
		}
		return errors.Join(errors.New("it runs"), err) // or is the child of another one yet
	})
	return status
}

// awaitSuccessor waits until the process that comes after one that was killed serves,
// and is the main process without having said so.
func (s *supervisor) awaitSuccessor(was int) {
	s.t.Helper()
	testenv.AwaitNil(s.t, "the successor to serve", func() error {
		v, err := view.Read(s.opts.RunDir)
		if err != nil {
			return err
		}
		if v.PID == was || !v.Alive() {
			return fmt.Errorf("the view is of process %d", v.PID)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.main = v.PID
		return nil
	})
}

// crashPath returns the path of what [crashFile] names.
func (s *supervisor) crashPath() string {
	return filepath.Join(filepath.Dir(s.opts.Config), "crash")
}

// crash has who, itself or its parent, killed at a step of the next successor; nobody
// if who is "".
func (s *supervisor) crash(who, step string) {
	s.t.Helper()
	if err := os.WriteFile(s.crashPath(), []byte(who+" "+step), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// hold has a successor wait at a step, until release is called.
func (s *supervisor) hold(step string) (release func()) {
	s.t.Helper()
	s.crash("hold", step)
	s.signal(syscall.SIGUSR2)
	held := s.crashPath() + heldSuffix
	await(s.t, "the successor at "+step, func() bool { _, err := os.Stat(held); return err == nil })
	return func() {
		s.t.Helper()
		if err := os.Remove(held); err != nil {
			s.t.Fatal(err)
		}
	}
}

// logged returns what agents have logged.
func (s *supervisor) logged() string {
	text, err := os.ReadFile(s.log)
	if err != nil {
		s.t.Error(err)
	}
	return string(text)
}

// awaitLog waits until words are in the log more than so often, and returns how often
// they are.
func (s *supervisor) awaitLog(words string, more int) (times int) {
	s.t.Helper()
	stage.Await(s.t, "log of "+words, func() error {
		if times = strings.Count(s.logged(), words); times <= more {
			return fmt.Errorf("%d times", times)
		}
		return nil
	})
	return times
}

// listens reports whether somebody takes connections of TCP at an address.
func listens(address string) bool {
	c, err := net.Dial("tcp4", address)
	if err == nil {
		c.Close()
	}
	return !errors.Is(err, syscall.ECONNREFUSED)
}
