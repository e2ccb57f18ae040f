package sandbox

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"fairlead/testenv/leak"
)

// childDir is the environment variable that makes the test binary a process that
// enters the sandbox: nobody comes out of it.
const childDir = "FAIRLEAD_SANDBOX_CHILD"

// childWithout makes it one on a kernel without Landlock.
const childWithout = "FAIRLEAD_SANDBOX_WITHOUT"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		if err := play(dir); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if os.Getenv(childWithout) != "" {
		if err := playWithout(); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(leak.Each(m).Run())
}

// errNone stands for no error.
var errNone = errors.New("nothing")

// play tries things before and inside the sandbox, and says what went otherwise than
// it should.
func play(dir string) error {
	in := func(names ...string) string { return filepath.Join(append([]string{dir}, names...)...) }
	for _, p := range []string{"read", "write/a", "write/b", "secret"} {
		if err := os.MkdirAll(in(p), 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(in(p, "file"), []byte("x"), 0o700); err != nil {
			return err
		}
	}
	for _, try := range trials(in) {
		if err := try.do(); err != nil && !errors.Is(try.want, unix.EPERM) {
			return fmt.Errorf("%s, outside: %w", try.name, err)
		}
	}
	// A thread from before, which Go's own tools would not find.
	others, done := make(chan trial), make(chan error)
	go func() {
		runtime.LockOSThread()
		for try := range others {
			done <- try.do()
		}
	}()
	system := []string{"/usr", "/bin", "/lib", "/lib64", "/proc", in("read"), in("nothing")}
	if err := Enter(Paths{Read: system, Write: []string{in("write"), "/dev/null"}}); err != nil {
		return err
	}
	var wrong []error
	for _, try := range trials(in) {
		others <- try
		for _, err := range []error{<-done, try.do()} {
			if !errors.Is(err, try.want) {
				wrong = append(wrong, fmt.Errorf("%s: %w, want %w", try.name, cmp.Or(err, errNone), cmp.Or(try.want, errNone)))
			}
		}
	}
	return errors.Join(wrong...)
}

// A trial is something that a process may try.
type trial struct {
	name string
	do   func() error
	want error // in the sandbox; nil is none
}

func trials(in func(...string) string) []trial {
	read := func(path string) func() error {
		return func() error {
			_, err := os.ReadFile(path)
			return err
		}
	}
	write := func(path string) func() error {
		return func() error { return os.WriteFile(path, []byte("y"), 0o700) }
	}
	run := func(flags uintptr, command ...string) func() error {
		return func() error {
			cmd := exec.Command(command[0], command[1:]...)
			cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags}
			return cmd.Run()
		}
	}
	return []trial{
		{"read what may be read", read(in("read", "file")), nil},
		{"write what may be read", write(in("read", "file")), fs.ErrPermission},
		{"make a file among them", write(in("read", "fresh")), fs.ErrPermission},
		{"write what may be written", write(in("write", "a", "file")), nil},
		{"read it", read(in("write", "a", "file")), nil},
		{"rename it between directories", func() error {
			return errors.Join(os.Rename(in("write", "a", "file"), in("write", "b", "other")), os.Rename(in("write", "b", "other"), in("write", "a", "file")))
		}, nil},
		{"read a secret", read(in("secret", "file")), fs.ErrPermission},
		{"list secrets", func() error {
			_, err := os.ReadDir(in("secret"))
			return err
		}, fs.ErrPermission},
		{"run a command", run(0, "/bin/true"), nil},
		{"have a command read a secret", func() error {
			if run(0, "/bin/cat", in("secret", "file"))() != nil {
				return fs.ErrPermission
			}
			return nil
		}, fs.ErrPermission},
		{"run a command in a user namespace", run(unix.CLONE_NEWUSER, "/bin/true"), unix.EPERM},
		{"leave a namespace", func() error { return unix.Unshare(0) }, unix.EPERM},
		{"look into a process", func() error { return unix.PtraceAttach(os.Getpid() + 1<<22) }, unix.EPERM},
		{"mount", func() error { return unix.Mount("none", in("write"), "tmpfs", 0, "no=such") }, unix.EPERM},
	}
}

func TestSandbox(t *testing.T) {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), childDir+"="+t.TempDir())
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v:\n%s", err, out)
	}
}

// playWithout enters the sandbox where a filter has the kernel look like one without
// Landlock: the other part must hold.
func playWithout() error {
	none := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: atNumber},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_LANDLOCK_CREATE_RULESET, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	if err := install(none); err != nil {
		return err
	}
	if err := Enter(Paths{}); !errors.Is(err, ErrKernel) || !strings.HasPrefix(err.Error(), "landlock: ") {
		return fmt.Errorf("without Landlock: %w", cmp.Or(err, errNone))
	}
	if _, err := os.ReadFile("/proc/self/stat"); err != nil {
		return err
	}
	if err := unix.Unshare(0); !errors.Is(err, unix.EPERM) {
		return fmt.Errorf("leave a namespace: %w", cmp.Or(err, errNone))
	}
	return nil
}

func TestSandboxWithoutLandlock(t *testing.T) {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), childWithout+"=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v:\n%s", err, out)
	}
}
