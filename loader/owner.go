package loader

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// give makes path, and what is in it, the property of the user who owns the
// directory around it: what root makes is that user's agent's too. Without root, or
// where there is nothing, it does nothing.
func give(path string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	var around unix.Stat_t
	err := unix.Stat(filepath.Dir(path), &around)
	if err == nil && around.Uid != 0 {
		err = filepath.WalkDir(path, func(name string, _ fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			return os.Lchown(name, int(around.Uid), int(around.Gid))
		})
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("give %s to its user: %w", path, err)
	}
	return nil
}

// ownedByMe reports whether path belongs to the user of this process.
func ownedByMe(path string) bool {
	var st unix.Stat_t
	return unix.Stat(path, &st) == nil && int(st.Uid) == os.Geteuid()
}
