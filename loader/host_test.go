package loader

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"fairlead/testenv"
)

func TestKernelRelease(t *testing.T) {
	for release, want := range map[string]error{
		"6.1.0-40-cloud-amd64": nil, "6.18.44-fc-v595": nil, "7.2.1": nil, "10.0": nil,
		"6.0.19": ErrKernel, "5.15.0-91-generic": ErrKernel, "4.18.0": ErrKernel,
	} {
		if err := checkKernel(release); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", release, err, want)
		}
	}
}

func TestCapabilities(t *testing.T) {
	const admin, bpf, perf, sys = 1 << unix.CAP_NET_ADMIN, 1 << unix.CAP_BPF, 1 << unix.CAP_PERFMON, 1 << unix.CAP_SYS_ADMIN
	for _, tt := range []struct {
		name      string
		effective uint64
		want      error
	}{
		{"root has all", 1<<41 - 1, nil},
		{"the three", admin | bpf | perf, nil},
		{"CAP_SYS_ADMIN stands for two of them", admin | sys, nil},
		{"none", 0, ErrPrivileges},
		{"no CAP_PERFMON", admin | bpf, ErrPrivileges},
		{"no CAP_NET_ADMIN", bpf | perf | sys, ErrPrivileges},
	} {
		if err := checkCapabilities(tt.effective); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
}

func TestPinDirectoryMustBeOnBPFFS(t *testing.T) {
	if err := checkDir(filepath.Join(t.TempDir(), "lb")); !errors.Is(err, ErrNoBPFFS) {
		t.Errorf("directory on disk: %v, want ErrNoBPFFS", err)
	}
	if err := checkDir("/sys/fs/bpf/a.b"); err == nil || !strings.Contains(err.Error(), "no dot") {
		t.Errorf("name with a dot: %v", err)
	}
	if err := checkDir("/nowhere/lb"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("parent that does not exist: %v, want ErrNotExist", err)
	}
}

func TestBPFFSIsMountedWhereItIsMissing(t *testing.T) {
	testenv.RequireRoot(t)
	done := make(chan error)
	go func() {
		// Never unlocked: the thread, with mounts of its own, ends here.
		runtime.LockOSThread()
		done <- mountInPrivate()
	}()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// mountInPrivate mounts the BPF file system in a mount namespace without one.
func mountInPrivate() error {
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
		return err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	for unix.Unmount(bpffsMount, unix.MNT_DETACH) == nil {
	}
	if on, err := onBPFFS(bpffsMount); on || err != nil {
		return errors.Join(err, errors.New("still on a BPF file system"))
	}
	for range 2 { // the second time it is there
		if err := checkDir(DefaultDir); err != nil {
			return err
		}
	}
	on, err := onBPFFS(bpffsMount)
	if err == nil && !on {
		err = errors.New("not mounted")
	}
	return err
}

func TestWaitForPackets(t *testing.T) {
	testenv.RequireRoot(t)
	if err := WaitForPackets(); err != nil {
		t.Error(err)
	}
	if err := waitByMapOfMaps(); err != nil {
		t.Errorf("without membarrier: %v", err)
	}
}

func TestDirectoryOfSomebodyElseIsLeftAlone(t *testing.T) {
	b := newBench(t)
	elsewhere := *b
	elsewhere.dir = filepath.Join(t.TempDir(), "home")
	for _, path := range []string{filepath.Join(elsewhere.dir, "papers"), filepath.Join(b.dir, "theirs")} {
		if err := os.MkdirAll(path, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := elsewhere.tryAttach(two, nil); !errors.Is(err, ErrNoBPFFS) {
		t.Errorf("Attach in a directory on disk: %v, want ErrNoBPFFS", err)
	}
	if err := Detach(t.Context(), elsewhere.dir, nil); !errors.Is(err, ErrNoBPFFS) {
		t.Errorf("Detach of a directory on disk: %v, want ErrNoBPFFS", err)
	}
	for _, err := range []error{
		Detach(t.Context(), b.dir, nil),
		func() error { _, err := b.tryAttach(two, nil); return err }(),
	} {
		if err == nil || !strings.Contains(err.Error(), "theirs") {
			t.Errorf("directory with other pins: %v, want an error that names one", err)
		}
	}
	for _, path := range []string{filepath.Join(elsewhere.dir, "papers"), filepath.Join(b.dir, "theirs")} {
		if _, err := os.Stat(path); err != nil {
			t.Errorf("what was somebody else's is gone: %v", err)
		}
	}
	_ = os.Remove(lockPath(elsewhere.dir, "lock"))
}
