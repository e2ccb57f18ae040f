package testenv

import (
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// BPFFS returns an empty directory on a BPF file system of its own. The whole
// file system goes away with the test, with every pin in it; siblings of the
// directory are on it too.
func BPFFS(tb TB) string {
	tb.Helper()
	RequireRoot(tb)
	mount, err := os.MkdirTemp("", "fairlead-bpf-*")
	if err != nil {
		tb.Fatalf("make mount point: %v", err)
	}
	tb.Cleanup(func() { _ = os.Remove(mount) })
	if err := unix.Mount("bpf", mount, "bpf", 0, "mode=0700"); err != nil {
		tb.Fatalf("mount bpffs on %s: %v", mount, err)
	}
	tb.Cleanup(func() { _ = unix.Unmount(mount, unix.MNT_DETACH) })
	dir := filepath.Join(mount, "test")
	if err := os.Mkdir(dir, 0o700); err != nil {
		tb.Fatalf("make directory on bpffs: %v", err)
	}
	return dir
}
