package loader

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// The least kernel: managed neighbours, xdp.frags and bpf_link in the shape
// that the program and this package rely on.
const leastMajor, leastMinor = 6, 1

const bpffsMount = "/sys/fs/bpf"

// checkHost reports why nothing can be loaded here, if so.
func checkHost() error {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return fmt.Errorf("ask for kernel release: %w", err)
	}
	if err := checkKernel(unix.ByteSliceToString(u.Release[:])); err != nil {
		return err
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var caps [2]unix.CapUserData
	if err := unix.Capget(&header, &caps[0]); err != nil {
		return fmt.Errorf("ask for capabilities: %w", err)
	}
	return checkCapabilities(uint64(caps[1].Effective)<<32 | uint64(caps[0].Effective))
}

func checkKernel(release string) error {
	var major, minor int
	if _, err := fmt.Sscanf(release, "%d.%d", &major, &minor); err != nil {
		return fmt.Errorf("read kernel release %q: %w", release, err)
	}
	if major < leastMajor || major == leastMajor && minor < leastMinor {
		return fmt.Errorf("%w: this is %s, Fairlead needs %d.%d or later", ErrKernel, release, leastMajor, leastMinor)
	}
	return nil
}

func checkCapabilities(effective uint64) error {
	has := func(c int) bool { return effective&(1<<c) != 0 }
	if !has(unix.CAP_NET_ADMIN) {
		return ErrPrivileges
	}
	if !has(unix.CAP_SYS_ADMIN) && (!has(unix.CAP_BPF) || !has(unix.CAP_PERFMON)) {
		return ErrPrivileges
	}
	return nil
}

// checkDir mounts the BPF file system at its usual place if dir needs it, makes
// what is around DefaultDir, and reports why dir cannot hold pins, if so.
func checkDir(dir string) error {
	if strings.ContainsRune(filepath.Base(dir), '.') {
		return fmt.Errorf("use pin directory %s: a BPF file system allows no dot in a name", dir)
	}
	parent := filepath.Dir(dir)
	if parent == bpffsMount || dir == DefaultDir {
		if err := mountBPFFS(); err != nil {
			return err
		}
	}
	if dir == DefaultDir {
		if err := os.Mkdir(parent, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("use pin directory %s: %w", dir, err)
		}
	}
	on, err := onBPFFS(parent)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("use pin directory %s: %w", dir, err)
	}
	if err != nil {
		return err
	}
	if !on {
		return fmt.Errorf("use pin directory %s: %w; choose one in %s, or in another mount of type bpf", dir, ErrNoBPFFS, bpffsMount)
	}
	return nil
}

// mountBPFFS mounts a BPF file system at /sys/fs/bpf unless there is one.
func mountBPFFS() error {
	on, err := onBPFFS(bpffsMount)
	if err != nil || on {
		return err
	}
	if err := unix.Mount("bpf", bpffsMount, "bpf", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=0700"); err != nil {
		return fmt.Errorf("mount BPF file system on %s: %w", bpffsMount, err)
	}
	return nil
}

func onBPFFS(path string) (bool, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return false, &os.PathError{Op: "statfs", Path: path, Err: err}
	}
	return st.Type == unix.BPF_FS_MAGIC, nil
}

// exists reports whether there is a directory at path.
func exists(path string) (bool, error) {
	_, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if errors.Is(err, fs.ErrPermission) {
		return false, fmt.Errorf("open %s: %w", path, ErrPrivileges)
	}
	return err == nil, err
}
