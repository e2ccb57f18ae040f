package loader

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestRootPinsForTheUserOfTheDirectory asks whether an agent that is not root could
// go on with what root's commands have made.
func TestRootPinsForTheUserOfTheDirectory(t *testing.T) {
	b := newBench(t)
	const user = 4242
	if err := os.Chown(filepath.Dir(b.dir), user, user); err != nil {
		t.Fatal(err)
	}
	owned := func(after string) {
		t.Helper()
		pins := 0
		if err := filepath.WalkDir(b.dir, func(name string, _ fs.DirEntry, err error) error {
			var st unix.Stat_t
			if err == nil {
				err = unix.Lstat(name, &st)
			}
			if pins++; err == nil && (st.Uid != user || st.Gid != user) {
				t.Errorf("after %s %s belongs to %d:%d, want %d:%d", after, name, st.Uid, st.Gid, user, user)
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
		if pins < 10 {
			t.Errorf("after %s there are %d pins only", after, pins)
		}
	}
	b.attach(roleOptions("attach"), nil)
	owned("attach")
	b.detach("d1")
	owned("taking one out")
	b.attach(roleOptions("grow"), nil)
	owned("an upgrade")
}

func TestLockFileIsNoLink(t *testing.T) {
	b := newBench(t)
	elsewhere := filepath.Join(t.TempDir(), "precious")
	if err := os.WriteFile(elsewhere, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(RunDir, 0o755); err != nil {
		t.Fatal(err)
	}
	path := lockPath(b.dir, "lock")
	if err := os.Symlink(elsewhere, path); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(path) })
	if l, err := NewLock(t.Context(), b.dir); err == nil {
		l.Unlock()
		t.Error("a lock was taken through a link")
	}
	if got, err := os.ReadFile(elsewhere); err != nil || string(got) != "precious" {
		t.Errorf("the file behind the link has %q, %v", got, err)
	}
}
