package testenv

import (
	"errors"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"fairlead/testenv/leak"
)

// BPFFS returns an empty directory on a BPF file system of its own. The whole
// file system goes away with the test, with every pin in it; siblings of the
// directory are on it too. Where tests are looked at for leaks, nobody may hold
// afterwards what was pinned.
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
	tb.Cleanup(func() {
		leak.Note(tb, mount)
		// A mount namespace that was made meanwhile has the file system, too.
		entries, err := os.ReadDir(mount)
		errs := []error{err}
		for _, e := range entries {
			if e.IsDir() { // the rest is the kernel's own
				errs = append(errs, os.RemoveAll(filepath.Join(mount, e.Name())))
			}
		}
		if err := errors.Join(append(errs, unix.Unmount(mount, unix.MNT_DETACH))...); err != nil {
			tb.Fatalf("clear bpffs on %s: %v", mount, err)
		}
	})
	dir := filepath.Join(mount, "test")
	if err := os.Mkdir(dir, 0o700); err != nil {
		tb.Fatalf("make directory on bpffs: %v", err)
	}
	return dir
}
